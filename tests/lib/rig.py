# SPDX-License-Identifier: MIT
"""Where things are, and a directory of its own for each test, with what it starts there."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build")).resolve()
DAEMON = os.environ.get("KSM_DAEMON", str(BUILD / "ksmd-user"))
KERNEL = pathlib.Path("/sys/kernel/mm/ksm")
PATIENCE = 60  # seconds; everything waited for takes a fraction of one on an idle machine


class Rig(unittest.TestCase):
    """What a test starts ends with it. The daemon's runtime directory is `run`, in `dir`."""

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ksmd-test."))
        self.addCleanup(shutil.rmtree, self.dir, True)
        os.chmod(self.dir, 0o755)

    def start(self, command, **how):
        p = subprocess.Popen(command, **how)
        self.addCleanup(p.wait, PATIENCE)
        self.addCleanup(p.kill)
        return p

    def wait(self, what, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.01)

    def ctl(self, *args, **how):
        return subprocess.run([BUILD / "ksmdctl", "--runtime-dir", self.dir / "run", *args],
                              capture_output=True, text=True, check=False, **how)

    def get(self, path):
        return self.ctl("get", path).stdout.rstrip("\n")
