# SPDX-License-Identifier: MIT
"""Results as Markdown.

A reader looks for what is better, so a ratio is a gain: how many times better ksmd-user is.
"""

from __future__ import annotations

import math
import textwrap
from typing import Iterator

from metrics import BY_KEY, METRICS, Metric
from results import KERNEL, SIDES, USER, Result, label
from stats import Summary, figure
from targets import AT_MOST, TARGETS, Target, check, concerns

# In percent of one CPU: less is not worth a word. ksm-bench's polling takes some.
BUSY_PCT = 15

WORDS = {True: "yes", False: "**no**", None: "?"}
FLOOR = "floor"

SUMMARY_HEAD = """\
| workload | what | floor | wanted | seen: median (least..most of the rounds) | holds |
|---|---|---|---|---|---|
"""
SUMMARY_FOOT = """
x: so many times better than the kernel's KSM (less time, less CPU, more memory saved); in
`growth`, the quotient itself. "floor": not as good as wanted, and good enough to be of use.

"""
FIGURES_HEAD = """\
| median (least..most) | kernel | ksmd-user | times better |
|---|---|---|---|
"""


def _prose(text: str, hang: str = "") -> str:
    """One line, in lines of at most 100 columns; `hang` stands before the second and later ones."""
    return textwrap.fill(text, 100, subsequent_indent=hang, break_long_words=False,
                         break_on_hyphens=False)


def _cell(s: Summary, unit: str = "") -> str:
    if not s.nr:
        return "-"
    spread = f" ({figure(s.min)}..{figure(s.max)})" if s.nr > 1 else ""
    return f"{figure(s.median)}{unit}{spread}"


def _summary_line(t: Target, r: Result, name: str) -> str:
    metric = BY_KEY[t.metric]
    unit = metric.unit if t.kind == AT_MOST else "x"
    space = " " if unit and unit != "x" else ""
    sign = "<=" if t.kind == AT_MOST else ">="
    v = check(t, r)
    seen = _cell(v.seen, "x" if unit == "x" else "")
    why = f": {v.why}" if v.why else ""
    word = FLOOR if v.floor and not v.holds else WORDS[v.holds]
    return (f"| {name} | {metric.label} | {sign} {t.floor:.3g}{space}{unit} "
            f"| {sign} {t.wanted:.3g}{space}{unit} | {seen} | {word}{why} |\n")


def _doubts(results: list[Result]) -> Iterator[str]:
    """What makes the figures doubtful."""
    for i, r in enumerate(results):
        name = label(results, i)
        for note in r.notes:
            yield _prose(f"- {name} is not complete: {note}", "  ") + "\n"
        others = [r.side[s].summary("others_pct").max for s in SIDES]
        busy = max((v for v in others if not math.isnan(v)), default=0)
        if busy > BUSY_PCT:
            yield _prose(f"- {name}: the machine was not idle, in one round other programs used "
                         f"{busy:.0f} % of a CPU", "  ") + "\n"


def summary(results: list[Result]) -> str:
    """What is wanted against what was seen, one line each."""
    m, date = results[0].machine, results[0].date
    where = _prose(f"Measured on {m.cpu}, {m.cpus} CPUs, {m.memory_mib} MiB of memory, {m.kernel}"
                   f"{', ' if date else ''}{date}.")
    out = [where, "\n\n", SUMMARY_HEAD]
    for i, r in enumerate(results):
        name = label(results, i)
        if r.skipped:
            out.append(f"| {name} | all | | | skipped: {r.skipped} | ? |\n")
        out += [_summary_line(t, r, name) for t in TARGETS if concerns(t, r)]
    return "".join([*out, SUMMARY_FOOT, *_doubts(results), "\n"])


def _figures_line(m: Metric, r: Result) -> str:
    unit = f" [{m.unit}]" if m.unit else ""
    gain = r.gain(m.key)
    better = ""
    if m.better:
        better = f" {figure(gain.median)}x" if gain.nr else " -"
    sides = " | ".join(_cell(r.side[s].summary(m.key)) for s in (KERNEL, USER))
    return f"| {m.label}{unit} | {sides} |{better} |\n"


def figures(r: Result) -> str:
    """One result in full."""
    out = [f"### {r.workload}: {r.processes} x {r.size_mib} MiB, {r.rounds} "
           f"{'round' if r.rounds == 1 else 'rounds'}\n\n"]
    if r.skipped:
        out.append(f"Skipped: {r.skipped}.\n\n")
    if r.notes:
        out += [_prose(f"- Not complete: {n}", "  ") + "\n" for n in r.notes] + ["\n"]
    out += [_prose(f"Knobs of {s}: {r.side[s].knobs}") + "\n\n" for s in SIDES if r.side[s].knobs]
    if not r.skipped:
        out.append(FIGURES_HEAD)
        out += [_figures_line(m, r) for m in METRICS if r.measured(m.key)]
        out.append("\n")
    return "".join(out)


def everything(results: list[Result]) -> str:
    """The summary, followed by each result in full."""
    return "".join([summary(results), *map(figures, results)])
