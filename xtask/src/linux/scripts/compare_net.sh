# The same kernel and work on QEMU's virtio network card and on pvkit's, in turn, over the same TAP; KVM's counters per frame,
# as the guest's kernel counts frames (one that is cut later is one).
folder=guests/compare-net/6.1-cloud
jobs='ping out in'
[ -c /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
tunctl -t tap0 >/dev/null
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
mkdir -p /tools
losetup /dev/loop0 tools.img && mount -t ext4 -o ro /dev/loop0 /tools || fail 'no tools'
for place in dev proc sys tmp; do mount --bind /$place /tools/$place; done
chroot /tools /usr/bin/iperf3 -s -D

round=0
while [ $round -lt "${ROUNDS:-1}" ]; do
    virtio virtio-$round -netdev tap,id=net,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=net,romfile=
    pv pv-$round --net tap=tap0
    for name in virtio-$round pv-$round; do
        for job in $jobs; do
            said=$(grep "FRAMES $job " "$RESULTS/$name.log" | tr -d '\r')
            echo "scenario: $name $job: $said | $(per "$name" "$job" "$(echo "$said" | cut -d' ' -f3)")"
        done
    done
    round=$((round + 1))
done
