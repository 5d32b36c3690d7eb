# SPDX-License-Identifier: MIT
"""Mappings that programs at rest need for what is merged of them, before and after gathering.

Prints the rows of the table in docs/programs.md. Mappings are counted from /proc/PID/maps of all
processes, not by the daemon.

	tests/programs/gathered.py [NAME...]
"""

import os
import re
import sys
import time

import measure
import programs
import tier

ARENA = re.compile(r"\S+ \S+ \S+ \S+ \S+ +/(memfd:)?ksm-arena")
PATIENCE = 300  # seconds for a run of gathering


def mappings(r):
    """Of frames, in all processes of the run."""
    count = 0
    for pid in r.pids():
        try:
            with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as maps:
                count += sum(1 for line in maps if ARENA.match(line))
        except OSError:
            pass  # it has ended
    return count


def merged(r):
    return r.daemon.get("ksm/pages_shared") + r.daemon.get("ksm/pages_sharing")


def gather(r):
    """As the operator asks for it, in one go; at rest it is the same, for a tenth of the time."""
    end = time.monotonic() + PATIENCE
    if r.daemon.ctl("set", "node/0/compact", "1").returncode:
        raise tier.Wrong("compaction did not begin")
    while r.daemon.get("node/0/compact"):
        if time.monotonic() > end:
            raise tier.Wrong("compaction does not end")
        time.sleep(0.1)


def row(kind):
    r = tier.Run("ours", options=kind.options)
    try:
        program = kind(r)
        program.start()
        r.daemon.ctl("set", "ksm/compaction_proactiveness", "0")
        measure.at_rest(r)
        r.daemon.ctl("set", "ksm/run", "0")  # so that nothing else changes what is compared
        time.sleep(1)
        before = mappings(r), merged(r)
        gather(r)
        after = mappings(r), merged(r)
        r.daemon.ctl("set", "ksm/run", "1")
        program.check()
        return before, after, r.daemon.get("node/0/gathered")
    finally:
        r.end()


def main():
    for kind in programs.asked_for(sys.argv[1:]):
        before, after, moved = row(kind)
        ratios = [f"{m / pages:.3f}" if pages else "" for m, pages in (before, after)]
        print(f"| {kind.name} | {before[1]} | {before[0]} | {after[0]} | {ratios[0]} | "
              f"{ratios[1]} | {after[1] - before[1]} | {moved} |", flush=True)


if __name__ == "__main__":
    main()
