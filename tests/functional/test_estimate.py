# SPDX-License-Identifier: MIT
"""ksmdctl estimate and ksm-run --estimate: what they say of programs whose memory is known."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build"))
PATIENCE = 60  # seconds; everything waited for takes a fraction of one on an idle machine
MIB = 1 << 20
SLACK = MIB  # what two interpreters have alike, or write meanwhile
STRANGER = 47001

# COMMON MiB that all have, OWN MiB that nobody else has, a huge reservation that is not there.
PROGRAM = """
import mmap, random, sys, time
common, own, seed = (int(v) for v in sys.argv[1:])
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
m = mmap.mmap(-1, (common + own) << 20, flags=flags)
huge = mmap.mmap(-1, 1 << 40, flags=flags | 0x4000, prot=mmap.PROT_READ | mmap.PROT_WRITE)
random.seed(1)
m.write(random.randbytes(common << 20))
random.seed(seed)
m.write(random.randbytes(own << 20))
print("ready", flush=True)
sys.stdin.readline()
if seed > 100:
    import os
    os._exit(7)
"""


def stopped(session):
    """Processes of a session, but for its leader, that are stopped or, if traced, wait."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has ended
            continue
        pid = int(stat.parent.name)
        if state in "Tt" and int(of) == session and pid != session:
            found.append(pid)
    return found


class Estimate(unittest.TestCase):
    def program(self, common, own, seed, wrapper=(), **how):
        p = subprocess.Popen([*wrapper, sys.executable, "-c", PROGRAM, str(common), str(own),
                              str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how)
        self.addCleanup(p.wait, PATIENCE)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stdin.close)
        self.addCleanup(p.kill)
        self.assertEqual(p.stdout.readline(), b"ready\n")
        return p

    def estimate(self, *pids, **how):
        return subprocess.run([BUILD / "ksmdctl", "estimate", "--json", *map(str, pids)],
                              capture_output=True, text=True, timeout=PATIENCE, **how)

    def sums(self, *pids):
        r = self.estimate(*pids)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def test_between_programs(self):
        a, b = self.program(20, 5, 10), self.program(20, 5, 11)
        alone, both = self.sums(a.pid), self.sums(a.pid, b.pid)
        self.assertGreater(alone["bytes"], 25 * MIB)
        self.assertLess(alone["saved"], SLACK)
        self.assertGreaterEqual(both["saved"] - both["saved_alone"], 20 * MIB)
        self.assertLess(both["saved"], 20 * MIB + 8 * SLACK)
        self.assertLess(both["saved_net"], both["saved"])
        # It lies in one piece: hardly a mapping more.
        self.assertLess(both["mappings"], 1000)
        self.assertGreater(both["read_ns"], 0)
        # Whoever is named twice is read once.
        self.assertEqual(len(self.sums(a.pid, a.pid)["processes"]), 1)

    def test_nothing_is_changed(self):
        a = self.program(4, 4, 12)
        before = pathlib.Path(f"/proc/{a.pid}/maps").read_text()
        self.sums(a.pid)
        self.assertEqual(before, pathlib.Path(f"/proc/{a.pid}/maps").read_text())

    def test_who_cannot_be_read(self):
        a = self.program(1, 1, 13)
        self.assertEqual(self.estimate("x").returncode, 2)
        self.assertEqual(self.estimate("-1").returncode, 2)
        self.assertEqual(self.estimate("").returncode, 2)
        self.assertEqual(self.estimate().returncode, 2)
        r = self.estimate(999999999)
        self.assertEqual((r.returncode, r.stderr[:14]), (1, "ksmdctl: ESRCH"))
        if os.geteuid() == 0:
            r = self.estimate(a.pid, user=STRANGER, group=STRANGER, extra_groups=[])
            self.assertEqual((r.returncode, r.stderr[:15]), (1, "ksmdctl: EACCES"))
        a.send_signal(signal.SIGSTOP)
        self.assertGreater(self.sums(a.pid)["bytes"], 2 * MIB)
        a.kill()
        a.wait(PATIENCE)
        self.assertEqual(self.estimate(a.pid).returncode, 1)

    def test_run(self):
        r = self.program(10, 5, 101, [BUILD / "ksm-run", "--estimate"], stderr=subprocess.PIPE)
        self.addCleanup(r.stderr.close)
        r.send_signal(signal.SIGUSR1)
        first = [r.stderr.readline() for _ in range(3)]
        self.assertIn(b"what merging would save", first[0])
        self.assertGreater(float(first[2].split()[1]), 15)
        r.stdin.write(b"\n")
        r.stdin.flush()
        self.assertEqual(r.wait(PATIENCE), 7)
        rest = r.stderr.read()
        self.assertIn(b"what merging would save", rest)
        self.assertNotIn(b"had gone", rest)

    def test_run_ends_as_the_program(self):
        run = [BUILD / "ksm-run", "--estimate"]
        for command, code in ((["sh", "-c", "exit 3"], 3), (["/nonexistent"], 127), (["/"], 126),
                              (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
                              (["sh", "-c", "kill -STOP $$; exit 5"], 5)):
            p = subprocess.Popen([*run, *command], stderr=subprocess.DEVNULL,
                                 start_new_session=True)
            end = time.monotonic() + PATIENCE
            while p.poll() is None and time.monotonic() < end:
                # The program goes on again. To ksm-run a sanitizer may be attached as it ends. One
                # that waited for ksm-run may have ended meanwhile.
                for pid in stopped(p.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
                time.sleep(0.02)
            self.assertEqual(p.wait(PATIENCE), code, command)


if __name__ == "__main__":
    checkline.main()
