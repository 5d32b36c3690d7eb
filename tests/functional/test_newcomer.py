# SPDX-License-Identifier: MIT
"""What somebody meets who has never used it: where the daemon is looked for, and what is said.

The test has a /run of its own, in a mount namespace, so that it plays the machine's daemon there.
"""

import ctypes
import os
import pathlib
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
DAEMON = os.environ.get("KSM_DAEMON", str(BUILD / "ksmd-user"))
PATIENCE = 30  # seconds; everything waited for takes a fraction of one on an idle machine
USER = 12345
CLONE_NEWNS = 0x20000
HAVE_RUN = (BUILD / "libksm-preload.so").exists()  # not built with a sanitizer


def own_mounts():
    """A private /run. False: this process may not have one."""
    if os.geteuid() or ctypes.CDLL(None).unshare(CLONE_NEWNS):
        return False
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
    return True


@unittest.skipUnless(own_mounts(), "a /run of its own takes root")
class Newcomer(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ksmd-test."))
        self.addCleanup(shutil.rmtree, self.dir, True)
        os.chmod(self.dir, 0o755)

    def daemon(self, runtime_dir):
        p = subprocess.Popen([DAEMON, "--runtime-dir", runtime_dir, "--allow-group", str(USER)],
                             stderr=subprocess.DEVNULL)
        self.addCleanup(p.wait, PATIENCE)
        self.addCleanup(p.terminate)
        self.wait(lambda: self.user("ksmdctl", "--runtime-dir", runtime_dir, "get",
                                    "daemon/pid").stdout == f"{p.pid}\n")
        return p

    def wait(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def environment(self, xdg):
        env = {k: v for k, v in os.environ.items() if k not in ("KSMD_RUNTIME_DIR", "KSM_DOMAIN",
                                                               "XDG_RUNTIME_DIR")}
        return {**env, "XDG_RUNTIME_DIR": str(xdg)} if xdg else env

    def user(self, tool, *args, xdg=None):
        return subprocess.run([BUILD / tool, *args], user=USER, group=USER, extra_groups=[],
                              env=self.environment(xdg), capture_output=True, text=True,
                              check=False)

    def pid_for(self, xdg):
        return self.user("ksmdctl", "get", "daemon/pid", xdg=xdg).stdout

    def test_ones_own_daemon_else_roots(self):
        roots = self.daemon("/run/ksmd-user")
        self.assertEqual(self.pid_for(None), f"{roots.pid}\n")
        self.assertEqual(self.pid_for(self.dir), f"{roots.pid}\n")
        own = self.daemon(self.dir / "ksmd-user")
        self.assertEqual(self.pid_for(self.dir), f"{own.pid}\n")
        self.assertEqual(self.pid_for(None), f"{roots.pid}\n")
        own.kill()  # its sockets stay, and nobody listens there
        own.wait(PATIENCE)
        self.assertEqual(self.pid_for(self.dir), f"{roots.pid}\n")
        # Whoever names a directory means that one.
        done = self.user("ksmdctl", "--runtime-dir", self.dir / "ksmd-user", "get", "daemon/pid")
        self.assertEqual(done.returncode, 3)

    def test_it_is_said_where_none_was_found(self):
        done = self.user("ksmdctl", "status", xdg=self.dir)
        self.assertEqual(done.returncode, 3)
        self.assertIn(f"{self.dir}/ksmd-user/control.sock", done.stderr)
        self.assertIn("/run/ksmd-user/control.sock", done.stderr)

    @unittest.skipUnless(HAVE_RUN, "not built with a sanitizer")
    def test_clients_find_roots_daemon(self):
        self.daemon("/run/ksmd-user")
        for xdg in (None, self.dir):
            p = subprocess.Popen([BUILD / "ksm-run", "perl", "-e",
                                  "$x = 1 x 4000000; sleep 600"], user=USER, group=USER,
                                 extra_groups=[], env=self.environment(xdg),
                                 stderr=subprocess.PIPE, text=True)
            self.addCleanup(p.wait)
            self.addCleanup(p.kill)
            self.wait(lambda p=p: self.user("ksmdctl", "get",
                                            f"client/{p.pid}/comm").stdout == "perl\n")
            p.kill()
            self.assertEqual(p.communicate()[1], "")

    @unittest.skipUnless(HAVE_RUN, "not built with a sanitizer")
    def test_ksm_run_says_that_there_is_none(self):
        done = self.user("ksm-run", "sh", "-c", "exit 7")
        self.assertEqual(done.returncode, 7)
        self.assertRegex(done.stderr, r"^ksm-run: warning: no daemon at /run/ksmd-user/client.sock"
                                      r" \(No such file or directory\): .*\n$")
        (self.dir / "x").mkdir()
        done = self.user("ksm-run", "--runtime-dir", self.dir / "x", "true")
        self.assertRegex(done.stderr, rf"^ksm-run: warning: no daemon at {self.dir}/x/.*\n$")

    def said_with(self, prepare):
        """What the daemon says that starts after `prepare`, in mounts of its own."""
        done = subprocess.run(["unshare", "--mount", "sh", "-c", prepare + '; exec "$@"', "sh",
                               DAEMON, "--runtime-dir", self.dir / "run"],
                              capture_output=True, text=True, check=False, timeout=PATIENCE)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_what_is_missing_is_named(self):
        """A container's /dev is not an old kernel, and a denied device is not a file's mode."""
        said = self.said_with("mount -t tmpfs tmpfs /dev")
        self.assertIn("although the kernel has it", said)
        self.assertIn("container", said)
        said = self.said_with("mount -t tmpfs tmpfs /dev; mount -t tmpfs tmpfs /proc")
        self.assertIn("mount procfs on /proc", said)
        said = self.said_with("mount -t tmpfs tmpfs /mnt; echo >/mnt/misc; "
                              "mount -t tmpfs tmpfs /dev; mount --bind /mnt/misc /proc/misc")
        self.assertIn("came with Linux 6.1", said)
        done = subprocess.run([DAEMON, "--runtime-dir", self.dir / "own"], capture_output=True,
                              user=USER, group=USER, extra_groups=[], text=True, check=False,
                              timeout=PATIENCE)
        self.assertIn(f"setfacl -m u:{USER}:rw", done.stderr)


if __name__ == "__main__":
    checkline.main()
