#!/bin/sh
# The stock kernels as guests of pvkit: to user space and back off, and what each cost.
. ./words.sh
for folder in guests/stock/*; do
    kernel=${folder##*/}
    log=$RESULTS/$kernel.log
    began=$(cut -d' ' -f1 /proc/uptime)
    timeout -s KILL 90 ./pvkit run --kernel "$folder/vmlinuz" --initramfs "$folder/initramfs" --memory 256M --stats \
        --serial "file=$log" --cmdline "console=ttyS0 quiet panic=-1 mitigations=off pvkit_limit=60" \
        >"$RESULTS/$kernel.pvkit.log" 2>&1 </dev/null ||
        { tail -n 30 "$log" "$RESULTS/$kernel.pvkit.log"; fail "$kernel: pvkit ended with status $?"; }
    says "$log" 'pvkit-init: status 0'
    says "$log" '/vendor'
    echo "scenario: $kernel: from $began to $(cut -d' ' -f1 /proc/uptime) s; $(grep 'KVM statistics' "$RESULTS/$kernel.pvkit.log")"
done
