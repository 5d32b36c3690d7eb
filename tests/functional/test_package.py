# SPDX-License-Identifier: MIT
"""The Debian packages, and `make install`: built, installed, used, and gone without a trace.

All of it happens in a root of its own, an overlay over the machine's in a mount and pid namespace,
where no service manager runs. So what the manager and udev would do (start the command of the unit
as the unit's user, give it the device) is done by hand there.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build")).resolve()
LIMIT = 240  # seconds for each test

# A root to change at will. Arguments: a directory, where the packages are, the script to run there,
# this tree (which may lie below what is another's there), and the script's own.
ROOT = r"""
set -e
dir=$1
mount -t tmpfs tmpfs "$dir"
mkdir "$dir"/up "$dir"/work "$dir"/root
R=$dir/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/up,workdir=$dir/work" "$R"
mount -t proc proc "$R/proc"
mount -t sysfs -o ro sysfs "$R/sys"
for d in run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$R/$d"; done
chmod 755 "$R/run"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
for d in null zero full random urandom tty fuse; do
	[ ! -e "/dev/$d" ] || { touch "$R/dev/$d"; mount --bind "/dev/$d" "$R/dev/$d"; }
done
ln -s /proc/self/fd "$R/dev/fd"
mknod -m 600 "$R/dev/userfaultfd" c 10 "$(awk '$2 == "userfaultfd" { print $1 }' /proc/misc)"
mkdir "$R/tmp/given"
mount --bind "$2" "$R/tmp/given"
mkdir -p "$R$4"
mount --bind "$4" "$R$4"
printf '%s' "$3" >"$R/tmp/script"
cd "$R"
mkdir -p mnt/old
pivot_root . mnt/old # the kernel makes no user namespace for a process that was chrooted
umount -l mnt/old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
	LC_ALL=C.UTF-8 bash -e /tmp/script "${@:4}"
"""

# What both ways of installing are used for. Expects $as (a command that becomes a client's user).
USE = r"""
cat >/tmp/work.py <<X
import mmap, time
m = mmap.mmap(-1, 4096 * 1024, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(1024): m[i * 4096:i * 4096 + 8] = b'%08d' % i
time.sleep(1000)
X
waited()
{
	local i
	for i in $(seq 600); do
		! "$@" || return 0
		sleep 0.1
	done
	echo "in vain: $*"
	exit 1
}
serves() { ksmdctl get daemon/version >/dev/null 2>&1; }
merged() { [ "$(ksmdctl get ksm/pages_sharing)" -ge 1024 ]; }
use()
{
	waited serves
	$as ksm-run /usr/bin/python3 -S /tmp/work.py &
	$as ksm-run /usr/bin/python3 -S /tmp/work.py &
	waited merged
	ksmdctl status | grep -q '^saved  *[0-9.]* MiB net'
	cat >/tmp/example.c <<-X
	#include <ksm.h>
	#include <stdio.h>
	#include <sys/mman.h>
	#include <unistd.h>
	int main(void)
	{
		struct ksm_stat st = { .size = sizeof(st) };
		char *p = ksm_mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		p[0] = 1;
		ksm_madvise(p, 1 << 20, MADV_MERGEABLE);
		for (int i = 0; i < 10000 && !st.connected; i++) {
			usleep(1000);
			ksm_stat(&st);
		}
		printf("connected %u\n", st.connected);
		return !st.connected;
	}
	X
	for kind in '' -static; do
		cc -Wall -Werror $kind -o /tmp/example /tmp/example.c \
			$(pkg-config ${kind:+--static} --cflags --libs libksm)
		$as /tmp/example
	done
	mkdir -p /tmp/view
	if [ -e /dev/fuse ]; then
		ksmd-fs /tmp/view
		[ "$(cat /tmp/view/kernel/mm/ksm/pages_sharing)" -ge 1024 ]
		umount /tmp/view
	fi
	for p in ksmdctl ksm-run ksmd-user ksmd-fs ksm-bench; do
		$p --help | grep -qi "^usage: $p"
		ls "$1"/man?/$p.?* >/dev/null
	done
	ls "$1"/man3/libksm.3* >/dev/null
}
"""

PACKAGE = USE + r"""
dpkg --no-triggers -i $(ls /tmp/given/*.deb | grep -v dbgsym)
dpkg -L ksmd-user ksmd-fs libksm0 libksm-dev | sort -u >/tmp/files
getent passwd ksmd-user >/dev/null && getent group ksm >/dev/null
[ "$(stat -c %U:%a /run/ksmd-user)" = ksmd-user:755 ]
chown ksmd-user /dev/userfaultfd # as the udev rule says
grep -q 'OWNER="ksmd-user"' /lib/udev/rules.d/60-ksmd-user.rules
grep -q '^vm.max_map_count *= *1048576$' /usr/lib/sysctl.d/50-ksmd-user.conf
useradd --no-create-home --groups ksm member
as='setpriv --reuid member --regid member --init-groups'
caps=+sys_nice,+sys_ptrace
command=$(sed -n 's/^ExecStart=//p' /lib/systemd/system/ksmd-user.service)
cat >/tmp/activate.py <<X
import os, re, socket, sys
fds = []
for kind, path in re.findall("^Listen(.*)=(.*)$", open(sys.argv[1]).read(), re.M):
    s = socket.socket(socket.AF_UNIX, {"Stream": socket.SOCK_STREAM,
                                       "SequentialPacket": socket.SOCK_SEQPACKET}[kind])
    s.bind(path)
    os.chmod(path, 0o666)
    s.listen(100)
    fds.append(os.dup2(s.fileno(), 100 + len(fds)))
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i)
    os.close(fd)
os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
X
/usr/bin/python3 /tmp/activate.py /lib/systemd/system/ksmd-user.socket \
	setpriv --reuid ksmd-user --regid ksm --init-groups --inh-caps=$caps \
	--ambient-caps=$caps --bounding-set=-all,$caps --no-new-privs $command &
daemon=$!
use /usr/share/man
bash --norc -c 'source /usr/share/bash-completion/completions/ksm-run && complete -p ksmdctl'
kill $daemon
wait $daemon
dpkg --no-triggers -P ksmd-fs libksm-dev libksm0 ksmd-user
while read -r f; do
	[ -d "$f" ] || ! [ -e "$f" -o -L "$f" ] || { echo "left: $f"; exit 1; }
done </tmp/files
! ls -d /etc/ksmd-user /usr/share/ksmd-user /usr/lib/ksmd-user /usr/share/doc/*ksm* 2>/dev/null
echo "all went well"
"""

INSTALLED = USE + r"""
top=$1 build=$2
before() { find /opt /usr /etc -xdev \( -name '*ksm*' \) | sort; }
before >/tmp/before
make -C "$top" BUILD="$build" PREFIX=/opt/ksm install >/dev/null
PATH=/opt/ksm/bin:$PATH
export PKG_CONFIG_PATH=/opt/ksm/lib/pkgconfig LD_LIBRARY_PATH=/opt/ksm/lib
as=
ksmd-user &
daemon=$!
use /opt/ksm/share/man
kill $daemon
wait $daemon
make -C "$top" BUILD="$build" PREFIX=/opt/ksm uninstall
before >/tmp/after
diff <(grep -v '^/opt/ksm$' /tmp/before) <(grep -v '^/opt/ksm$' /tmp/after)
! find /opt/ksm ! -type d | grep .
echo "all went well"
"""


def cannot():
    """None, or why there is no such root here."""
    if os.geteuid():
        return "only root can make a root of its own"
    missing = [t for t in ("dpkg-buildpackage", "dh", "lintian", "unshare", "setpriv", "useradd",
                           "systemd-sysusers", "pkg-config") if not shutil.which(t)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if not (BUILD / "libksm-preload.so").exists():
        return "not built with a sanitizer"
    with open("/proc/filesystems", encoding="ascii") as known:
        return None if "overlay" in known.read().split() else "no overlayfs"


@unittest.skipIf(cannot(), cannot())
class Package(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ksmd-test."))
        self.addCleanup(shutil.rmtree, self.dir, True)

    def in_own_root(self, script, given, *args):
        root = self.dir / "own"
        root.mkdir()
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--kill-child",
             "--propagation", "private", "bash", "-c", ROOT, "root", root, given, script, TOP,
             *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=LIMIT, check=False)
        if "overlay" in done.stdout and "mount" in done.stdout and done.returncode == 32:
            self.skipTest("no overlay over this root: " + done.stdout.strip()[-150:])
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1:]), (0, ["all went well"]),
                         done.stdout)

    def test_debian(self):
        out = self.dir / "deb"
        done = subprocess.run([TOP / "tools" / "packaging" / "deb.sh", out], capture_output=True,
                              env={**os.environ, "DEB_BUILD_OPTIONS": "noautodbgsym"},
                              text=True, timeout=LIMIT, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        names = {re.sub("_.*", "", p.name) for p in out.glob("*.deb")}
        self.assertLessEqual({"ksmd-user", "ksmd-fs", "libksm0", "libksm-dev"}, names)
        shutil.rmtree(out / "ksmd-user")
        checked = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning",
                                  *out.glob("*.changes")], capture_output=True, text=True,
                                 timeout=LIMIT, check=False)
        self.assertEqual((checked.returncode, checked.stdout), (0, ""), checked.stderr)
        self.in_own_root(PACKAGE, out)

    def test_make_install(self):
        self.in_own_root(INSTALLED, self.dir, os.path.relpath(BUILD, TOP))


if __name__ == "__main__":
    checkline.main()
