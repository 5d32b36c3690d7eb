# SPDX-License-Identifier: MIT
"""Unmodified programs from Debian's archive, each with its own check of its data.

Each is started under ksm-run with a daemon of its own, and has to merge. Then it works while the
daemon is killed, stopped, and told to un-merge; all data are asked for and compared. It has to
merge again, keep its data when everything is un-merged, and end as it does without us.

	tests/programs/test_programs.py [NAME...]
"""

import os
import pathlib
import random
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lib")]
import checkline  # noqa: E402
import programs  # noqa: E402
import tier  # noqa: E402

PASSES = 12
STORM_SECONDS = float(os.environ.get("KSM_STORM", "3"))


class Programs(unittest.TestCase):
    def try_one(self, kind):
        missing = kind.missing()
        if missing:
            self.skipTest(f"{kind.name}: not there: {' '.join(missing)}"
                          f" ({' '.join(kind.packages)})")
        seed = int(os.environ.get("KSM_SEED", random.randrange(1 << 32)))
        print(f"{kind.name}: seed {seed}", flush=True)
        r = tier.Run(options=kind.options)
        self.addCleanup(r.end)
        try:
            self.go_through(r, kind, seed)
        except BaseException as e:
            print(f"STATE: {kind.name}: {type(e).__name__}: {e}\n{r.state()}", flush=True)
            raise

    def go_through(self, r, kind, seed):
        program = kind(r)
        started = time.monotonic()
        program.start()
        begun = time.monotonic()
        self.merged(r, kind)
        if kind.rests:
            self.at_rest(r)
        rounds = self.in_a_storm(r, program, seed)
        program.check()
        self.merged(r, kind)
        program.check()
        unmerged = r.daemon.ctl("set", "ksm/run", "2")
        self.assertEqual(unmerged.returncode, 0, unmerged.stderr)
        program.check()
        program.stop()
        self.assertEqual(r.daemon.end(), 0)
        print(f"{kind.name}: {rounds} rounds, {r.daemon.kills} kills, "
              f"{time.monotonic() - started:.1f} s, {begun - started:.1f} of them to start",
              flush=True)

    def merged(self, r, kind):
        if kind.merges:
            tier.wait_for(f"{kind.merges} merged pages",
                          lambda: r.daemon.get("ksm/pages_sharing") >= kind.merges,
                          r.daemon.process)

    def at_rest(self, r):
        """Nothing is refused in PASSES passes."""
        def passes():
            scans, failed = r.daemon.get("ksm/full_scans"), r.daemon.get("ksm/order_pages_failed")
            tier.wait_for("passes", lambda: r.daemon.get("ksm/full_scans") >= scans + PASSES)
            return r.daemon.get("ksm/order_pages_failed") == failed

        tier.wait_for("an end of tries", passes)

    def in_a_storm(self, r, program, seed):
        end = time.monotonic() + STORM_SECONDS
        rounds = 0
        with tier.Storm(r.daemon, seed) as storm:
            while time.monotonic() < end or not rounds:
                rounds += 1
                program.work(rounds)
        if storm.error:
            raise storm.error
        return rounds


def add(kind):
    setattr(Programs, "test_" + kind.name, lambda self: self.try_one(kind))


for k in programs.ALL:
    add(k)

if __name__ == "__main__":
    sys.argv[1:] = ["Programs.test_" + name for name in sys.argv[1:]]
    checkline.main()
