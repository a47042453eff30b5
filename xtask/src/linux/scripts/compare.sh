# The same kernel, image and work on QEMU's virtio disk and on pvkit's, in turn; KVM's counters per request.
folder=guests/compare/6.1-cloud
jobs='read1:2000 write1:2000 read32:4000 write32:4000 read32-batch:8000 write32-batch:8000'
truncate -s 64M "$SCRATCH/disk"

round=0
while [ $round -lt "${ROUNDS:-1}" ]; do
    virtio virtio-$round -object iothread,id=io -drive if=none,id=disk,format=raw,file=$SCRATCH/disk \
        -device virtio-blk-pci,drive=disk,iothread=io
    pv pv-$round --disk "$SCRATCH/disk"
    for name in virtio-$round pv-$round; do
        for job in $jobs; do
            echo "scenario: $name ${job%:*}: $(grep "IOPS ${job%:*} " "$RESULTS/$name.log" | tr -d '\r') | $(per "$name" "${job%:*}" "${job#*:}")"
        done
    done
    round=$((round + 1))
done
