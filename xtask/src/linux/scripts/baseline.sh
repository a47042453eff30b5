#!/bin/sh
# The stock kernels as guests of QEMU on KVM, with virtio, and what each cost: the figures that others are compared with.
. ./words.sh
dd if=/dev/urandom of="$SCRATCH/disk" bs=1M count=4 2>/dev/null
wanted=$(dd if="$SCRATCH/disk" bs=4k count=256 2>/dev/null | sha256sum)
for folder in guests/baseline/*; do
    kernel=${folder##*/}
    log=$RESULTS/$kernel.log
    began=$(cut -d' ' -f1 /proc/uptime)
    # It pauses instead of ending, so that its counters can still be read.
    qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -no-shutdown -accel kvm -cpu host -m 256 \
        -serial "file:$log" -kernel "$folder/vmlinuz" -initrd "$folder/initramfs" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off pvkit_limit=60" \
        -drive if=none,id=disk,format=raw,file=$SCRATCH/disk -device virtio-blk-pci,drive=disk \
        -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= >"$RESULTS/$kernel.qemu.log" 2>&1 &
    pid=$!
    rounds=0
    until grep -q 'pvkit-init: status' "$log" 2>/dev/null; do
        rounds=$((rounds + 1))
        [ $rounds -lt 300 ] && kill -0 $pid 2>/dev/null || { tail -n 30 "$log" "$RESULTS/$kernel.qemu.log"; fail "$kernel: no end"; }
        sleep 0.2
    done
    counts=$(kvm_counts $pid)
    kill $pid
    wait $pid
    says "$log" 'pvkit-init: status 0'
    says "$log" "${wanted%% *}"
    says "$log" 'bytes from 10.0.2.2'
    echo "$counts" >"$RESULTS/$kernel.counts"
    echo "scenario: $kernel: from $began to $(cut -d' ' -f1 /proc/uptime) s; $counts"
done
