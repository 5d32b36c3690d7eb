# SPDX-License-Identifier: MIT
"""The kernel's ksm tracepoints as probes in the daemon: they are there, and bpftrace hears them."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402
import rig  # noqa: E402
from rig import BUILD, DAEMON, PATIENCE  # noqa: E402

# Names, and the sizes of the arguments; negative: signed. Those of the kernel's tracepoints, and
# for the life of a client its pid behind them.
PROBES = {
    "ksm_start_scan": (-4, 4),
    "ksm_stop_scan": (-4, 4),
    "ksm_enter": (8, -4),
    "ksm_exit": (8, -4),
    "ksm_merge_one_page": (8, 8, 8, -4),
    "ksm_merge_with_ksm_page": (8, 8, 8, 8, -4),
    "ksm_remove_ksm_page": (8,),
    "ksm_remove_rmap_item": (8, 8, 8),
    "ksm_advisor": (8, 8, 4),
}

SCRIPT = """
BEGIN { printf("ready\\n"); }
usdt:%(d)s:ksmd:ksm_enter { @enter[(int32)arg1] = count(); }
usdt:%(d)s:ksmd:ksm_exit { @exit[(int32)arg1] = count(); }
usdt:%(d)s:ksmd:ksm_merge_with_ksm_page { @merge[(int32)arg4] = count(); }
usdt:%(d)s:ksmd:ksm_remove_rmap_item { @remove[0] = count(); }
usdt:%(d)s:ksmd:ksm_remove_ksm_page { @frame[0] = count(); }
usdt:%(d)s:ksmd:ksm_start_scan { @start[0] = count(); }
usdt:%(d)s:ksmd:ksm_stop_scan { @stop[0] = count(); }
usdt:%(d)s:ksmd:ksm_advisor { @advisor[0] = max(arg1); }
"""

WORK = """
import mmap, time
m = mmap.mmap(-1, 4096 * 512, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(512): m[i * 4096:i * 4096 + 8] = b'%08d' % i
time.sleep(600)
"""


def notes(path):
    """{name: sizes of the arguments} of the probes of provider ksmd."""
    text = subprocess.run(["readelf", "-n", path], capture_output=True, text=True,
                          check=True).stdout
    found = {}
    for m in re.finditer(r"Provider: ksmd\n\s+Name: (\w+)\n.*\n\s+Arguments: (.*)", text):
        sizes = tuple(int(a.split("@")[0]) for a in m[2].split())
        found.setdefault(m[1], set()).add(sizes)
    return found


@unittest.skipUnless(notes(DAEMON), "built without <sys/sdt.h>, so there are no probes")
class Probes(unittest.TestCase):
    def test_as_the_kernels_tracepoints(self):
        found = notes(DAEMON)
        self.assertEqual(set(found), set(PROBES))
        for name, sizes in PROBES.items():
            # A compiler may turn a constant's size or sign into another's.
            self.assertEqual({len(s) for s in found[name]}, {len(sizes)}, name)
            self.assertIn(tuple(map(abs, sizes)), {tuple(map(abs, s)) for s in found[name]}, name)


@unittest.skipUnless(notes(DAEMON) and shutil.which("bpftrace") and os.geteuid() == 0,
                     "bpftrace is not installed, or this is not root")
@unittest.skipUnless((BUILD / "libksm-preload.so").exists(), "not built with a sanitizer")
class Live(rig.Rig):
    def number(self, path):
        return int(self.get(path) or -1)

    def bpftrace(self, daemon):
        out = open(self.dir / "out", "w+", encoding="utf-8")
        self.addCleanup(out.close)
        p = self.start(["bpftrace", "-e", SCRIPT % {"d": daemon}], stdout=out,
                       stderr=subprocess.STDOUT)
        said = (self.dir / "out").read_text
        self.wait("bpftrace", lambda: p.poll() is not None or "ready\n" in said())
        if p.poll() is not None:
            self.skipTest("bpftrace does not run here: " + said().strip()[-150:])
        return p

    def test_a_merge_is_traced(self):
        daemon = self.dir / "ksmd-user"  # a file of its own: other daemons are not traced
        shutil.copy(DAEMON, daemon)
        tracer = self.bpftrace(daemon)
        self.start([daemon, "--runtime-dir", self.dir / "run"], stderr=subprocess.DEVNULL)
        self.wait("the daemon", lambda: self.number("ksm/run") == 1)
        self.ctl("set", "ksm/advisor_mode", "scan-time")
        clients = [self.start([BUILD / "ksm-run", "--runtime-dir", self.dir / "run",
                               sys.executable, "-S", "-c", WORK]) for _ in range(2)]
        self.wait("merges", lambda: self.number("ksm/pages_sharing") >= 512)
        # The advisor decides at the end of a pass; one that began before the store may not count.
        passes = self.number("ksm/full_scans")
        self.wait("an advised pass", lambda: self.number("ksm/full_scans") >= passes + 2)
        for p in clients:
            p.kill()
            p.wait(PATIENCE)
        self.wait("the end", lambda: self.number("ksm/clients") == 0 and
                  self.number("ksm/pages_shared") == 0)
        merged = self.number("ksm/pages_merged")
        tracer.send_signal(signal.SIGINT)
        tracer.wait(PATIENCE)
        text = (self.dir / "out").read_text()
        seen = {}
        for name, key, value in re.findall(r"^@(\w+)\[(-?\d+)\]: (-?\d+)$", text, re.M):
            seen.setdefault(name, {})[int(key)] = int(value)
        pids = {p.pid: 1 for p in clients}
        self.assertEqual(seen.get("enter"), pids, text)
        self.assertEqual(seen.get("exit"), pids, text)
        self.assertEqual(seen["merge"][0], merged)
        self.assertEqual(seen["remove"][0], merged)
        self.assertGreaterEqual(seen["frame"][0], 512)
        self.assertLess(seen["frame"][0], merged)
        self.assertLessEqual(0, seen["start"][0] - seen["stop"][0])
        self.assertGreater(seen["advisor"][0], 0)


if __name__ == "__main__":
    checkline.main()
