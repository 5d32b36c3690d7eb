# SPDX-License-Identifier: MIT
"""The unit under a real systemd: pid 1 of a machine of its own, made of namespaces and an overlay.

The machine boots once, with the unit and its socket as they are packaged, and runs the commands
below. Their output is what the tests look at. systemd shortens the watchdog's time to WATCHDOG
seconds, in a drop-in; nothing else of the unit is changed. udev does not run there, so the device's
owner, which a rule sets, is set by hand.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build")).resolve()
SYSTEMD = "/lib/systemd/systemd"
WATCHDOG = 3
BOOT_SECONDS = 120  # it takes ten

# As root in new namespaces: a file system to change at will, and systemd on it. pivot_root, because
# the kernel makes no user namespace for a process that was chrooted.
BOOT = r"""
set -e
dir=$1 build=$2 units=$3
mount -t tmpfs tmpfs "$dir"
mkdir "$dir"/up "$dir"/work "$dir"/root
R=$dir/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/up,workdir=$dir/work" "$R"
mount -t proc proc "$R/proc"
mount -t sysfs -o ro sysfs "$R/sys"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mkdir "$R/sys/fs/cgroup/$7"
echo $$ >"$R/sys/fs/cgroup/$7/cgroup.procs"
umount "$R/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$R/run"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
mkdir "$R/dev/pts" "$R/dev/shm"
for d in null zero full random urandom tty; do
	touch "$R/dev/$d"
	mount --bind "/dev/$d" "$R/dev/$d"
done
ln -s /proc/self/fd "$R/dev/fd"
mknod -m 600 "$R/dev/userfaultfd" c 10 "$(awk '$2 == "userfaultfd" { print $1 }' /proc/misc)"
touch "$R/dev/out"
mount --bind "$4" "$R/dev/out"
install "$build/ksmd-user" "$build/ksmdctl" "$build/ksm-run" "$R/usr/bin/"
install -D "$build/libksm-preload.so" "$R/usr/lib/ksmd-user/libksm-preload.so"
E=$R/etc/systemd/system
rm -rf "$E"/*
mkdir -p "$E/ksmd-user.service.d"
cp "$units/ksmd-user.service" "$units/ksmd-user.socket" "$E/"
printf '[Service]\nWatchdogSec=%s\n' "$6" >"$E/ksmd-user.service.d/short.conf"
cp "$units/ksmd-user.sysusers" "$R/usr/lib/sysusers.d/ksmd-user.conf"
cp "$units/ksmd-user.tmpfiles" "$R/usr/lib/tmpfiles.d/ksmd-user.conf"
mkdir "$E/work.service.d"
cp "$units/ksm-run.conf" "$E/work.service.d/"
printf '[Service]\nUser=member\nExecStart=/usr/bin/python3 /tmp/work.py\n' >"$E/work.service"
printf '%s' "$5" >"$R/root/check.sh"
cat >"$E/check.service" <<X
[Service]
Type=oneshot
ExecStart=/bin/bash /root/check.sh
StandardOutput=append:/dev/out
StandardError=append:/dev/out
X
cat >"$E/check.target" <<X
[Unit]
Requires=ksmd-user.socket
Wants=check.service
After=ksmd-user.socket
X
chroot "$R" systemd-sysusers ksmd-user.conf
chroot "$R" useradd --no-create-home --groups ksm member
chroot "$R" useradd --no-create-home stranger
chroot "$R" chown ksmd-user /dev/userfaultfd
mkdir -p "$R/mnt/old"
cd "$R"
pivot_root . mnt/old
umount -l mnt/old
exec unshare --cgroup sh -c 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' machine \
	env -i container=ksm-test PATH="$PATH" \
	"$SYSTEMD" --system --unit=check.target --show-status=no
"""

# The machine's groups, which outlive it. The path is of the host's hierarchy.
TIDY = r"""
mount -t cgroup2 cgroup2 "$1"
for i in $(seq 50); do
	find "$1/$2" -depth -type d -exec rmdir {} + 2>/dev/null
	[ -d "$1/$2" ] || break
	sleep 0.1
done
"""

# What happens in the machine: "== NAME" and then what a test looks at.
CHECK = r"""
export KSMD_RUNTIME_DIR=/run/ksmd-user
cat >/root/work.py <<X
import mmap, time
m = mmap.mmap(-1, 4096 * 2048, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(2048): m[i * 4096:i * 4096 + 8] = b'%08d' % i
time.sleep(1000)
X
cp /root/work.py /tmp/work.py
merged()
{
	local s
	for i in $(seq 300); do
		s=$(ksmdctl get ksm/pages_sharing 2>/dev/null)
		[ "${s:-0}" -gt 2000 ] && break
		sleep 0.1
	done
	echo "${s:-0}"
}
daemon() { systemctl show -p MainPID --value ksmd-user; }
as() { setpriv --reuid "$1" --regid "$1" --init-groups "${@:2}"; }

echo "== before"
systemctl is-active ksmd-user.service
ksmdctl get daemon/version
echo "== after"
systemctl is-active ksmd-user.service
pid=$(daemon)
grep -E '^(Uid|NoNewPrivs|Seccomp):' /proc/$pid/status
echo "== merged"
for i in 1 2; do as member ksm-run python3 /tmp/work.py & done
merged
echo "== service"
systemctl start work.service
pid=$(systemctl show -p MainPID --value work.service)
for i in $(seq 300); do
	n=$(ksmdctl get client/$pid/ksm_merging_pages 2>/dev/null)
	[ "${n:-0}" -gt 2000 ] && break
	sleep 0.1
done
echo "${n:-0}"
systemctl stop work.service
pid=$(daemon)
echo "== stranger"
as stranger ksm-run python3 /tmp/work.py &
for i in $(seq 100); do
	n=$(ksmdctl get ksm/clients_refused)
	[ "$n" -gt 0 ] && break
	sleep 0.1
done
echo "$n"
echo "== hangs"
kill -STOP $pid
for i in $(seq 300); do now=$(daemon); [ $now != $pid ] && [ $now != 0 ] && break; sleep 0.1; done
[ $now != $pid ] && [ $now != 0 ] && echo another
merged
echo "== stopped"
systemctl stop ksmd-user.service 2>/dev/null
systemctl show -p Result,ActiveState ksmd-user
echo "== again"
ksmdctl get daemon/version
merged
echo "== log"
journalctl --no-pager -o cat -t ksmd-user -u ksmd-user
echo "== end"
"""


def can_boot():
    """None, or why the machine cannot be made here."""
    if os.geteuid():
        return "only root can make the machine"
    missing = [tool for tool in (SYSTEMD, "unshare", "pivot_root", "systemd-sysusers", "useradd",
                                 "setpriv") if not shutil.which(tool)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if b"__asan_init" in (BUILD / "ksmd-user").read_bytes() or \
            b"__tsan_init" in (BUILD / "ksmd-user").read_bytes():
        return "a sanitizer does what the unit forbids"
    if not os.path.exists("/dev/userfaultfd"):
        return "there is no /dev/userfaultfd"
    with open("/proc/filesystems", encoding="ascii") as known:
        names = known.read().split()
    return None if {"overlay", "cgroup2"} <= set(names) else "no overlayfs, or no cgroup2"


def boot():
    """Run the machine until it has said all. Returns what it said, by section."""
    group = f"ksm-test-{os.getpid()}"
    with tempfile.TemporaryDirectory() as root, tempfile.NamedTemporaryFile("r") as out:
        machine = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--kill-child",
             "--propagation", "private", "bash", "-c", BOOT, "boot", root, BUILD,
             TOP / "tools" / "packaging", out.name, CHECK, str(WATCHDOG), group],
            env={**os.environ, "SYSTEMD": SYSTEMD},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        text, end = "", time.monotonic() + BOOT_SECONDS
        while "== end" not in text and machine.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
            text = pathlib.Path(out.name).read_text(encoding="utf-8", errors="replace")
        machine.kill()
        said = machine.communicate()[1]
        subprocess.run(["unshare", "--mount", "--propagation", "private", "bash", "-c", TIDY,
                        "tidy", root, group], check=False)
    if not text:
        raise unittest.SkipTest("the machine does not boot here: " + said.strip()[-200:])
    parts = re.split(r"^== (\w+)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2])), said


@unittest.skipIf(can_boot(), can_boot())
class Systemd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.said, cls.errors = boot()

    def part(self, name):
        self.assertIn(name, self.said, f"{self.said}\n{self.errors}")
        return self.said[name].split("\n")[:-1]

    def test_a_connection_starts_it(self):
        self.assertEqual(self.part("before")[0], "inactive")
        self.assertEqual(self.part("after")[0], "active")

    def test_it_is_confined(self):
        status = dict(re.split(r":\s+", line) for line in self.part("after")[1:])
        self.assertNotEqual(status["Uid"].split()[0], "0")
        self.assertEqual(status["Seccomp"], "2")

    def test_it_merges(self):
        self.assertGreater(int(self.part("merged")[0]), 2000)

    def test_a_drop_in_runs_a_service_under_ksm_run(self):
        self.assertGreater(int(self.part("service")[0]), 2000)

    def test_strangers_are_refused(self):
        self.assertGreater(int(self.part("stranger")[0]), 0)

    def test_the_watchdog_replaces_one_that_hangs(self):
        part = self.part("hangs")
        self.assertEqual(part[0], "another")
        self.assertGreater(int(part[1]), 2000)

    def test_it_stops_and_starts_again(self):
        self.assertEqual(self.part("stopped"), ["Result=success", "ActiveState=inactive"])
        self.assertGreater(int(self.part("again")[1]), 2000)

    def test_it_lacks_nothing(self):
        """Above all the vault: without it frames would be protected from other users only."""
        for line in self.part("log"):
            if line.startswith("ksmd-user:") and "connection refused" not in line:
                self.assertRegex(line, "^ksmd-user: info: ")


if __name__ == "__main__":
    checkline.main()
