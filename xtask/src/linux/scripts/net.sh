#!/bin/sh
# The stock kernels with pvkit's network devices: one on a user network, one on a TAP with this machine behind it.
. ./words.sh

[ -c /dev/net/tun ] || { mkdir -p /dev/net && mknod /dev/net/tun c 10 200; }
tunctl -t tap0 >/dev/null
ip link set tap0 mtu 9000
ip addr add 10.9.0.1/24 dev tap0
ip addr add fd09::1/64 dev tap0
ip link set tap0 up

# What the guest asks for: files, and words that it says.
mkdir -p "$SCRATCH/www/cgi-bin" /tools
for megabytes in 8 64; do
    dd if=/dev/urandom of="$SCRATCH/www/data$megabytes" bs=1M count=$megabytes 2>/dev/null
    sha256sum <"$SCRATCH/www/data$megabytes" >"$SCRATCH/www/sum$megabytes"
done
echo small >"$SCRATCH/www/small"
cat >"$SCRATCH/www/cgi-bin/do" <<'CGI'
#!/bin/sh
printf 'Content-type: text/plain\r\n\r\n'
case $QUERY_STRING in
ping) ping -c 2000 -A -q 10.9.0.2 | tail -n 2 ;;
fetch) wget -q -O - http://10.9.0.2:8080/data | sha256sum ;;
fetch6) wget -q -O - http://[fd09::2]:8080/data | sha256sum ;;
esac
CGI
chmod 755 "$SCRATCH/www/cgi-bin/do"
httpd -p 8080 -h "$SCRATCH/www"
losetup /dev/loop0 tools.img && mount -t ext4 -o ro /dev/loop0 /tools || fail 'no tools'
for folder in dev proc sys tmp; do mount --bind /$folder /tools/$folder; done
chroot /tools /usr/bin/iperf3 -s -D

# run KERNEL NAME LOAD CPUS NET-OPTIONS OPTION..
run() {
    folder=guests/net/$1 log=$RESULTS/$2.log load=$3 cpus=$4 options=$5
    name=$2
    shift 5
    began=$(cut -d' ' -f1 /proc/uptime)
    timeout -s KILL 450 ./pvkit run --kernel "$folder/vmlinuz" --initramfs "$folder/initramfs" --memory 512M --cpus "$cpus" \
        --stats --serial "file=$log" --disk path=tools.img,readonly=on --net user --net "tap=tap0,mtu=9000,queues=$cpus$options" "$@" \
        --cmdline "console=ttyS0 quiet panic=-1 mitigations=off pvkit_limit=420 pvkit_load=$load" \
        >"$RESULTS/$name.pvkit.log" 2>&1 </dev/null ||
        { tail -n 30 "$log" "$RESULTS/$name.pvkit.log"; fail "$name: pvkit ended with status $?"; }
    says "$log" 'pvkit-init: status 0'
    echo "scenario: $name: from $began to $(cut -d' ' -f1 /proc/uptime) s; $(grep 'KVM statistics' "$RESULTS/$name.pvkit.log")"
    sed -n 's/^FIGURE/scenario:   /p' "$log" | tr -d '\r'
}

for folder in guests/net/*; do
    kernel=${folder##*/}
    load=light
    [ "$kernel" = 6.1-cloud ] && load=full
    run "$kernel" "$kernel-ram" $load 2 ''
    run "$kernel" "$kernel-window" light 4 '' --window 32M
    [ $load = full ] && run "$kernel" "$kernel-plain" light 1 ,offloads=off --window 32M
done
