#!/bin/sh
# The existing guests on the kernel's own kvm_amd, at CPL 3 and CPL 0: registers over upcalls, faults, several vCPUs, a disk.
. ./words.sh
grep -q '^kvm_amd ' /proc/modules || fail "no kvm_amd in this kernel"

# proof PROGRAM [FILTER..]: every test of it passes and none leaves itself out.
proof() {
    program=$1
    shift
    PVKIT_GUEST_IMAGES=$PWD/images "./$program" --test-threads 1 --show-output "$@" >"$RESULTS/$program.log" 2>&1 ||
        { tail -n 40 "$RESULTS/$program.log"; fail "$program"; }
    says "$RESULTS/$program.log" 'test result: ok. [1-9]'
    ! grep '^skipped: ' "$RESULTS/$program.log" || fail "$program left something out"
    echo "scenario: $program: $(sed -n 's/^test result: ok. \([0-9]*\).*/\1/p' "$RESULTS/$program.log") tests"
}
proof kvm_tiny
proof kvm_app negotiating_a_disk depth_one kvm_counts guest_that_lacks two_guests

# The program itself, on a log disk, as a user would.
dd if=/dev/zero of="$SCRATCH/disk" bs=1M count=8 2>/dev/null
for cpl in 3 0; do
    ./pvkit run --kernel images/unikernel --cmdline "app=bench depth=8 requests=2000 op=write" --memory 64M --cpl $cpl \
        --disk path="$SCRATCH/disk" --console stdio --stats >"$RESULTS/bench-$cpl.log" 2>&1 </dev/null ||
        { tail -n 40 "$RESULTS/bench-$cpl.log"; fail "pvkit run at CPL $cpl"; }
    echo "scenario: CPL $cpl: $(grep -m1 requests= "$RESULTS/bench-$cpl.log")"
done
