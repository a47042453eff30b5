# Network cards.
# Transfers to the guest and back on a TAP, hashes equal; then many short connections.
talk() {
    wanted=$(sha256sum <"$SCRATCH/data")
    for offloads in on off; do
        says_within "$log" "LISTENS $offloads"
        until nc 10.9.0.2 7000 <"$SCRATCH/data" 2>/dev/null; do sleep 0.1; done
        # The whole line: it comes in pieces.
        says_within "$log" "GOT $offloads [0-9a-f]\{64\}  -"
        says "$log" "GOT $offloads ${wanted%% *}"
        until nc 10.9.0.2 7001 <>"$SCRATCH/open" >"$SCRATCH/back" 2>/dev/null && [ -s "$SCRATCH/back" ]; do sleep 0.1; done
        [ "$(sha256sum <"$SCRATCH/back")" = "$wanted" ] || fail "$kernel: offloads $offloads: what came back is not what was sent"
    done
    says_within "$log" SERVES
    for connection in $(seq "${CONNECTIONS:-30}"); do
        [ "$(wget -q -O - http://10.9.0.2/answer)" = "a short answer" ] || fail "$kernel: connection $connection"
    done
    echo "scenario: $kernel: $(($(wc -c <"$SCRATCH/data") >> 20)) MiB each way with offloads and without, $connection connections"
    until echo done | nc 10.9.0.2 7002 2>/dev/null; do sleep 0.1; done
}

# An end of input that never comes: nc would hang up at one.
mkfifo "$SCRATCH/open"
tunctl -t tap0 >/dev/null
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 mtu 9000 up
dd if=/dev/urandom of="$SCRATCH/data" bs=1M count=8 2>/dev/null
for folder in guests/module/*; do
    net=tap=tap0,mtu=9000
    [ "${folder##*/}" = 6.1-cloud ] && set -- --cpus 2 || set --
    [ "${folder##*/}" = 6.12-cloud ] && set -- --window 64M
    [ "${folder##*/}" = 6.1-cloud ] && net=$net,queues=2
    start "${folder##*/}" net --disk format=null,size=1M "$@"
    talk
    ended
done
more=pvkit_rounds=${ROUNDS:-5}
start 6.1-cloud netreload --disk format=null,size=1M
ended
