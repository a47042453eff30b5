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
    listen
    tail -n 60 /tmp/all
    exit 1
}

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
        [ $left -gt 0 ] || { cat /proc/$child/stack 2>/dev/null; fail "$case: hangs: $*"; }
        usleep 50000
    done
    wait $child
}

load() {
    for module in pvkit pvkit_blk pvkit_net pvkit_console; do insmod ./$module.ko || fail "$case: insmod $module"; done
}

unload() {
    for module in pvkit_console pvkit_net pvkit_blk pvkit; do
        within 90 rmmod $module || fail "$case: rmmod $module: $(cat /tmp/out)"
    done
}

reload() {
    case=reload
    unload
    load
    traffic_to=
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
    while [ ! -e /tmp/stop ]; do echo "typed" >/dev/pvc0 || usleep 20000; done
}

disk_works() { within 60 dd if=/dev/pvda of=/dev/null bs=64k count=4 iflag=direct; }
net_works() {
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

# try KIND CASE SAYS AFTER ORDER..: SAYS is what the kernel must say, or - for nothing; AFTER is works or dead.
try() {
    kind=$1 case=$2 says=$3 after=$4
    shift 4
    : >/tmp/said
    rm -f /tmp/stop
    [ $kind = net ] && { ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; } 2>/dev/null
    ${kind}_traffic >/dev/null 2>&1 &
    traffic=$!
    for order in "$@"; do
        [ "$order" = - ] && usleep 300000 || echo "LIE $order"
    done
    left=400
    if [ "$says" = - ]; then
        usleep 700000
    else
        until listen; grep -qE -e "$says" /tmp/said; do
            left=$((left - 1))
            [ $left -gt 0 ] || fail "$case: the kernel never said: $says"
            usleep 50000
        done
    fi
    touch /tmp/stop
    [ $after = works ] && { echo "LIE honest"; usleep 100000; }
    within 120 wait_for $traffic
    other_works || fail "$case: the other disk: $(cat /tmp/out)"
    if [ $after = works ]; then
        ${kind}_works || fail "$case: works no more: $(cat /tmp/out)"
    elif ${kind}_works; then
        fail "$case: works, and should be dead"
    else
        echo "LIE honest"
    fi
    listen
    if grep -E 'BUG|WARNING|Oops|Call Trace|general protection|INFO: task|INFO: rcu|KASAN|UBSAN|possible (recursive|circular)|suspicious RCU' /tmp/said; then
        fail "$case: the kernel complains"
    fi
    echo "LIED $kind: $case: $(grep -c . /tmp/said) lines, $(cut -d' ' -f1 /proc/uptime) s"
}

wait_for() { while kill -0 $1; do usleep 50000; done; }

anew='the device is started anew'
case=start
load
within 20 sh -c 'until [ -b /dev/pvda ] && [ -b /dev/pvdb ] && [ -c /dev/pvc0 ]; do usleep 50000; done'
other_works || fail "the other disk before any lie: $(cat /tmp/out)"

quick_lies() {
    try disk "a tag out of turn" "tag is out of turn; $anew" works "queue 1 0 tag"
    try disk "an id twice" "names a request that is not in flight; $anew" works "queue 1 0 twice"
    try disk "an id beyond the depth" "names an id beyond the depth; $anew" works "queue 1 0 id=0xffff"
    try disk "a status that does not exist" "I/O error" works "queue 1 0 status=0xee 4"
    try disk "a storm of interrupts" - works "queue 1 0 storm=2000"
    try net "lengths beyond the buffer" - works "queue 3 0 detail=0xffffff 20"
    try net "frames without an end" "a received frame has no end; $anew" works "queue 3 0 more 3"
    try net "wild metadata" - works "queue 3 0 meta=0x0101ffffffffffff 5" "queue 3 0 meta=0x0103000100100022 5"
    try console "a length beyond the buffer" - works "queue 4 0 detail=0xffffff 20"
    try disk "messages about devices that are not" - works "tell rescind 77 5 like=1" "tell config 77 5 like=1" \
        "tell state 1 -1 state=4" "tell 0x3f 1 +0" "tell config 1 +0 capacity=0xffffffffffffffff"
    try disk "never the truth again" "left alone" dead "queue 1 0 tag 100000"
    reload
    try disk "a reply twice" "broke the bus's protocol" works "reply twice" "tell overflow 0 1 like=1"
    reload
}

[ -x ./hostile_more.sh ] && . ./hostile_more.sh
${pvkit_lies:-quick}_lies
case=end
unload
listen
if grep -E 'BUG|WARNING|Oops|Call Trace|general protection|INFO: task|INFO: rcu|KASAN|UBSAN' /tmp/all; then fail "the kernel complains"; fi
