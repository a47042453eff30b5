# Words that scenarios share; a script sources it: . ./words.sh
# It starts in the payload's folder; what it leaves in $RESULTS comes home.

fail() {
    echo "scenario: FAILED: $*"
    exit 1
}

# says FILE WORDS: the file has these words, or the scenario has failed.
says() {
    grep -q -e "$2" "$1" && return
    tail -n 30 "$1"
    fail "$1 does not say: $2"
}

# kvm_counts PID: the counters of the virtual machine of that process, as name=value; it must still have it.
kvm_counts() {
    for folder in /sys/kernel/debug/kvm/"$1"-*; do
        [ -r "$folder/exits" ] || continue
        for name in exits io_exits mmio_exits halt_exits irq_injections irq_exits signal_exits fpu_reload host_state_reload; do
            [ -r "$folder/$name" ] && printf '%s=%s ' "$name" "$(cat "$folder/$name")"
        done
        echo
    done
}
