#!/bin/bash
# Runs as root in a container that systemd has booted: installs, upgrades, removes and purges the package, and looks at what
# the service does in the sandbox of its unit. Ends at the first surprise.
set -euo pipefail

fail() {
    echo "FAILED: $*"
    systemctl --no-pager --full status pingexporter || true
    journalctl --no-pager --lines 40 || true
    exit 1
}

# Waits until a command succeeds, for 30 seconds at most.
await() {
    for _ in $(seq 150); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.2
    done
    fail "waited in vain for: $*"
}

main() { systemctl show --property MainPID --value pingexporter; }
property() { systemctl show --property "$1" --value pingexporter; }

# What is served at a port.
get() {
    exec 3<> "/dev/tcp/127.0.0.1/$1"
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
    cat <&3
    exec 3>&-
}
is_up() { get "$1" /metrics | grep -q "^ping_up{.*device=\"$2\".*} 1"; }

echo "install"
dpkg --install /packages/first.deb
# Active means ready here: the unit waits for the program to say so.
systemctl is-active pingexporter || fail "it does not run after the installation"
systemctl is-enabled pingexporter
await is_up 9516 localhost
await is_up 9516 "localhost (IPv6)"
getcap /usr/bin/pingexporter | grep -q cap_net_raw || fail "the program's file has no capability"
man -w pingexporter > /dev/null || fail "no man page"

echo "rights"
for status in /proc/"$(main)"/task/*/status; do
    grep -q '^CapPrm:\s0000000000000000' "$status" || fail "capabilities in $status: $(cat "$status")"
    grep -q '^NoNewPrivs:\s1' "$status" || fail "no_new_privs in $status"
    grep -q '^Seccomp:\s2' "$status" || fail "no filter of system calls in $status"
done
# By raw sockets, since the kernel's default closes the others to the service.
[ "$(sysctl -n net.ipv4.ping_group_range)" = "1	0" ] || sysctl -q -w net.ipv4.ping_group_range="1 0"

echo "reload"
cat > /etc/pingexporter/configs/more.json << 'END'
{ "conf": { "prom_id": "more", "interval": 1 },
  "jobs": [{ "job": "marked", "ip": "127.0.0.3", "metrics": [{ "ping": { "dscp": 46 } }] }] }
END
before=$(main)
systemctl reload pingexporter
await is_up 9516 marked
echo "{ nonsense" > /etc/pingexporter/configs/more.json
systemctl reload pingexporter
await sh -c 'journalctl --unit pingexporter | grep -q "not in order"'
systemctl is-active pingexporter || fail "a bad configuration ends it"
[ "$(main)" = "$before" ] || fail "it was started again by a reload"
rm /etc/pingexporter/configs/more.json

echo "watchdog"
mkdir -p /run/systemd/system/pingexporter.service.d
printf '[Service]\nWatchdogSec=3\nRestartSec=0\n' > /run/systemd/system/pingexporter.service.d/fast.conf
systemctl daemon-reload
systemctl restart pingexporter
before=$(main)
fed=$(property WatchdogTimestampMonotonic)
await sh -c "[ \"\$(systemctl show --property WatchdogTimestampMonotonic --value pingexporter)\" -gt $((fed + 4000000)) ]"
[ "$(main)" = "$before" ] || fail "the watchdog ended a program that is alive"
kill -STOP "$before"
await sh -c "[ \"\$(systemctl show --property NRestarts --value pingexporter)\" = 1 ]"
await systemctl is-active pingexporter
[ "$(main)" != "$before" ] || fail "a program that hangs was not started again"
await is_up 9516 localhost

echo "upgrade"
echo "PINGEXPORTER_LISTEN=127.0.0.1:9517" >> /etc/default/pingexporter
before=$(main)
dpkg --install /packages/second.deb
systemctl is-active pingexporter || fail "it does not run after the upgrade"
[ "$(main)" != "$before" ] || fail "the upgrade left the old program running"
await is_up 9517 localhost

echo "remove"
dpkg --remove pingexporter
[ "$(property ActiveState)" != active ] || fail "it runs after the removal"
[ -e /etc/default/pingexporter ] || fail "the removal took the configuration"
dpkg --purge pingexporter
[ ! -e /etc/default/pingexporter ] || fail "the purge left configuration"
[ ! -e /etc/pingexporter ] || fail "the purge left /etc/pingexporter"
echo "ALL DONE"
