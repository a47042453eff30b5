#!/bin/sh
# What comparing pvkit with QEMU's virtio needs: counters of a guest between its marks.
. ./words.sh
cmdline="console=ttyS0 quiet panic=-1 mitigations=off pvkit_limit=400"

# How often a guest left for which reason, as exit_REASON=count: a histogram of KVM's own trace point.
trace=/sys/kernel/debug/tracing/events/kvm/kvm_exit
echo 'hist:keys=exit_reason' >$trace/trigger 2>/dev/null
reasons() {
    now=$(sed -n 's/^{ exit_reason: *\([0-9]*\) } hitcount: *\([0-9]*\).*/exit_\1=\2/p' $trace/hist 2>/dev/null | tr '\n' ' ')
}

# watch NAME PID LOG: a line of counters for each MARK of the guest, until it has ended.
watch() {
    seen=0
    while kill -0 "$2" 2>/dev/null; do
        marks=$(grep -c '^MARK' "$3" 2>/dev/null)
        if [ "${marks:-0}" -gt $seen ]; then
            seen=$marks
            reasons
            echo "$(grep '^MARK' "$3" | tail -n 1 | tr -d '\r') uptime=$(cut -d' ' -f1 /proc/uptime) $(kvm_counts "$2") $now" >>"$RESULTS/$1.counts"
        fi
        grep -q 'pvkit-init: status' "$3" 2>/dev/null && return
        sleep 0.1
    done
}

# The machine of QEMU's, with its devices as arguments: virtio NAME DEVICE..
virtio() {
    name=$1
    log=$RESULTS/$name.log
    shift
    qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -no-shutdown -accel kvm -cpu host -m 256 \
        -serial "file:$log" -kernel "$folder/vmlinuz" -initrd "$folder/initramfs" -append "$cmdline" \
        -drive if=none,id=tools,format=raw,file=tools.img,readonly=on -device virtio-blk-pci,drive=tools "$@" \
        >"$RESULTS/$name.vmm" 2>&1 &
    pid=$!
    watch "$name" $pid "$log"
    kill $pid
    wait $pid
    says "$log" 'pvkit-init: status 0'
}

# Ours: pv NAME DEVICE..
pv() {
    name=$1
    log=$RESULTS/$name.log
    shift
    ./pvkit run --kernel "$folder/vmlinuz" --initramfs "$folder/initramfs" --cmdline "$cmdline" --memory 256M --stats \
        --serial "file=$log" --disk path=tools.img,readonly=on "$@" >"$RESULTS/$name.vmm" 2>&1 </dev/null &
    pid=$!
    watch "$name" $pid "$log"
    wait $pid
    says "$log" 'pvkit-init: status 0'
}

# per NAME JOB COUNT: each counter's growth per request, the idle rate taken off.
per() {
    awk -v job="$2" -v count="$3" '
        function take(line, into,   parts, i, pair) {
            split(line, parts, " ")
            for (i in parts) if (split(parts[i], pair, "=") == 2) into[pair[1]] = pair[2]
        }
        $2 == "idle" { take($0, i0) } $2 == "idle-end" { take($0, i1) }
        $2 == job { take($0, j0) } $2 == job "-end" { take($0, j1) }
        END {
            for (name in j1) if (name != "uptime" && (name ~ /^exit/ || name == "irq_injections" || name == "fpu_reload")) {
                rate = (i1[name] - i0[name]) / (i1["uptime"] - i0["uptime"])
                printf "%s %.3f ", name, ((j1[name] - j0[name]) - rate * (j1["uptime"] - j0["uptime"])) / count
            }
        }' "$RESULTS/$1.counts"
}
