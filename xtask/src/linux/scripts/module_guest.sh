#!/bin/sh
# What a stock kernel does with pvkit's modules. /dev/pvda has tools, /dev/pvdb is the disk that is tried. The kernel command
# line says what: pvkit_case=basic (also the default), verify, reload, net, netreload,
# torn, torn-check, reset, kexec, sleep, domain.
set -e
# What was complained of before is not ours: under emulation some kernels find fault with the processor's XSAVE.
dmesg -c >/dev/null
# Not by name: what is loaded is what the alias of each device asks for.
insmod ./pvkit.ko
for device in /sys/bus/pvkit/devices/*; do
    for module in ./pvkit_*.ko; do
        grep -aq "alias=$(cat "$device/modalias")" "$module" || continue
        [ -d /sys/module/"$(basename "$module" .ko)" ] || insmod "$module"
    done
    echo "${device##*/}: $(cat "$device/class") $(cat "$device/state")"
done
mkdir -p /tools
mount -t ext4 -o ro /dev/pvda /tools
for folder in dev proc sys tmp; do mount --bind /$folder /tools/$folder; done
# By its whole path: busybox would take a program of its own of that name.
tool() { name=$1; shift; chroot /tools "/usr/bin/$name" "$@"; }

basic() {
    [ "$(tr -d '\0' </sys/block/pvdb/serial)" = tried ] || { echo "the serial is $(cat /sys/block/pvdb/serial)"; exit 1; }
    cat /sys/block/pvdb/queue/*_block_size /sys/block/pvdb/queue/write_cache
    tool mke2fs -q -t ext4 /dev/pvdb
    mount -t ext4 /dev/pvdb /tools/mnt
    for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/tools/mnt/file$i bs=1M count=3 2>/dev/null; done
    (cd /tools/mnt && sha256sum file* | sed 's/^/SUM /')
    umount /tools/mnt
    tool e2fsck -f -n /dev/pvdb
    if [ -c /dev/pvc0 ]; then
        exec 3<>/dev/pvc0
        echo "written to the PV console" >&3
        read -r typed <&3
        echo "console: $typed"
    fi
}

# Each job writes, reads back and compares; sizes from one block to the longest request, buffered and not, flushed and not.
verify() {
    common="--filename=/dev/pvdb --size=8M --verify=crc32c --verify_fatal=1 --randseed=7 --minimal --ioengine=libaio"
    tool fio --name=direct $common --direct=1 --rw=randwrite --bsrange=512-64k --iodepth=32 >/dev/null
    tool fio --name=large $common --direct=1 --rw=write --bs=4M --iodepth=4 >/dev/null
    tool fio --name=flushed $common --direct=1 --rw=randwrite --bs=4k --iodepth=8 --fdatasync=16 --io_size=4M >/dev/null
    tool fio --name=durable $common --direct=1 --sync=1 --rw=randwrite --bs=8k --iodepth=4 --io_size=2M >/dev/null
    tool fio --name=buffered $common --direct=0 --rw=randrw --bs=2k --iodepth=4 --io_size=4M >/dev/null
    tool fio --name=queues $common --direct=1 --rw=randwrite --bs=4k --iodepth=16 --numjobs=4 --offset_increment=4M --size=4M \
        --group_reporting >/dev/null
    # Zeroes are zeroes; a discard ends well.
    dd if=/dev/urandom of=/dev/pvdb bs=1M count=4 oflag=direct 2>/dev/null
    tool blkdiscard -z -o 1048576 -l 1048576 /dev/pvdb
    [ "$(dd if=/dev/pvdb bs=1M skip=1 count=1 iflag=direct 2>/dev/null | tr -d '\0' | wc -c)" = 0 ]
    tool blkdiscard -o 2097152 -l 1048576 /dev/pvdb
    echo "verified"
}

# The driver goes while requests are on their way, and comes back.
reload() {
    device=$(ls -d /sys/bus/pvkit/devices/*-2)
    sum=$(dd if=/dev/pvdb bs=1M count=8 iflag=direct 2>/dev/null | sha256sum)
    umount /tools/dev /tools/proc /tools/sys /tools/tmp /tools
    for round in $(seq "${pvkit_rounds:-10}"); do
        for reader in 1 2; do
            (while dd if=/dev/pvdb of=/dev/null bs=256k iflag=direct; do :; done) 2>/dev/null &
        done
        usleep 100000
        echo "${device##*/}" >/sys/bus/pvkit/drivers/pvkit_blk/unbind
        wait
        for module in pvkit_blk pvkit_net pvkit_console pvkit; do
            [ ! -d /sys/module/$module ] || rmmod $module
        done
        insmod ./pvkit.ko
        insmod ./pvkit_blk.ko
    done
    [ "$(dd if=/dev/pvdb bs=1M count=8 iflag=direct 2>/dev/null | sha256sum)" = "$sum" ]
    echo "reloaded $round times"
}

# Writes until it is killed from outside; what it has told as synced must be there afterwards.
torn() {
    tool mke2fs -q -t ext4 /dev/pvdb
    mount -t ext4 /dev/pvdb /tools/mnt
    for i in $(seq 1000); do
        dd if=/dev/urandom of=/tools/mnt/file$i bs=64k count=4 2>/dev/null
        sync
        (cd /tools/mnt && sha256sum file$i | sed 's/^/SYNCED /')
    done
}

# Frames both ways, small and large, with the host's offloads and without them.
net() {
    ip addr add 10.9.0.2/24 dev eth0
    ip link set eth0 mtu 9000 up
    tool ethtool -i eth0 | head -n 1
    ping -c 200 -i 0.01 10.9.0.1 | tail -n 2
    ping -c 200 -i 0.01 10.9.0.1 | grep -q ' 0% packet loss'
    ping -c 5 -s 8900 10.9.0.1 | grep -q ' 0% packet loss'
    # An end of input that never comes: nc would hang up at one.
    mkfifo /tmp/open
    for offloads in on off; do
        tool ethtool -K eth0 tx $offloads tso $offloads gso $offloads gro $offloads sg $offloads >/dev/null 2>&1
        echo "LISTENS $offloads"
        nc -l -p 7000 <>/tmp/open >/tmp/in
        sha256sum </tmp/in | sed "s/^/GOT $offloads /"
        nc -l -p 7001 </tmp/in
    done
    mkdir -p /tmp/www
    echo "a short answer" >/tmp/www/answer
    httpd -p 80 -h /tmp/www
    echo "SERVES"
    tool ethtool -S eth0
    # The host says when it has had enough.
    until [ -f /tmp/www/../done ]; do nc -l -p 7002 >/tmp/done; done
}

# The driver goes while frames fly, and comes back.
netreload() {
    for round in $(seq "${pvkit_rounds:-10}"); do
        ip addr add 10.9.0.2/24 dev eth0
        ip link set eth0 up
        ping -c 3 -i 0.05 10.9.0.1 | grep -q ' 0% packet loss' || { echo "round $round: no answer"; exit 1; }
        (while ping -c 1 -s 1400 10.9.0.1; do :; done) >/dev/null 2>&1 &
        usleep 200000
        rmmod pvkit_net
        wait
        insmod ./pvkit_net.ko
    done
    echo "reloaded $round times"
}

# Writes, syncs, and reads back from the disk itself, for a while; an error of any of it ends the case.
domain() {
    tool mke2fs -q -t ext4 /dev/pvdb
    mount -t ext4 /dev/pvdb /tools/mnt
    ip addr add 10.9.0.2/24 dev eth0
    ip link set eth0 up
    mkfifo /tmp/open
    # It lasts as long as what comes by this connection.
    (nc -l -p 7000 <>/tmp/open >/tmp/in; touch /tmp/over) &
    received=$!
    (until [ -e /tmp/over ]; do tool iperf3 -c 10.9.0.1 -b 10M -t 20 >>/tmp/stream 2>&1 || exit 1; done) &
    stream=$!
    echo "WORKS"
    i=0
    until [ -e /tmp/over ]; do
        i=$((i + 1))
        file=/tools/mnt/file$((i % 32))
        rm -f "$file"
        dd if=/dev/urandom of="$file" bs=64k count=8 conv=fsync 2>/dev/null
        sum=$(sha256sum <"$file")
        [ "$(dd if="$file" bs=64k iflag=direct 2>/dev/null | sha256sum)" = "$sum" ] || { echo "$file differs"; exit 1; }
    done
    echo "wrote $i files"
    (cd /tools/mnt && sha256sum file* | sed 's/^/SUM /')
    umount /tools/mnt
    tool e2fsck -f -n /dev/pvdb
    wait $received
    wait $stream || { cat /tmp/stream; exit 1; }
    grep -e sender -e receiver /tmp/stream | sed 's/^/STREAM /'
    sha256sum </tmp/in | sed 's/^/GOT /'
    cat /sys/bus/pvkit/devices/*/epoch
    if dmesg | grep -E 'I/O error|EXT4-fs error'; then
        exit 1
    fi
}

# Starts again in the middle of writing, with no word to anybody; the second start looks at what the first one had synced.
reset() {
    if mount -t ext4 /dev/pvdb /tools/mnt 2>/dev/null; then
        umount /tools/mnt
        torn_check
        return
    fi
    (torn) &
    until [ "$(ls /tools/mnt | wc -l)" -gt 12 ]; do usleep 20000; done
    echo 1 >/proc/sys/kernel/sysrq
    echo b >/proc/sysrq-trigger
}

# Another kernel takes over in the middle of writing (the same one; /dev/pvdc and /dev/pvdd have it and its archive).
kexec() {
    if [ "$pvkit_taken" = over ]; then
        echo "the second kernel"
        torn_check
        return
    fi
    cat /dev/pvdc >/tmp/kernel
    cat /dev/pvdd >/tmp/archive
    (torn) &
    until [ "$(ls /tools/mnt | wc -l)" -gt 6 ]; do usleep 20000; done
    ./kexec /tmp/kernel /tmp/archive "$(cat /proc/cmdline) pvkit_taken=over"
}

# All devices sleep while somebody writes, and wake again (the kernel's own test: it does not stop, but its devices do).
sleeps() {
    tool mke2fs -q -t ext4 /dev/pvdb
    mount -t ext4 /dev/pvdb /tools/mnt
    (while :; do dd if=/dev/urandom of=/tools/mnt/busy bs=64k count=8 conv=fsync; done) >/dev/null 2>&1 &
    writer=$!
    device=$(ls -d /sys/bus/pvkit/devices/*-2)
    before=$(cat "$device/epoch")
    echo devices >/sys/power/pm_test
    echo 1 >/sys/module/suspend/parameters/pm_test_delay
    for round in 1 2 3; do
        usleep 300000
        echo freeze >/sys/power/state
    done
    [ "$(cat "$device/epoch")" -gt "$before" ] || { echo "it did not sleep"; exit 1; }
    usleep 300000
    kill $writer
    dd if=/dev/urandom of=/tools/mnt/after bs=64k count=16 conv=fsync 2>/dev/null
    sum=$(sha256sum </tools/mnt/after)
    [ "$(dd if=/tools/mnt/after bs=64k iflag=direct 2>/dev/null | sha256sum)" = "$sum" ]
    wait $writer || true
    umount /tools/mnt
    tool e2fsck -f -n /dev/pvdb
    echo "slept $round times, epochs $before to $(cat "$device/epoch")"
}

torn_check() {
    # The journal is replayed at the mount; afterwards nothing is left to mend.
    mount -t ext4 /dev/pvdb /tools/mnt
    (cd /tools/mnt && sha256sum file* | sed 's/^/FOUND /')
    umount /tools/mnt
    tool e2fsck -f -n /dev/pvdb
}

case ${pvkit_case:-basic} in
basic) basic ;;
verify) verify ;;
reload) reload ;;
net) net ;;
netreload) netreload ;;
torn) torn ;;
reset) reset ;;
kexec) kexec ;;
sleep) sleeps ;;
domain) domain ;;
torn-check) torn_check ;;
esac
cat /sys/bus/pvkit/devices/*/queues 2>/dev/null || true
if dmesg | grep -E 'BUG|WARNING|Call Trace|INFO: task'; then
    echo "the kernel complains"
    exit 1
fi
