#!/bin/sh
# The stock kernels with pvkit's modules as guests of pvkit: what the scripts about disks and about networks share.
. ./words.sh
disk=$SCRATCH/disk

# guest KERNEL CASE WORDS..: starts one; its output is in $log.
start() {
    kernel=$1 case=$2
    shift 2
    log=$RESULTS/$kernel-$case.log
    rm -f "$log"
    ./pvkit run ${once---no-reboot} --kernel "guests/module/$kernel/vmlinuz" --initramfs "guests/module/$kernel/initramfs" --memory 256M --stats \
        --serial "file=$log" --disk path=tools.img,readonly=on --net ${net:-user} \
        --cmdline "console=ttyS0 quiet panic=-1 mitigations=off pvkit_limit=${limit:-380} pvkit_case=$case $more" "$@" \
        >"$RESULTS/$kernel-$case.pvkit.log" 2>&1 <"${input:-/dev/null}" &
    pid=$!
    # A watchdog for a guest that hangs.
    (sleep $((${limit:-380} + 20)) && kill -KILL $pid) 2>/dev/null &
    dog=$!
}

ended() {
    wait $pid || { tail -n 30 "$log" "$RESULTS/$kernel-$case.pvkit.log"; fail "$kernel: $case: pvkit ended with status $?"; }
    kill $dog 2>/dev/null
    says "$log" 'pvkit-init: status 0'
    echo "scenario: $kernel $case: done at $(cut -d' ' -f1 /proc/uptime) s"
}

run() {
    start "$@"
    ended
}

# The same files, seen by this machine's kernel on the image itself.
same_files() {
    mkdir -p "$SCRATCH/mnt"
    mount -t ext4 -o ro,loop "$disk" "$SCRATCH/mnt" || fail "the image has no file system"
    (cd "$SCRATCH/mnt" && sha256sum file*) >"$SCRATCH/here"
    umount "$SCRATCH/mnt"
    sed -n 's/^SUM //p' "$1" | tr -d '\r' >"$SCRATCH/there"
    [ -s "$SCRATCH/there" ] && cmp "$SCRATCH/here" "$SCRATCH/there" || fail "the image holds other files than the guest wrote"
}

# says_within FILE WORDS: waits for them.
says_within() {
    rounds=0
    until grep -q -e "$2" "$1" 2>/dev/null; do
        rounds=$((rounds + 1))
        [ $rounds -lt 900 ] || { tail -n 30 "$1"; fail "$1 never said: $2"; }
        sleep 0.1
    done
}

fresh() { rm -f "$disk"; truncate -s 64M "$disk"; }
