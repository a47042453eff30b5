#!/bin/sh
# What a stock kernel does with two network devices of pvkit: a user network, and a TAP with the machine at 10.9.0.1.
. ./words.sh
# What the kernel said before is not about us.
dmesg -c >/dev/null
case $pvkit_load in
full) megabytes=64 connections=1000 rounds=10 flood=2000 ;;
*) megabytes=8 connections=100 rounds=3 flood=500 ;;
esac
for module in ./pvkit.ko ./pvkit_blk.ko ./pvkit_net.ko; do insmod $module || fail "$module"; done
mkdir -p /tools
mount -t ext4 -o ro /dev/pvda /tools || fail 'no tools'
for folder in dev proc sys tmp; do mount --bind /$folder /tools/$folder; done
tool() { name=$1; shift; chroot /tools "/usr/bin/$name" "$@"; }
host=http://10.9.0.1:8080
figure() { echo "FIGURE $(cut -d' ' -f1 /proc/uptime) $*"; }
net() { for dev in /sys/bus/pvkit/devices/*/net/*; do [ "$(cat "$dev/device/instance")" = "$1" ] && echo "${dev##*/}"; done; }

# By its alias: what udev would load for it.
for device in /sys/bus/pvkit/devices/*; do
    [ "$(cat "$device/class")" = net ] || continue
    grep -q "MODALIAS=$(cat "$device/modalias")" "$device/uevent" || fail 'uevent without its alias'
    grep -aq "alias=$(cat "$device/modalias")" pvkit_net.ko || fail 'no such alias'
done

addresses() {
    user=$(net 0) tap=$(net 1)
    echo 0 >"/proc/sys/net/ipv6/conf/$tap/accept_dad"
    ip link set "$user" up && ip addr add 10.0.2.15/24 dev "$user" && ip link set "$tap" up &&
        ip addr add 10.9.0.2/24 dev "$tap" && ip addr add fd09::2/64 dev "$tap" || fail addresses
}
addresses
ping -c 3 -q -W 10 10.0.2.2 | grep 'packets' || fail 'user network'
ping -c 3 -q -W 10 10.9.0.1 | grep 'packets' || fail TAP
figure "$(tool ethtool -i "$tap" | head -n 1), $(cat /sys/class/net/"$tap"/mtu) bytes, $(cat /sys/bus/pvkit/devices/*/features | tr '\n' ' ')"
tool ethtool -k "$tap" | grep -e ': on'
tool ethtool -x "$tap"
tool ethtool -l "$tap"
tool ethtool -g "$tap"
tool ethtool "$tap"

answers() { # of a flood: none is lost
    echo "$1" | grep -q ' 0% packet loss' || fail "flood: $1"
    figure "flood $2: $(echo "$1" | tr '\n' ' ')"
}
answers "$(ping -c $flood -A -q 10.9.0.1 | tail -n 2)" out
answers "$(wget -q -O - "$host/cgi-bin/do?ping")" in
answers "$(ping -c 200 -A -q -s 8972 10.9.0.1 | tail -n 2)" 'of full frames'
answers "$(ping -c 200 -A -q -s 20000 10.9.0.1 | tail -n 2)" 'of fragments'

wanted=$(wget -q -O - $host/sum$megabytes)
mkdir -p /tmp/www
transfer() {
    began=$(cut -d' ' -f1 /proc/uptime)
    wget -q -O /tmp/www/data "http://$2/data$megabytes"
    middle=$(cut -d' ' -f1 /proc/uptime)
    [ "$(sha256sum </tmp/www/data)" = "$wanted" ] || fail "$1: what came is not what was sent"
    [ "$(wget -q -O - "$host/cgi-bin/do?$3")" = "$wanted" ] || fail "$1: what was sent did not come"
    figure "transfer $1: in $began-$middle, checked and out until $(cut -d' ' -f1 /proc/uptime)"
}
httpd -p 8080 -h /tmp/www
transfer 'with offloads' 10.9.0.1:8080 fetch
transfer 'over IPv6' '[fd09::1]:8080' fetch6
tool ethtool -K "$tap" tso off gso off gro off || fail 'ethtool -K'
transfer 'without segmentation' 10.9.0.1:8080 fetch
tool ethtool -K "$tap" tx off sg off rx off || fail 'ethtool -K'
transfer 'without any offload' 10.9.0.1:8080 fetch
# All but what this device does not offer.
tool ethtool -K "$tap" tx on sg on rx on tso on gso on gro on
ip link set "$tap" mtu 1500
transfer 'at MTU 1500' 10.9.0.1:8080 fetch
ip link set "$tap" mtu 9000

for way in '' -R; do
    figure "iperf3 $way: $(tool iperf3 -c 10.9.0.1 -t 5 $way | grep -e sender -e receiver | tr '\n' ' ')"
    figure "iperf3 UDP $way: $(tool iperf3 -c 10.9.0.1 -u -b 200M -t 3 $way | grep -e receiver)"
done
count=0
while [ $count -lt $connections ]; do
    [ "$(wget -q -O - $host/small)" = small ] || fail "connection $count"
    count=$((count + 1))
done
figure "$connections connections"

ip link set "$tap" down && ip link set "$tap" up
ip addr add fd09::2/64 dev "$tap"
ping -c 3 -q 10.9.0.1 | grep -q ' 0% packet loss' || fail 'down and up'
[ ! -e "/sys/class/net/$tap/queues/rx-1" ] || tool ethtool -X "$tap" equal 1 || fail 'ethtool -X'
wget -q -O /dev/null $host/data$megabytes
tool ethtool -S "$tap"
cat /sys/bus/pvkit/devices/*/queues
grep pvkit /proc/interrupts

figure "$(grep MemAvailable /proc/meminfo)"
round=0
while [ $round -lt $rounds ]; do
    tool iperf3 -c 10.9.0.1 -t 30 >/dev/null 2>&1 &
    ping -A -q 10.9.0.1 >/dev/null &
    sleep 0.3
    rmmod pvkit_net || fail "rmmod, round $round"
    kill %1 %2 2>/dev/null
    killall iperf3 ping 2>/dev/null
    insmod ./pvkit_net.ko
    addresses
    ping -c 2 -q -W 10 10.9.0.1 | grep -q ' 0% packet loss' || fail "after round $round"
    round=$((round + 1))
done
figure "$rounds times away and back, $(grep MemAvailable /proc/meminfo)"

# Its devices are put to sleep and woken, by kernels that can try that: queues are opened anew.
if [ -e /sys/power/pm_test ]; then
    echo devices >/sys/power/pm_test
    ping -A -q 10.9.0.1 >/dev/null &
    echo freeze >/sys/power/state || fail 'suspend'
    killall ping
    ping -c 3 -q -W 10 10.9.0.1 | grep -q ' 0% packet loss' || fail 'after sleep'
    wget -q -O - $host/data$megabytes | sha256sum | grep -q "$wanted" || fail 'after sleep: data'
    figure "slept: $(cat /sys/bus/pvkit/devices/*/epoch | tr '\n' ' ')"
fi
dmesg | grep -e pvkit -e WARN -e BUG | tail -n 40
dmesg | grep -q -e WARNING -e 'BUG:' && fail 'the kernel warns'
rmmod pvkit_net
exit 0
