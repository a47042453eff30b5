# A disk and a network of a daemon that is killed, again and again, while the guest writes and receives: the guest sees no error, every
# file is whole, and the TCP connections go on: one whose bytes are compared, and iperf3's.
socket=$SCRATCH/backend.sock
backend() {
    : >"$SCRATCH/serves"
    ./pvkit backend --socket "$socket" --disk "id=tried,path=$disk" --net tap,id=lan 2>>"$SCRATCH/serves" &
    backend=$!
    # On a machine that starts it slowly it would be killed before it ever served.
    says_within "$SCRATCH/serves" "serving 2 devices"
}
fresh
tunctl -t tap0 >/dev/null
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
dd if=/dev/urandom of="$SCRATCH/data" bs=1M count=16 2>/dev/null
backend
mkdir -p /tools
losetup /dev/loop7 tools.img && mount -t ext4 -o ro /dev/loop7 /tools || fail 'no tools'
for folder in dev proc sys tmp; do mount --bind /$folder /tools/$folder; done
chroot /tools /usr/bin/iperf3 -s -D
kills=${KILLS:-10}
limit=$((kills * 15 + 340))
net=backend=$socket,id=lan,tap=tap0
start 6.1-cloud domain --window 64M --disk "backend=$socket,id=tried"
says_within "$log" WORKS
# One connection for the whole time; what is sent is kept, to be compared.
pieces() {
    piece=0
    while [ ! -f "$SCRATCH/enough" ]; do
        dd if="$SCRATCH/data" bs=64k skip=$((piece % 256)) count=1 2>/dev/null
        piece=$((piece + 1))
        sleep 0.1
    done
}
pieces | tee "$SCRATCH/sent" | nc 10.9.0.2 7000 >/dev/null &
for round in $(seq "$kills"); do
    sleep 1.$((round * 7 % 10))
    kill -KILL $backend
    wait $backend
    backend
done
touch "$SCRATCH/enough"
ended
same_files "$log"
sent=$(sha256sum <"$SCRATCH/sent")
says "$log" "GOT ${sent%% *}"
echo "scenario: iperf3 $(grep -c 'STREAM .*receiver' "$log") times, $(grep 'STREAM .*receiver' "$log" | awk '{ sum += $6 } END { print sum }') MBytes received"
echo "scenario: $(wc -l <"$SCRATCH/there") files and one connection of $(($(wc -c <"$SCRATCH/sent") >> 10)) KiB whole over $kills kills"
kill -TERM $backend
wait $backend || fail "the daemon ended with status $?"
