# SPDX-License-Identifier: MIT
"""A daemon with ksmd-fs mounted, for tests of what is seen through the view.

Everything is mounted in a mount namespace of the test's own.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from rig import BUILD, DAEMON, KERNEL, PATIENCE

CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x4000 | 0x40000


def await_(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain: " + what)
        time.sleep(0.01)


def result(call):
    """What a call returns, or the name of its error."""
    try:
        return call()
    except OSError as e:
        return errno.errorcode[e.errno]


def store(path, value):
    """One write(2) of a file opened for nothing else."""
    def run():
        fd = os.open(path, os.O_WRONLY)
        try:
            return os.write(fd, value)
        finally:
            os.close(fd)
    return result(run)


def load(path):
    return result(lambda: path.read_text(encoding="latin1"))


def own_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "mount namespace")


def as_user(uid, command):
    return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "sh",
                           "-c", command], capture_output=True, text=True, check=False)


WHY_NOT = None
if os.geteuid() != 0:
    WHY_NOT = "mounting for all users takes root"
elif not os.path.exists("/dev/fuse"):
    WHY_NOT = "/dev/fuse is not there"
elif not (BUILD / "ksmd-fs").exists():
    WHY_NOT = "ksmd-fs is not built"


@unittest.skipIf(WHY_NOT, WHY_NOT)
class Fixture(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ksmd-test."))
        self.addCleanup(shutil.rmtree, self.dir, True)
        os.chmod(self.dir, 0o755)
        self.run_dir = self.dir / "run"
        self.mnt = self.dir / "mnt"
        self.mnt.mkdir()
        self.ksm = self.mnt / "kernel/mm/ksm"
        self.start_daemon()
        self.view = subprocess.Popen([BUILD / "ksmd-fs", "-f", "--runtime-dir", self.run_dir,
                                      self.mnt])
        self.addCleanup(self.end_view)
        await_("the mount", self.ksm.is_dir)

    def end_view(self):
        subprocess.run(["umount", "-l", self.mnt], check=False)
        self.view.wait(PATIENCE)

    def start_daemon(self):
        self.daemon = subprocess.Popen([DAEMON, "--runtime-dir", self.run_dir],
                                       stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, self.daemon)
        await_("the daemon", lambda: subprocess.run(
            [BUILD / "ksmdctl", "--runtime-dir", self.run_dir, "get", "ksm/run"],
            capture_output=True, check=False).returncode == 0)

    def end(self, process):
        process.kill()
        process.wait(PATIENCE)

    def ctl(self, *args):
        return subprocess.run([BUILD / "ksmdctl", "--runtime-dir", self.run_dir, *args],
                              capture_output=True, text=True, check=True).stdout

    def program(self, code, *options):
        """A Python program that is merged; it says a line when it has done `code`, and waits."""
        p = subprocess.Popen([BUILD / "ksm-run", *options, sys.executable, "-c",
                              code + "\nprint('ready', flush=True)\nimport sys\nsys.stdin.read()"],
                             env={**os.environ, "KSMD_RUNTIME_DIR": str(self.run_dir)},
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stdin.close)
        self.addCleanup(self.end, p)
        self.assertEqual(p.stdout.readline(), "ready\n")
        return p

    @contextlib.contextmanager
    def over_the_kernels_place(self):
        if not KERNEL.is_dir():
            self.skipTest("the kernel has no KSM")
        subprocess.run(["mount", "--bind", self.ksm, KERNEL], check=True)
        try:
            yield KERNEL
        finally:
            subprocess.run(["umount", KERNEL], check=True)
