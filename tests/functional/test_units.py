# SPDX-License-Identifier: MIT
"""The service unit: systemd knows every line of it, and calls it hardened."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402

UNITS = TOP / "tools" / "packaging"
DAEMON = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build")) / "ksmd-user"
EXPOSURE_MAX = 2.0  # of 10; a service without any directive has 9.6


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
class Units(unittest.TestCase):
    def test_exposure(self):
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                               UNITS / "ksmd-user.service"],
                              capture_output=True, text=True, check=False)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        self.assertIsNotNone(found, done.stdout + done.stderr)
        self.assertLess(float(found.group(1)), EXPOSURE_MAX)

    def test_no_line_is_unknown(self):
        for name in ("ksmd-user.service", "ksmd-user.socket"):
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", UNITS / name],
                                  capture_output=True, text=True, check=False)
            said = [line for line in done.stderr.splitlines()
                    if name in line and "is not executable" not in line]
            self.assertEqual(said, [])

    def test_the_daemon_knows_its_options(self):
        text = (UNITS / "ksmd-user.service").read_text(encoding="utf-8")
        command = re.search(r"^ExecStart=(.*)$", text, re.M).group(1)
        usage = subprocess.run([DAEMON, "--help"], capture_output=True, text=True, check=True)
        for option in re.findall(r"--[a-z-]+", command):
            self.assertIn(option, usage.stdout)


if __name__ == "__main__":
    checkline.main()
