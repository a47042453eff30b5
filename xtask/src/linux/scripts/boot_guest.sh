#!/bin/sh
# To user space, and what the kernel command line asks for there:
#   pvkit_task=files   files on the root, a disk of the host's; a name on its network, its console
#   pvkit_task=again   a restart, once: what is on the root tells the second start
case $pvkit_task in
files)
    grep ' / ext4 rw' /proc/mounts || exit 1
    [ -c /dev/pvc0 ] && ls /sys/class/net/eth0 || exit 1
    dd if=/dev/urandom of=/kept bs=64k count=64 && sync && sha256sum /kept || exit 1
    ;;
again)
    [ -e /was-here ] && echo "the second start" && exit
    touch /was-here
    sync
    echo "the first start"
    reboot -f
    ;;
esac
