#!/bin/sh
# A module that the lane built, on this stock kernel: loads, probes QEMU's test device, unloads.
. ./words.sh
insmod ./hello_pci.ko || fail "insmod"
dmesg >"$SCRATCH/log"
says "$SCRATCH/log" 'hello_pci: probed'
rmmod hello_pci || fail "rmmod"
dmesg >"$SCRATCH/log"
says "$SCRATCH/log" 'hello_pci: removed'
! dmesg | grep -e 'WARNING' -e 'BUG:' -e 'Oops' || fail "the kernel complains"
echo "scenario: $(uname -r): loaded, probed, removed; taint $(cat /proc/sys/kernel/tainted)"
