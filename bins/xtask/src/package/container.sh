#!/bin/sh
# Boots systemd in a container on a copy-on-write view of this machine, without its network, and runs inside.sh there.
# Usage, in a mount namespace of its own: container.sh DIRECTORY FIRST.deb SECOND.deb INSIDE.sh
set -eu
directory=$1
mount -t tmpfs tmpfs "$directory"
mkdir "$directory/changes" "$directory/work" "$directory/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/changes,workdir=$directory/work" "$directory/root"
root=$directory/root
mkdir -p "$root/packages"
cp "$2" "$root/packages/first.deb"
cp "$3" "$root/packages/second.deb"
cp "$4" "$root/packages/inside.sh"
cat > "$root/etc/systemd/system/package-test.service" << 'END'
[Unit]
Description=Test of the package
After=basic.target

[Service]
Type=oneshot
StandardOutput=file:/packages/log
StandardError=file:/packages/log
ExecStart=/bin/bash /packages/inside.sh
ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS > /packages/status; systemctl --no-block --force poweroff'
TimeoutStartSec=180
END
# Nothing of the machine's own is started.
mkdir -p "$root/etc/systemd/system/basic.target.wants"
ln -sf ../package-test.service "$root/etc/systemd/system/basic.target.wants/package-test.service"
ln -sf /dev/null "$root/etc/systemd/system/timers.target"
# A container image of Debian forbids packages to start services.
rm -f "$root/usr/sbin/policy-rc.d"
timeout --kill-after 10 240 systemd-nspawn --quiet --directory "$root" --register=no --keep-unit --private-network \
    --link-journal=no --boot systemd.unit=basic.target > "$root/packages/boot" 2>&1 < /dev/null || true
if [ ! -e "$root/packages/log" ]; then
    echo "systemd does not boot here"
    tail -n 20 "$root/packages/boot"
    exit 1
fi
cat "$root/packages/log"
exit "$(cat "$root/packages/status" 2> /dev/null || echo 1)"
