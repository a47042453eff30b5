#!/bin/sh
# A stock kernel that orders its host to lie: lines `LIE ...` on the serial line (hypervisor-side/machine/src/hostile/order.rs
# has the words). Each lie is told while I/O runs, and then: the kernel has nothing to complain of, the driver said what it
# should, what nobody lied about works, the liar's device works again or is dead as documented, and the modules go.
# Devices: 1 is pvda, which is lied about; 2 is pvdb, which is not; 3 is eth0; 4 is pvc0.
# The kernel command line says how much: pvkit_lies=quick or full; pvkit_other=SHA-256 of pvdb.

# Nothing of the kernel's between our own words, and what was complained of before is not ours.
dmesg -n 1
dmesg -c >/dev/null
: >/tmp/all

fail() {
    echo "FAILED: $*"
    for device in /sys/bus/pvkit/devices/*; do
        echo "${device##*/}: $(cat $device/class $device/state $device/epoch | tr '\n' ' ') $(readlink $device/driver)"
    done
    ls -l /dev/pv*
    ps | grep -v '\[' | tail -n 12
    # Where everybody is who waits for the kernel.
    for process in /proc/[0-9]*; do
        grep -q '^State:.D' $process/status 2>/dev/null || continue
        echo "$(tr '\0' ' ' <$process/cmdline) waits:"
        cat $process/stack
    done
    listen
    tail -n 60 /tmp/all
    exit 1
}

# What a kernel says that was hurt.
complaints='BUG|WARNING|Oops|Call Trace|general protection|INFO: task|INFO: rcu|KASAN|UBSAN|possible (recursive|circular)|suspicious RCU'

# What the kernel said since the last time.
listen() {
    dmesg -c >/tmp/new
    cat /tmp/new >>/tmp/said
    cat /tmp/new >>/tmp/all
}

# within SECONDS COMMAND..: its status, or the end of the test if it hangs.
within() {
    left=$(($1 * 20))
    shift
    "$@" >/tmp/out 2>&1 &
    child=$!
    while kill -0 $child 2>/dev/null; do
        left=$((left - 1))
        [ $left -gt 0 ] || fail "$case: hangs: $*"
        usleep 50000
    done
    wait $child
}

load() {
    # A writer that found no device has made a file.
    rm -f /dev/pvda /dev/pvc0
    for module in pvkit pvkit_blk pvkit_net pvkit_console; do insmod ./$module.ko || fail "$case: insmod $module"; done
}

# A disk that somebody has open, and who waits, keeps its module: then its driver lets go of the device first.
part() {
    within 90 sh -c "echo pvkit-$1 >/sys/bus/pvkit/drivers/$2/unbind" || fail "$case: unbind: $(cat /tmp/out)"
    touch /tmp/stop
    within 60 wait_for $traffic
}

unload() {
    for module in pvkit_console pvkit_net pvkit_blk pvkit; do
        within 90 rmmod $module || fail "$case: rmmod $module: $(cat /tmp/out)"
    done
}

# Load on one device until the case ends.
disk_traffic() {
    while [ ! -e /tmp/stop ]; do
        dd if=/dev/pvda of=/dev/null bs=16k count=8 iflag=direct || usleep 20000
        dd if=/dev/zero of=/dev/pvda bs=4k count=4 oflag=direct || usleep 20000
    done
}
net_traffic() {
    while [ ! -e /tmp/stop ]; do ping -c 1 -W 1 -s 1200 10.9.0.1 || usleep 20000; done
}
console_traffic() {
    cat /dev/pvc0 >/dev/null &
    reader=$!
    while [ ! -e /tmp/stop ]; do echo "typed" >/dev/pvc0 || usleep 20000; usleep 20000; done
    kill $reader
}

disk_works() { within 60 dd if=/dev/pvda of=/dev/null bs=64k count=4 iflag=direct; }
net_works() {
    { ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; } 2>/dev/null
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        within 10 ping -c 1 -W 1 10.9.0.1 && return
    done
    return 1
}
console_works() { within 20 sh -c 'echo works >/dev/pvc0'; }
other_works() {
    within 60 sh -c 'dd if=/dev/pvdb bs=256k iflag=direct 2>/dev/null | sha256sum' || return
    grep -q "$pvkit_other" /tmp/out
}

# try KIND CASE SAYS AFTER ORDER..: SAYS is what the kernel must say, or - for nothing; ERRORS: the card must count some.
# AFTER: the device works; or is dead, and its I/O ends in errors; or waits for its host, until its module goes.
try() {
    kind=$1 case=$2 says=$3 after=$4
    shift 4
    : >/tmp/said
    rm -f /tmp/stop
    errors=$(cat /sys/class/net/eth0/statistics/rx_errors)
    [ $kind = net ] && { ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; } 2>/dev/null
    ${kind}_traffic >/dev/null 2>&1 &
    traffic=$!
    for order in "$@"; do
        [ "$order" = - ] && usleep 300000 || echo "LIE $order"
    done
    heard
    touch /tmp/stop
    [ $after = works ] && { echo "LIE honest"; usleep 100000; }
    [ $after = waits ] || within 60 wait_for $traffic
    other_works || fail "$case: the other disk: $(cat /tmp/out)"
    case $after in
    works) ${kind}_works || fail "$case: works no more: $(cat /tmp/out)" ;;
    dead) ! ${kind}_works || fail "$case: works, and should be dead" ;;
    waits)
        [ $kind != disk ] || kill -0 $traffic || fail "$case: nobody waits"
        case $kind in
        disk) part 1 pvkit_blk ;;
        net) part 3 pvkit_net ;;
        esac
        again
        ${kind}_works || fail "$case: works no more after its module came back: $(cat /tmp/out)"
        ;;
    esac
    clean
    echo "LIED $kind: $case: $(grep -c . /tmp/said) lines, $(cut -d' ' -f1 /proc/uptime) s"
}

# Until the kernel has said $says.
heard() {
    left=300
    case $says in
    -) usleep 700000 ;;
    ERRORS)
        until [ "$(cat /sys/class/net/eth0/statistics/rx_errors)" -gt "$errors" ]; do
            left=$((left - 1))
            [ $left -gt 0 ] || fail "$case: the card counts no errors"
            usleep 50000
        done
        ;;
    *)
        until listen; grep -qE -e "$says" /tmp/said; do
            left=$((left - 1))
            [ $left -gt 0 ] || fail "$case: the kernel never said: $says"
            usleep 50000
        done
        ;;
    esac
}

clean() {
    listen
    ! grep -E "$complaints" /tmp/said || fail "$case: the kernel complains"
}

# The bus anew, with a host that is honest for now.
again() {
    echo "LIE honest"
    usleep 100000
    unload
    load
    within 20 sh -c 'until [ -b /dev/pvda ] && [ -b /dev/pvdb ] && [ -c /dev/pvc0 ]; do usleep 50000; done'
}

wait_for() { while kill -0 $1; do usleep 50000; done; }
