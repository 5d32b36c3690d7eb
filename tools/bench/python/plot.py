# SPDX-License-Identifier: MIT
"""The picture, as SVG: how many times better ksmd-user is, and whether that is enough.

Each metric has a small panel, and in it each workload a row. Gains stand on a logarithmic axis, so
that twice as good and half as good are as far from the line at 1, where the two sides are equal.
Each panel has its own range. The number stands beside each mark in a column of its own, so nothing
can overlap. Marks differ in shape as well as in colour.
"""

from __future__ import annotations

import math
from typing import Iterable, Iterator, NamedTuple, Optional

import targets
from results import Result, label
from stats import figure
from targets import Verdict

MAX_ROWS = 32
NAME = 31  # characters beside a row
NR_COLUMNS = 4
LABEL_W = 84
GROWTH_LABEL_W = 84
AXIS_W = 172
VALUE_W = 50
GAP_W = 26
PANEL_W = AXIS_W + VALUE_W + GAP_W
ROW_H = 21
HEAD_H = 30
AXIS_H = 44
TITLE_H = 58
LEGEND_H = 34
TICK_GAP = 30  # least distance of two numbers below an axis
MAX_TICKS = 16

PANELS = (
    ("merge_s", "Time to the last merge"),
    ("cpu_s", "CPU until then"),
    ("rest_cpu_ms", "CPU per pass at rest"),
    ("saved_net_mib", "Memory saved, net"),
    ("cow_ns", "Write to a merged page"),
    ("load_p999_us", "Loads while merging, 99.9 %"),
    ("store_p999_us", "Stores while merging, 99.9 %"),
)
GROWTH_ROWS = (
    ("grow_size_cpu", "16 x size, CPU"),
    ("grow_size_wall", "time"),
    ("grow_many_cpu", "200 : 2, CPU"),
    ("grow_many_wall", "time"),
)
PLAIN_STEPS = (1, 2, 5, 3)
ODD_STEPS = (1.5, 1.2, 1.1, 9.5, 9, 8, 1.05)  # only where there is nothing else
DECADES = [0] + [sign * n for n in range(1, 10) for sign in (1, -1)]  # the nearest to 1 first

HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" \
font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12" fill="#222">
<style>.tick{{font-size:10.5px;text-anchor:middle;fill:#444}}.value{{text-anchor:end}}\
.none{{text-anchor:end;fill:#999}}.wanted{{stroke:#111;stroke-width:2}}\
.spread{{stroke:#555;stroke-width:1.5}}</style>
<rect width="100%" height="100%" fill="#fff"/>
"""
TITLE = """\
<text x="14" y="24" font-size="15">How many times better ksmd-user is than the kernel's KSM \
(1: equal)</text>
"""


class Row(NamedTuple):
    label: str
    verdict: Verdict
    wanted: Optional[float]


class Axis(NamedTuple):
    """From `lo` to `hi`, which are logarithms, drawn from `left` to the right."""

    left: int
    lo: float
    hi: float

    def x(self, v: float) -> float:
        return self.left + AXIS_W * (math.log10(v) - self.lo) / (self.hi - self.lo)


def _drawable(v: Optional[float]) -> bool:
    return v is not None and v > 0 and math.isfinite(v)


def _axis(left: int, rows: Iterable[Row]) -> Axis:
    """All that is to be drawn, the line at 1, and some room."""
    values = [1.0]
    for r in rows:
        seen = r.verdict.seen
        values += [v for v in (r.wanted, seen.min, seen.max, seen.median)
                   if v is not None and _drawable(v)]
    lo, hi = math.log10(min(values)), math.log10(max(values))
    room = max(0.06 * (hi - lo), 0.03)
    return Axis(left, lo - room, hi + room)


def _tick_values(a: Axis) -> Iterator[float]:
    steps = PLAIN_STEPS if a.hi - a.lo > 1 else PLAIN_STEPS + ODD_STEPS
    for step in steps:
        for decade in DECADES:
            yield step * 10.0 ** decade


def _ticks(a: Axis, top: int, bottom: int) -> Iterator[str]:
    """1, then powers of ten, then what lies between, while there is room for the numbers."""
    used: list[float] = []
    for v in _tick_values(a):
        x = a.x(v)
        if not a.left <= x <= a.left + AXIS_W or any(abs(x - u) < TICK_GAP for u in used):
            continue
        if len(used) == MAX_TICKS:
            return
        used.append(x)
        colour = "#333" if v == 1 else "#e3e3e3"
        yield (f'<path d="M{x:.1f} {top}V{bottom + 4}" stroke="{colour}"/>'
               f'<text x="{x:.1f}" y="{bottom + 17}" class="tick">{v:g}</text>\n')


def _mark(x: float, y: int, holds: Optional[bool]) -> str:
    if holds is None:
        return (f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="#fff" stroke="#555" '
                'stroke-width="1.5"/>\n')
    if holds:
        return f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="#1f6fb4"/>\n'
    return f'<path d="M{x:.1f} {y - 5}l5 5l-5 5l-5 -5z" fill="#d1601a"/>\n'


def _row(a: Axis, r: Row, y: int) -> Iterator[str]:
    s, right = r.verdict.seen, a.left + AXIS_W + VALUE_W
    if r.wanted is not None and r.wanted > 0:
        yield f'<path d="M{a.x(r.wanted):.1f} {y - 8}v16" class="wanted"/>\n'
    if not s.nr or not _drawable(s.median):
        word = "no end" if r.verdict.holds is False else "-"
        yield f'<text x="{right}" y="{y + 4}" class="none">{word}</text>\n'
        return
    if s.nr > 1 and _drawable(s.min) and _drawable(s.max):
        yield f'<path d="M{a.x(s.min):.1f} {y}H{a.x(s.max):.1f}" class="spread"/>\n'
    yield _mark(a.x(s.median), y, r.verdict.holds)
    yield f'<text x="{right}" y="{y + 4}" class="value">{figure(s.median)}</text>\n'


def _panel(x: int, y: int, title: str, rows: list[Row], labels: bool, shade: bool) -> Iterator[str]:
    """A panel whose axis begins at x; labels stand to the left of it."""
    a = _axis(x, rows)
    top = y + HEAD_H
    bottom = top + len(rows) * ROW_H
    yield f'<text x="{x}" y="{y + 18}" font-weight="bold">{title}</text>\n'
    if shade:
        yield (f'<rect x="{x}" y="{top}" width="{a.x(1) - x:.1f}" height="{bottom - top}" '
               'fill="#f4f1ec"/>\n')
    yield from _ticks(a, top, bottom)
    yield f'<path d="M{x} {bottom}h{AXIS_W}" stroke="#333"/>\n'
    for i, r in enumerate(rows):
        middle = top + i * ROW_H + ROW_H // 2
        if labels:
            yield f'<text x="{x - 8}" y="{middle + 4}" text-anchor="end">{r.label}</text>\n'
        yield from _row(a, r, middle)


def _row_of(r: Result, metric: str, name: str) -> Row:
    t = targets.find(r, metric)
    if not t:
        return Row(name[:NAME], Verdict(r.gain(metric), None), None)
    v = targets.check(t, r)
    compared = v.seen.nr or v.holds is not None
    return Row(name[:NAME], v, t.wanted if compared else None)


def _panels(results: list[Result]) -> Iterator[str]:
    plain = [i for i, r in enumerate(results) if r.workload != "growth"][:MAX_ROWS]
    growth = [r for r in results if r.workload == "growth"]
    step = HEAD_H + len(plain) * ROW_H + AXIS_H

    def corner(p: int) -> tuple[int, int]:
        return LABEL_W + p % NR_COLUMNS * PANEL_W, TITLE_H + p // NR_COLUMNS * step

    for p, (metric, title) in enumerate(PANELS if plain else ()):
        rows = [_row_of(results[i], metric, label(results, i)) for i in plain]
        yield from _panel(*corner(p), title, rows, p % NR_COLUMNS == 0, True)
    if growth:
        x, y = corner(len(PANELS))
        rows = [_row_of(growth[-1], metric, name) for metric, name in GROWTH_ROWS]
        yield from _panel(x + GROWTH_LABEL_W, y, "Cost per page: large / small", rows, True, False)


def _legend(y: int) -> Iterator[str]:
    def text(x: int, words: str) -> str:
        return f'<text x="{LABEL_W + x}" y="{y + 4}">{words}</text>\n'

    yield _mark(LABEL_W + 5, y, True) + text(16, "as good as wanted")
    yield _mark(LABEL_W + 150, y, False) + text(161, "not")
    yield _mark(LABEL_W + 205, y, None) + text(216, "nothing is wanted")
    yield f'<path d="M{LABEL_W + 345} {y - 8}v16" class="wanted"/>' + text(354, "wanted")
    yield (f'<path d="M{LABEL_W + 420} {y}h24" class="spread"/>'
           + text(450, "least to most of the rounds"))
    yield (f'<rect x="{LABEL_W + 630}" y="{y - 7}" width="20" height="14" fill="#f4f1ec"/>'
           + text(656, "the kernel is better"))


def svg(results: list[Result]) -> str:
    """The whole document."""
    first = results[0]
    plain = sum(r.workload != "growth" for r in results)
    width = LABEL_W + NR_COLUMNS * PANEL_W + GROWTH_LABEL_W
    lines = len(PANELS) // NR_COLUMNS + 1
    body = TITLE_H + lines * (HEAD_H + max(min(plain, MAX_ROWS), len(GROWTH_ROWS)) * ROW_H + AXIS_H)
    date = f"; {first.date}" if first.date else ""
    source = (f'<text x="14" y="43" fill="#555">{first.machine.cpu}, {first.machine.cpus} CPUs, '
              f"{first.machine.kernel}; medians of {first.rounds} "
              f"round{'' if first.rounds == 1 else 's'}{date}</text>\n")
    return "".join([HEAD.format(w=width, h=body + LEGEND_H), TITLE, source, *_panels(results),
                    *_legend(body + 10), "</svg>\n"])
