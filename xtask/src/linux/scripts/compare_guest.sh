#!/bin/sh
# The same work on the first disk that has a tools image and the second one, whichever driver they have. The host reads its
# counters at each MARK, so nothing happens for a moment around one.
set -e
for module in ./pvkit.ko ./pvkit_blk.ko; do insmod $module; done
disk() { for name in "$@"; do [ -b /dev/$name ] && echo /dev/$name && return; done; echo "no disk" >&2; exit 1; }
tools=$(disk pvda vda)
target=$(disk pvdb vdb)
mkdir -p /tools
mount -t ext4 -o ro "$tools" /tools
for folder in dev proc sys tmp; do mount --bind /$folder /tools/$folder; done
mark() { sleep 1; echo "MARK $1"; sleep 1; }
run() {
    mark "$1"
    chroot /tools /usr/bin/fio --name="$1" --filename="$target" --direct=1 --ioengine=libaio --minimal --randseed=7 \
        --rw="$2" --bs="$3" --iodepth="$4" --number_ios="$5" --size=60M $6 >/tmp/out
    mark "$1-end"
    cut -d';' -f8,49 /tmp/out | sed "s/^/IOPS $1 /"
    cat /sys/bus/pvkit/devices/*-2/queues 2>/dev/null || true
}
# The target's blocks exist, and so does the host's memory for most of ours: neither is part of what a request costs.
dd if=/dev/zero of=/tmp/warm bs=1M count=80 2>/dev/null
rm /tmp/warm
dd if=/dev/zero of="$target" bs=1M count=64 conv=fsync 2>/dev/null
chroot /tools /usr/bin/fio --version
mark idle
sleep 3
mark idle-end
batch="--iodepth_batch_submit=16 --iodepth_batch_complete_min=16"
run read1 randread 4k 1 2000
run write1 randwrite 4k 1 2000
run read32 randread 4k 32 4000
run write32 randwrite 4k 32 4000
run read32-batch randread 4k 32 8000 "$batch"
run write32-batch randwrite 4k 32 8000 "$batch"
