# SPDX-License-Identifier: MIT
"""The rounds of each workload, in which the sides take turns.

The sides alternate within one run, and take turns in going first, so that drift of the machine hits
both. A side that fails in a round, or does not come to its end, is given up for this workload only:
it would most likely fail again, and take its time over it. The report says in a note what is
missing, and everything else goes on.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
import time
from dataclasses import dataclass

import growth
import machine
import tables
from instrument import End, Instrument, Measured, Options
from results import KERNEL, MAX_NOTES, NOTE, SIDES, USER, Result, dump, load
from workloads import Workload

PR_SET_MEMORY_MERGE = 67

# Of each round, in this order, on standard error.
TOLD = (
    ("merged_pct", "merged %.1f %%"),
    ("merge_s", "in %.3f s"),
    ("cpu_s", "CPU %.3f s"),
    ("rest_cpu_ms", "a later pass %.3f ms"),
    ("saved_net_mib", "%.1f MiB saved net"),
    ("store_p999_us", "99.9 %% of stores below %.0f us"),
    ("grow_size_cpu", "16 times the size costs %.2f"),
    ("grow_many_cpu", "many processes %.2f"),
)


@dataclass
class Wanted:
    """What the operator asked for."""

    workloads: list[Workload]
    sides: list[str]
    size_mib: int  # 0, also of processes: as the workload has it
    processes: int
    rounds: int
    json: bool
    options: Options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _missing_program(w: Workload, sides: list[str]) -> str:
    """Why programs that the workload needs cannot run here, or ""."""
    for program in w.programs:
        if not shutil.which(program):
            return f"{program} is not installed (tools/setup.sh run does)"
    if w.real and KERNEL in sides and ctypes.CDLL(None).prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0):
        return "this kernel has no prctl(PR_SET_MEMORY_MERGE)"
    return ""


class Run:
    """One call of ksm-bench kernel."""

    def __init__(self, wanted: Wanted, instrument: Instrument) -> None:
        self.wanted = wanted
        self.instrument = instrument
        self.started = time.monotonic()

    def _seconds(self) -> str:
        return f"[{time.monotonic() - self.started:3.0f} s]"

    def _tell(self, r: Result, side: str, number: int, m: Measured) -> None:
        said = [form % m.values[key] for key, form in TOLD if key in m.values]
        others = m.values.get("others_pct", 0)
        if others > tables.BUSY_PCT:
            said.append(f"others used {others:.0f} % of a CPU")
        _say(f"  {self._seconds()} round {number} of {r.rounds}, {side:9}: {', '.join(said)}"
             f"{' (not complete)' if m.note else ''}")

    def _round(self, w: Workload, r: Result, side: str, number: int) -> End:
        options = self.wanted.options
        m = (growth.measure(self.instrument, side, r.size_mib, options) if w.growth else
             self.instrument.measure(side, w, r.processes, r.size_mib, options))
        self._tell(r, side, number, m)
        to = r.side[side]
        to.knobs = m.knobs_text() or to.knobs
        to.add(m.values)
        if m.note:
            to.incomplete = True
            if len(r.notes) < MAX_NOTES:
                r.notes.append(f"round {number}: {m.note}"[:NOTE])
            m.end = max(m.end, End.INCOMPLETE)
        return m.end

    def _rounds(self, w: Workload, r: Result) -> End:
        sides = [s for s in SIDES if s in self.wanted.sides]
        if w.growth and USER in sides:
            sides = [USER]
        worst = End.GOOD
        for number in range(1, r.rounds + 1):
            for side in SIDES if number % 2 else reversed(SIDES):
                if side not in sides or r.side[side].incomplete:
                    continue
                worst = max(worst, self._round(w, r, side, number))
                if worst == End.STOPPED:
                    return worst
        return worst

    def _skipped(self, w: Workload, r: Result) -> str:
        need, have = w.needs_mib(r.processes, r.size_mib), machine.available_mib()
        missing = _missing_program(w, self.wanted.sides)
        if not missing and need > have:
            missing = f"it needs {need} MiB of memory, {have} MiB are available"
        return missing

    def _workload(self, w: Workload) -> End:
        r = Result(machine.read(), w.name, self.wanted.size_mib or w.size_mib,
                   self.wanted.processes or w.processes, self.wanted.rounds,
                   time.strftime("%Y-%m-%d", time.gmtime()))
        end = End.GOOD
        _say(f"{self._seconds()} {w.name} ({w.what}): {r.processes} x {r.size_mib} MiB, on "
             f"{r.machine.cpu}, {r.machine.kernel}")
        r.skipped = self._skipped(w, r)
        if r.skipped:
            _say(f"ksm-bench: {w.name}: skipped: {r.skipped}")
        else:
            end = self._rounds(w, r)
        text = dump(r)
        if not self.wanted.json:  # as whoever reads the JSON gets them
            text = "".join(map(tables.figures, load(text)))
        sys.stdout.write(text)
        sys.stdout.flush()
        return end

    def all(self) -> End:
        worst = self.instrument.begin(KERNEL in self.wanted.sides
                                      or self.wanted.options.max_map_count > 0)
        if worst != End.GOOD:
            return worst
        for w in self.wanted.workloads:
            worst = max(worst, self._workload(w))
            if worst == End.STOPPED:
                break
        return worst
