#!/bin/busybox sh
# The first process of a small system: loads the modules in /modules/order, runs /scenario under a limit of time, brings
# its status home, ends the machine. The kernel command line may say:
#   pvkit_limit=SECONDS   after which the scenario is killed (300)
#   pvkit_results=DEVICE  a raw disk that takes what lies in /results afterwards, as an archive, with the status in it
#   pvkit_end=reboot      how the machine ends; else it powers off
# The status is also the last line on the console: "pvkit-init: status N".
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=dumb RESULTS=/results SCRATCH=/tmp
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /results /bin /sbin /usr/bin /payload
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
ip link set lo up 2>/dev/null
# The console again, now as a device: the first one was from the archive.
exec </dev/null >/dev/console 2>&1

finish() {
    echo "$1" >/results/status
    if [ -n "$pvkit_results" ]; then
        (cd /results && find . -type f | cpio -o -H newc >"$pvkit_results") 2>/dev/null || echo "pvkit-init: results are lost"
        sync
    fi
    echo "pvkit-init: status $1"
    # A root on a disk ends whole.
    mount -o remount,ro / 2>/dev/null
    [ "$pvkit_end" = reboot ] && reboot -f
    poweroff -f
}

for module in $(cat /modules/order); do
    insmod "$module" || finish 125
done
echo "pvkit-init: $(uname -r), up after $(cut -d' ' -f1 /proc/uptime) s"
cd /payload
timeout -s KILL "${pvkit_limit:-300}" /scenario
finish $?
