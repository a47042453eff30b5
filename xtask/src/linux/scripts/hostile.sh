#!/bin/sh
# A stock kernel whose host lies, as the kernel's own script orders it to. What is judged in the guest is judged there; here
# only that each order was carried out, and that the device that nobody lied about is unharmed.
. ./words.sh
kernel=${KERNEL:-6.1-cloud}
log=$RESULTS/$kernel.log
for disk in tried other; do dd if=/dev/urandom of="$SCRATCH/$disk" bs=1M count=8 2>/dev/null; done
other=$(sha256sum <"$SCRATCH/other")
mkfifo "$SCRATCH/keys"
tunctl -t tap0 >/dev/null
ip addr add 10.9.0.1/24 dev tap0
ip link set tap0 up
./pvkit-mutants run --mutant hostile --no-reboot --kernel "guests/hostile/$kernel/vmlinuz" \
    --initramfs "guests/hostile/$kernel/initramfs" --memory "${MEMORY:-256M}" --serial "file=$log" ${WORDS:-} \
    --disk "$SCRATCH/tried" --disk "$SCRATCH/other" --net tap=tap0 --console stdio \
    --cmdline "console=ttyS0 quiet panic=-1 mitigations=off pvkit_limit=${LIMIT:-280} pvkit_lies=${LIES:-quick} pvkit_window=${WORDS:+yes} pvkit_other=${other%% *}" \
    >"$SCRATCH/console" 2>"$RESULTS/$kernel.pvkit.log" <"$SCRATCH/keys" &
pid=$!
# Somebody types all the time.
(exec >"$SCRATCH/keys"; while echo typed; do sleep 0.3; done) 2>/dev/null &
typist=$!
# Cases are told as they end: all of them take long.
: >>"$log"
tail -n +1 -f "$log" | while read -r line; do
    case $line in "LIED "*) echo "scenario: ${line#LIED }" ;; esac
done &
teller=$!
# A watchdog for a guest that hangs.
(sleep "$((${LIMIT:-280} + 20))" && kill -KILL $pid) 2>/dev/null &
dog=$!
wait $pid || { tail -n 60 "$log"; tail -n 10 "$RESULTS/$kernel.pvkit.log"; fail "$kernel: pvkit ended with status $?"; }
sleep 2
kill $dog $typist $teller 2>/dev/null
says "$log" 'pvkit-init: status 0'
! grep -e ': not done' "$RESULTS/$kernel.pvkit.log" || fail "an order was not carried out"
ordered=$(grep -c '^LIE ' "$log")
[ "$ordered" -gt 0 ] && [ "$ordered" = "$(grep -c '^pvkit: lie: .*: done' "$RESULTS/$kernel.pvkit.log")" ] ||
    fail "$ordered orders were given, and others carried out"
[ "$(sha256sum <"$SCRATCH/other")" = "$other" ] || fail "the disk that nobody lied about has changed"
echo "scenario: $kernel: $ordered orders to lie, $(grep -c '^LIED ' "$log") cases, done at $(cut -d' ' -f1 /proc/uptime) s"
