# The lies. The driver starts a device anew eight times a minute and then leaves it alone: `again` begins a new count.
anew='the device is started anew'
leaks=/sys/kernel/debug/kmemleak
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
    try net "lengths beyond the buffer" ERRORS works "queue 3 0 detail=0xffffff 20"
    try net "frames without an end" "a received frame has no end; $anew" works "queue 3 0 more 3"
    try net "wild metadata" ERRORS works "queue 3 0 meta=0x0101ffffffffffff 5" "queue 3 0 meta=0x0103000100100022 5"
    try console "more than there was room for" "more was read than there was room for; $anew" works "queue 4 0 detail=0xffffff 2000"
    try disk "messages that make no sense, an impossible size" "impossible disk" works "tell rescind 77 5 like=1" \
        "tell config 77 5 like=1" "tell state 1 -1 state=4" "tell 0x3f 1 +0" "tell config 1 +0 size=200" \
        "tell config 1 +0 reserved8=1" "tell config 1 +0 capacity=0xffffffffffffffff"
    # Connected again by what was true before.
    try disk "a tag out of turn after an impossible size" "tag is out of turn; $anew" works "queue 1 0 tag"
    try disk "never the truth again" "left alone" dead "queue 1 0 tag 100000"
    again
    bus_lies
}

bus_lies() {
    try disk "a reply twice" "broke the bus's protocol" works "reply twice" "tell overflow 0 1 like=1"
    again
}

# Everything by chance, from seeds.
random_lies() {
    for seed in $(seq "${pvkit_seeds:-12}"); do
        try disk "disk, seed $seed" "$anew|I/O error" works "queue 1 0 random=$seed 2"
        try net "card, seed $seed" - works "queue 3 0 random=$seed" "queue 3 1 random=$seed"
        try console "console, seed $seed" - works "queue 4 0 random=$seed 2"
        [ $((seed % 2)) = 0 ] && again
    done
    again
}

ring_lies() {
    try disk "rewritten after publication" - works "queue 1 0 rewritten 3"
    try disk "completions that nothing asked for" - works "queue 1 0 unsolicited=120" "queue 1 0 unsolicited=3"
    try disk "a bell that is wanted never, and always" - works "queue 1 0 event=0xdeadbeef" - "queue 1 0 event=0xffffffff00000000"
    try disk "nothing for a while" - works "queue 1 0 stall" - - -
    try disk "garbage all over the ring" "$anew" works "queue 1 0 scribble=7"
    again
    try net "rewritten after publication" - works "queue 3 0 rewritten 3" "queue 3 1 rewritten 2"
    try net "hashes that were not agreed" ERRORS works "queue 3 0 hash=0xffffffffffffffff 5"
    try net "something in the reserved word" ERRORS works "queue 3 0 reserved=1 5"
    try net "empty frames" ERRORS works "queue 3 0 detail=0 5"
    try net "short frames" ERRORS works "queue 3 0 detail=5 5"
    try net "checksums at every wild place" ERRORS works "queue 3 0 meta=0x010000000000ffff 2" "queue 3 0 meta=0x01000000ffff0000 2" \
        "queue 3 0 meta=0x010000000000000d 2" "queue 3 0 meta=0x01000000fffe000e 2"
    try net "cut in every wild way" ERRORS works "queue 3 0 meta=0x0101000000100022 2" "queue 3 0 meta=0x0101ffff00100022 2" \
        "queue 3 0 meta=0x0102000100100022 2" "queue 3 0 meta=0x01ff004000100022 2" "queue 3 0 meta=0xff01004000100022 2"
    try net "a refused buffer" "refuses a receive buffer; $anew" works "queue 3 0 status=7"
    try net "transmissions completed twice" "not in flight; $anew" works "queue 3 1 twice"
    try console "a tag out of turn" "tag is out of turn; $anew" works "queue 4 0 tag"
    again
}

# leaving CASE ORDER..: the module is to go while the host lies, or does nothing.
leaving() {
    case=$1
    shift
    : >/tmp/said
    rm -f /tmp/stop
    disk_traffic >/dev/null 2>&1 &
    traffic=$!
    usleep 200000
    for order in "$@"; do echo "LIE $order"; done
    part 1 pvkit_blk
    again
    disk_works || fail "$case: works no more: $(cat /tmp/out)"
    other_works || fail "$case: the other disk: $(cat /tmp/out)"
    clean
    echo "LIED $case, $(cut -d' ' -f1 /proc/uptime) s"
}

leaving_lies() {
    leaving "nothing is completed while the module goes" "queue 1 0 stall"
    leaving "CLOSE is refused while nothing is completed and the module goes" "queue 1 0 stall" "reply status=-5"
    # What is lost now is lost on purpose.
    [ ! -e $leaks ] || for order in scan scan clear; do echo $order >$leaks; sleep 6; done
    leaving "a tag out of turn while the module goes" "queue 1 0 swallowed 3" "queue 1 0 tag"
    again
}

# In the order in which a device is started anew: CLOSE, ACCEPT, GRANT_SHARE, OPEN_QUEUE.
reply_lies() {
    try disk "ACCEPT refused" "could not be connected again" waits "reply truth" "reply status=-5" "queue 1 0 tag"
    try disk "ACCEPT with a status above zero" "could not be connected again" waits "reply truth" "reply status=7" "queue 1 0 tag"
    try disk "an epoch that goes backwards" "could not be connected again" waits "reply truth" "reply epoch=1" "queue 1 0 tag"
    try disk "a reply about another device" "could not be connected again" waits "reply truth" "reply device=2" "queue 1 0 tag"
    try disk "a grant that is none" "I/O error" dead "reply truth 2" "reply value0=0xffffffff" "queue 1 0 tag"
    again
    try disk "a doorbell at the serial line" "no doorbell of kind" waits "reply truth 3" "reply value1=0x3f8" "queue 1 0 tag"
    try disk "a doorbell of no known kind" "no doorbell of kind" waits "reply truth 3" "reply value0=9" "queue 1 0 tag"
    try disk "a ring of another epoch" "ring is of another epoch" waits "queue 1 0 epoch=77" "queue 1 0 tag"
    try net "a card whose second queue is refused" "could not be connected again" waits "reply truth 4" "reply status=-5" "queue 3 0 more 3"
    again
    try disk "a reply with a tag out of turn" "broke the bus's protocol" works "reply tag" "tell overflow 0 1 like=1"
    again
    try disk "a reply to another request" "broke the bus's protocol" works "reply id=13" "tell overflow 0 1 like=1"
    again
}

# An epoch that is said to be over, while the host goes on with the old one: it then writes to what the driver has given
# back. In a window that is nobody else's memory; without one no driver can help, and the kernel is hurt now and then.
epoch_lies() {
    try disk "the backend is said to be gone" "its backend is gone" waits "tell state 1 +5 state=4"
    try disk "offered anew in an epoch that is not" "could not be connected again" waits "tell offer 1 +5"
}

message_lies() {
    try disk "another class under the same number" "another class of device" works "tell offer 1 +5 class=3"
    for field in logical=0 logical=3 logical=0x80000000 physical=3 capacity=0xffffffffffffffff granularity=3 transfer=0 \
        alignment=4096 alignment=3 queues=0 depth=0 depth=3 depth=0x80000000 required=0x8000000000000000; do
        try disk "an offer with $field" "makes no sense|not supported|impossible disk" works "tell offer 60 9 like=1 $field"
        echo "LIE tell rescind 60 9 like=1"
    done
    try disk "a version that is not known" "this driver knows" works "tell offer 61 9 like=1 major=99"
    try disk "a class that is not known" - works "tell offer 62 9 like=1 class=0x7777"
    for field in mtu=0 mtu=67 mtu=65535 queues=1 depth=2 mac=0xffffffffffff mac=0; do
        try disk "an offer of a card with $field" - works "tell offer 63 9 like=3 $field"
        echo "LIE tell rescind 63 9 like=1"
    done
    # More than anybody has.
    for number in $(seq 100 20 400); do
        for device in $(seq $number $((number + 19))); do echo "LIE tell offer $device 9 like=1 class=0x7777"; done
        usleep 300000
    done
    try disk "three hundred devices" - works "tell overflow 0 1 like=1" "tell overflow 0 1 like=1"
    again
}

# absurd DEVICE FIELD=N: what the host offers when its bus is set up. The device is there or not; its module goes.
absurd() {
    case="offered with $2 from the start"
    : >/tmp/said
    echo "LIE pretend $1 $2"
    usleep 150000
    unload
    load
    usleep 500000
    other_works || fail "$case: the other disk: $(cat /tmp/out)"
    [ $1 != 1 ] || [ ! -b /dev/pvda ] || within 60 dd if=/dev/pvda of=/dev/null bs=64k count=4 iflag=direct
    [ $1 != 3 ] || [ ! -d /sys/class/net/eth0 ] || {
        ip addr add 10.9.0.2/24 dev eth0
        ip link set eth0 up
        within 10 ping -c 2 -W 1 -s 1200 10.9.0.1
    }
    echo "LIE honest"
    usleep 150000
    clean
    echo "LIED $case, $(cut -d' ' -f1 /proc/uptime) s"
}

offer_lies() {
    absurd 1 capacity=0x7ffffffffffffe00
    absurd 1 capacity=0
    absurd 1 physical=0x40000000
    absurd 1 physical=0x80000000
    absurd 1 discard=0xffffffffffffffff
    absurd 1 queues=0xffff
    absurd 1 segments=0
    absurd 1 segments=0xffffffff
    absurd 1 transfer=0xffffffff
    absurd 1 transfer=4096
    absurd 1 flags=0xffffffff
    absurd 1 features=0
    absurd 1 depth=2
    absurd 3 mtu=68
    absurd 3 mtu=9000
    absurd 3 queues=2
    absurd 3 depth=2
    absurd 3 speed=0xffffffff
    absurd 4 transfer=1
    absurd 4 transfer=0xffffffff
    absurd 4 depth=2
    again
}

full_lies() {
    quick_lies
    ring_lies
    leaving_lies
    reply_lies
    [ "$pvkit_window" = yes ] && epoch_lies
    message_lies
    offer_lies
    random_lies
}

for part in $(echo "${pvkit_lies:-quick}" | tr , ' '); do ${part}_lies; done
case=end
unload
listen
# Where the kernel knows: memory of ours that nobody names any more. Twice, as what is young is passed over.
if [ -e $leaks ]; then
    for scan in 1 2; do
        echo scan >$leaks
        sleep 6
    done
    ! grep -q pvkit $leaks || { cat $leaks; fail "memory is lost"; }
fi
! grep -E "$complaints" /tmp/all || fail "the kernel complains"
