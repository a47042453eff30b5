#!/bin/sh
# What a stock kernel does as a guest with a virtio disk and a virtio network card.
[ -b /dev/vda ] || { echo "no virtio disk"; exit 1; }
dd if=/dev/vda bs=4k count=256 2>/dev/null | sha256sum
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ping -c 1 -W 10 10.0.2.2 | grep 'bytes from'
