#!/bin/sh
# The same work on the one network card, whichever driver it has; the host reads its counters at each MARK.
set -e
for module in ./pvkit.ko ./pvkit_blk.ko ./pvkit_net.ko; do insmod $module; done
[ -b /dev/pvda ] && tools=/dev/pvda || tools=/dev/vda
mkdir -p /tools
mount -t ext4 -o ro $tools /tools
for folder in dev proc sys tmp; do mount --bind /$folder /tools/$folder; done
ip addr add 10.9.0.2/24 dev eth0
ip link set eth0 up
mark() { sleep 1; echo "MARK $1"; sleep 1; }
frames() { cat /sys/class/net/eth0/statistics/[rt]x_packets | awk '{ sum += $1 } END { print sum }'; }
run() {
    name=$1
    shift
    before=$(frames)
    mark "$name"
    figure=$("$@")
    mark "$name-end"
    echo "FRAMES $name $(($(frames) - before)) $figure"
    cat /sys/bus/pvkit/devices/*-2/queues 2>/dev/null || true
}
pings() { ping -c 1000 -A -q 10.9.0.1 | sed -n 's/.*min.avg.max = /ms /p'; }
stream() { chroot /tools /usr/bin/iperf3 -c 10.9.0.1 -t 4 -f m "$@" | awk '/receiver/ { print $7, $8 }'; }
until ping -c 1 -W 1 10.9.0.1 >/dev/null; do :; done
# The host's memory for most of ours exists: it is no part of what a frame costs.
dd if=/dev/zero of=/tmp/warm bs=1M count=80 2>/dev/null
rm /tmp/warm
stream >/dev/null
mark idle
sleep 3
mark idle-end
run ping pings
run out stream
run in stream -R
