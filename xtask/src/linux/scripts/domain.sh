# A disk of a daemon that is killed, again and again, while the guest writes: the guest sees no error, and every file is whole.
socket=$SCRATCH/backend.sock
backend() {
    ./pvkit backend --socket "$socket" --disk "id=tried,path=$disk" 2>>"$RESULTS/backend.log" &
    backend=$!
}
fresh
backend
says_within "$RESULTS/backend.log" "serving 1 disk"
kills=${KILLS:-10}
more="pvkit_seconds=$((kills * 2 + 5))"
start 6.1-cloud domain --window 64M --disk "backend=$socket,id=tried"
says_within "$log" WORKS
for round in $(seq "$kills"); do
    sleep 1.$((round * 7 % 10))
    kill -KILL $backend
    wait $backend
    backend
done
ended
same_files "$log"
echo "scenario: $(wc -l <"$SCRATCH/there") files whole over $kills kills"
kill -TERM $backend
wait $backend || fail "the daemon ended with status $?"
