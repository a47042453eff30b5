# Disks and consoles.

# all_there WHAT LOG: what that log tells as synced is what the last guest found.
all_there() {
    sed -n 's/^SYNCED //p' "$2" | tr -d '\r' | grep -E '^[0-9a-f]{64}  file[0-9]+$' >"$SCRATCH/synced"
    sed -n 's/^FOUND //p' "$log" | tr -d '\r' >"$SCRATCH/found"
    [ -s "$SCRATCH/synced" ] || fail "$1: nothing was synced"
    while read -r line; do
        grep -qF "$line" "$SCRATCH/found" || fail "$1: acknowledged and not there: $line"
    done <"$SCRATCH/synced"
    echo "scenario: $1 after $(wc -l <"$SCRATCH/synced") synced files: all there"
}

for folder in guests/module/*; do
    fresh
    echo "typed by the host" >"$SCRATCH/typed"
    input=$SCRATCH/typed
    run "${folder##*/}" basic --disk "path=$disk,serial=tried" --console stdio
    input=
    says "$log" "console: typed by the host"
    says "$RESULTS/$kernel-$case.pvkit.log" "written to the PV console"
    same_files "$log"
done
fresh
run 6.1-cloud verify --disk "$disk" --cpus 4
fresh
more=pvkit_rounds=${ROUNDS:-5}
run 6.1-cloud reload --disk "$disk"
more=
# Rings and buffers in a window of their own.
fresh
run 6.1-cloud basic --disk "path=$disk,serial=tried" --window 64M
same_files "$log"
# A guest that starts again in the middle: what it had synced is there, also on a disk that forgets what was not flushed.
fresh
once=
run 6.1-cloud reset --disk "path=$disk,cache=volatile"
unset once
all_there "reset" "$log"
# Another kernel takes over, and finds a host that uses none of its memory.
fresh
for file in vmlinuz initramfs; do
    cp "guests/module/6.1-cloud/$file" "$SCRATCH/$file"
    # Whole blocks.
    truncate -s $((($(wc -c <"$SCRATCH/$file") + 4095) / 4096 * 4096)) "$SCRATCH/$file"
done
run 6.1-cloud kexec --disk "path=$disk,cache=volatile" --disk "path=$SCRATCH/vmlinuz,readonly=on" \
    --disk "path=$SCRATCH/initramfs,readonly=on"
says "$log" 'the second kernel'
all_there "kexec" "$log"
fresh
run 6.1 sleep --disk "$disk"
echo "scenario: $(grep 'slept 3 times' "$log" | tr -d '\r')"
# Killed while it writes: what was synced is there, on a disk that forgets what was not flushed.
for wait in ${WAITS:-3}; do
    fresh
    start 6.1-cloud torn --disk "path=$disk,cache=volatile"
    rounds=0
    until grep -q SYNCED "$log" 2>/dev/null; do
        rounds=$((rounds + 1))
        [ $rounds -lt 600 ] || fail "nothing was synced"
        sleep 0.1
    done
    sleep $wait
    kill -KILL $pid
    wait $pid
    kill $dog 2>/dev/null
    written=$log
    run 6.1-cloud torn-check --disk "$disk"
    all_there "killed" "$written"
done
