#!/bin/sh
# A stock kernel, a small one and a small one with pvkit's patches on pvkit's machine: what it takes them to user space; then
# what the patches are there for.
. ./words.sh
mkdir -p "$SCRATCH/mnt"
patched=guests/boot/6.1-pvkit
words="panic=-1 mitigations=off pvkit_limit=60"

# boots NAME CONSOLE ARGUMENT...: runs the guest NAME to its end; its console is in $RESULTS/NAME.log.
boots() {
    name=$1
    log=$RESULTS/$name.log
    line=$2
    shift 2
    timeout -s KILL 90 ./pvkit run --memory 256M --stats --cmdline "$line" "$@" >"$log" 2>&1 </dev/null
}

root() {
    cp $patched/root.img "$SCRATCH/root.img"
    echo "--kernel $patched/vmlinuz --disk $SCRATCH/root.img --console stdio"
}

cost() {
    echo "scenario: $1: $(sed -n 's/.*up after \(.*\)/user space after \1/p' "$RESULTS/$1.log" | tr -d '\r'); $(grep 'KVM statistics' "$RESULTS/$1.log" |
        tr ',' '\n' | sed 's/.*: //' | grep -E '^ *(exits|io_exits|mmio_exits) ' | tr '\n' ',')"
}

round=0
while [ $round -lt "${ROUNDS:-3}" ]; do
    for mode in quiet loud; do
        loud=loglevel=7
        [ $mode = loud ] || loud=quiet
        for kernel in 6.1-cloud 6.1-small; do
            name=$kernel-$mode-$round
            boots "$name" "console=ttyS0 $loud $words" --kernel "guests/boot/$kernel/vmlinuz" \
                --initramfs "guests/boot/$kernel/initramfs" || { tail -n 30 "$log"; fail "$name: status $?"; }
            says "$log" 'pvkit-init: status 0'
            cost "$name"
        done
        name=6.1-pvkit-$mode-$round
        boots "$name" "console=pvc0 earlyprintk=pvkit root=/dev/pvda rw $loud $words" $(root) ||
            { tail -n 30 "$log"; fail "$name: status $?"; }
        says "$log" 'pvkit-init: status 0'
        cost "$name"
    done
    round=$((round + 1))
done

# Its first words came by hypercall: before there is a bus, and before there are consoles.
early=$RESULTS/6.1-pvkit-loud-0.log
says "$early" 'Linux version 6.1'
says "$early" 'pvkit: host with ABI 0.1, hypercalls by port 0xa50'
says "$early" 'bootconsole \[earlypvkit0\] disabled'

# Files on the root are on the host's image, and the file system is whole.
boots files "console=pvc0 root=/dev/pvda rw quiet $words pvkit_task=files" $(root) --net user ||
    { tail -n 30 "$log"; fail "files: status $?"; }
says "$log" 'pvkit-init: status 0'
sum=$(sed -n 's/^\([0-9a-f]\{64\}\)  \/kept.*/\1/p' "$log")
mount -o loop,ro "$SCRATCH/root.img" "$SCRATCH/mnt" || fail "the root does not mount here"
[ "$(sha256sum <"$SCRATCH/mnt/kept")" = "$sum  -" ] || fail "the root's files are not what the guest wrote"
umount "$SCRATCH/mnt"
echo "scenario: files: $sum on both sides"

# A restart by hypercall, in place.
boots again "console=pvc0 root=/dev/pvda rw quiet $words pvkit_task=again" $(root) ||
    { tail -n 30 "$log"; fail "again: status $?"; }
says "$log" 'the first start'
says "$log" 'the second start'
echo "scenario: again: started twice"

# A panic ends the run, with the reason; one whose kernel is to start again (panic=) does not.
boots crash "console=pvc0 earlyprintk=pvkit root=/dev/none rw mitigations=off" $(root)
status=$?
[ $status -ne 0 ] && [ $status -ne 137 ] || { tail -n 30 "$log"; fail "crash: status $status"; }
says "$log" 'guest crashed.*VFS: Unable to mount root fs'
echo "scenario: crash: status $status, $(grep -o 'guest crashed.*' "$log")"
