# SPDX-License-Identifier: MIT
"""What ksm-bench numa found: tables, and a picture of frontiers and bars."""

from __future__ import annotations

import math
import textwrap
from html import escape
from typing import Any, Iterator

from numa_model import BY_NAME, Workload

Run = dict[str, Any]

POLICIES = ("global", "node", "distance", "majority", "replicate", "interleave")
LOSS_PCT = 4.0  # most that a policy may lose where it is of no use
ALIKE = 0.01  # two that differ by less than so much of the larger one are alike

# Key, head of the column, form.
COLUMNS = (
    ("saved_mib", "saved MiB", "{:.1f}"),
    ("saved_net_mib", "net MiB", "{:.1f}"),
    ("remote_pct", "remote %", "{:.1f}"),
    ("cost_mean", "cost", "{:.3f}"),
    ("cost_sd", "cost sd", "{:.3f}"),
    ("interconnect_mib", "interconnect MiB", "{:.1f}"),
    ("migrations", "moves", "{:.0f}"),
    ("collisions", "joined", "{:.0f}"),
    ("replicas", "replicas", "{:.0f}"),
    ("scan_cpu_s", "scan CPU s", "{:.2f}"),
    ("move_cpu_s", "mover CPU s", "{:.2f}"),
    ("merge_s", "to rest s", "{:.1f}"),
    ("rest_cpu_pct", "at rest % CPU", "{:.1f}"),
)
MOVED = (
    ("left_cost_mean", "cost before", "{:.3f}"),
    ("moved_cost_mean", "cost after", "{:.3f}"),
    ("moved_remote_pct", "remote % after", "{:.1f}"),
    ("follow_s", "seconds to rest", "{:.1f}"),
    ("follow_cpu_s", "mover CPU s", "{:.2f}"),
)


def _prose(text: str, hang: str = "") -> str:
    return textwrap.fill(text, 100, subsequent_indent=hang, break_long_words=False,
                         break_on_hyphens=False) + "\n"


def _groups(runs: list[Run]) -> Iterator[tuple[int, Workload, list[Run]]]:
    for key in dict.fromkeys((r["nodes"], r["workload"]) for r in runs):
        yield key[0], BY_NAME[key[1]], [r for r in runs if (r["nodes"], r["workload"]) == key]


def _table(columns: tuple[tuple[str, str, str], ...], runs: list[Run]) -> Iterator[str]:
    yield "| policy | " + " | ".join(head for _, head, _ in columns) + " |\n"
    yield "|---" * (len(columns) + 1) + "|\n"
    for r in runs:
        cells = [form.format(r["values"][key]) if key in r["values"] else "-"
                 for key, _, form in columns]
        yield f"| {r['policy']} | " + " | ".join(cells) + " |\n"


def _of(runs: list[Run], policy: str) -> Run | None:
    return next((r for r in runs if r["policy"] == policy), None)


def _remote(r: Run) -> float:
    """In the end: after processes have moved, if they did."""
    return r["values"].get("moved_remote_pct", r["values"]["remote_pct"])


def _cost(r: Run) -> float:
    return r["values"].get("moved_cost_mean", r["values"]["cost_mean"])


def _worse(a: float, b: float) -> float:
    """By how many percent a is below b."""
    return 100 * (b - a) / b if b > 0 else 0.0


def _suits(runs: list[Run]) -> bool:
    """Is there anything to choose between? Not if one frame for all saves as much as one for each
    node."""
    zero, one = _of(runs, "node"), _of(runs, "global")
    return bool(zero and one) and abs(_worse(zero["values"]["saved_mib"],
                                             one["values"]["saved_mib"])) > 100 * ALIKE


def losses(runs: list[Run]) -> Iterator[tuple[str, float, str]]:
    """Of each policy: what it loses against the better of `node` and `global`, and of what."""
    both = [r for r in runs if r["policy"] in ("node", "global")]
    saved = max(r["values"]["saved_mib"] for r in both)
    cost = min(_cost(r) for r in both)
    for r in runs:
        yield max((_worse(r["values"]["saved_mib"], saved), "memory"),
                  (100 * (_cost(r) - cost) / cost, "access")) + (r["policy"],)


def frontier(runs: list[Run]) -> list[str]:
    """Policies of which none is better in one of memory saved and remote share, and no worse in
    the other."""
    def beats(a: Run, b: Run) -> bool:
        saved = a["values"]["saved_mib"], b["values"]["saved_mib"]
        saves = (saved[0] - saved[1]) / max(*saved, 1e-9)
        nears = (_remote(b) - _remote(a)) / 100
        return saves > -ALIKE and nears > -ALIKE and (saves > ALIKE or nears > ALIKE)

    return [r["policy"] for r in runs
            if not any(beats(o, r) for o in runs if o is not r)]


def _verdicts(runs: list[Run]) -> Iterator[str]:
    yield "| nodes | workload | on the frontier | majority or replicate | most lost where it does "
    yield "not suit |\n|---|---|---|---|---|\n"
    for nodes, w, some in _groups(runs):
        if nodes == 1 or not (_of(some, "node") and _of(some, "global")):
            continue
        front = frontier(some)
        good = "-" if w.shares == "none" else (
            "yes" if {"majority", "replicate"} & set(front) else "**no**")
        lost = "-"
        if not _suits(some):
            pct, what, who = max(losses(some))
            lost = f"{pct:.1f} % ({who}, {what}): {'yes' if pct <= LOSS_PCT else '**no**'}"
        yield f"| {nodes} | {w.name} | {', '.join(front)} | {good} | {lost} |\n"
    yield "\n"


def tables(document: dict[str, Any]) -> str:
    """Markdown."""
    runs, m = document["runs"], document["machine"]
    real = any(r["real"] for r in runs)
    out = [_prose(f"{m['cpu']}, {m['cpus']} CPUs, {m['kernel']}, {document['date']}; "
                  f"{document['size_mib']} MiB in each process; "
                  + ("the machine's own nodes" if real else "pretended nodes") + "."), "\n"]
    out.append(_prose("The cost of access is a model, with the distances that the daemon reports: "
                      "a page at distance d costs d / 10 local accesses. 1 is the least. Its "
                      "standard deviation is over nodes. Interconnect: what crosses it when each "
                      "process reads as many pages as it has."))
    out += ["\n", *_verdicts(runs)]
    for nodes, w, some in _groups(runs):
        out.append(f"### {nodes} node{'s' if nodes > 1 else ''}, {w.name}\n\n")
        out.append(_prose(w.what[0].upper() + w.what[1:] + ".") + "\n")
        out += [*_table(COLUMNS, some), "\n"]
        if any("follow_s" in r["values"] for r in some):
            out += [_prose("After all processes went to the next node:"), "\n",
                    *_table(MOVED, some), "\n"]
        out += [_prose(f"- {r['policy']}: {r['note']}", "  ") for r in some if r["note"]]
    return "".join(out)


# --- the picture ---

COLOURS = dict(zip(POLICIES, ("#222222", "#1f6fb4", "#7fb3d9", "#d1601a", "#2a8f4e", "#9a6fb0")))
PANEL, GAP, LEFT, TOP, COLS = 210, 62, 60, 84, 4
BAR_H = 150


def _shape(policy: str, x: float, y: float, r: float = 4.5) -> str:
    """Shapes differ as well as colours."""
    i, c = POLICIES.index(policy), COLOURS[policy]
    if i == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{c}"/>\n'
    if i == 1:
        return (f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}" '
                f'fill="{c}"/>\n')
    turned = [(math.cos(a), math.sin(a)) for a in
              (math.pi * (0.5 + 2 * k / (i + 1)) for k in range(i + 1))]
    points = " ".join(f"{x + 1.3 * r * a:.1f},{y - 1.3 * r * b:.1f}" for a, b in turned)
    return f'<polygon points="{points}" fill="{c}" fill-opacity="0.85"/>\n'


def _frontier_panel(x: int, y: int, w: Workload, runs: list[Run]) -> Iterator[str]:
    """Remote share to the right, memory saved upwards, in percent of what `global` saves."""
    yield f'<text x="{x}" y="{y - 8}" font-weight="bold">{escape(w.name)}</text>\n'
    yield f'<rect x="{x}" y="{y}" width="{PANEL}" height="{PANEL}" fill="none" stroke="#bbb"/>\n'
    for t in (0, 50, 100):
        px, py = x + PANEL * t / 100, y + PANEL - PANEL * t / 110
        yield f'<text x="{px}" y="{y + PANEL + 15}" class="tick">{t}</text>\n'
        yield f'<text x="{x - 6}" y="{py + 4}" class="left">{t}</text>\n'
        yield f'<path d="M{x} {py:.1f}h{PANEL}" stroke="#eee"/>\n'
    for nodes in sorted({r["nodes"] for r in runs}):
        some = [r for r in runs if r["nodes"] == nodes]
        full = max(_of(some, "global")["values"]["saved_mib"] if _of(some, "global") else 0, 1e-9)
        at = {r["policy"]: (x + PANEL * _remote(r) / 100,
                            y + PANEL - PANEL * min(r["values"]["saved_mib"] / full, 1.1) / 1.1)
              for r in some}
        line = sorted(at[p] for p in frontier(some))
        yield ('<polyline fill="none" stroke="#ccc" points="'
               + " ".join(f"{a:.1f},{b:.1f}" for a, b in line) + '"/>\n')
        for p, (a, b) in at.items():
            yield _shape(p, a, b)
            yield f'<text x="{a + 6:.1f}" y="{b - 4:.1f}" class="n">{nodes}</text>\n'


def _bars(x: int, y: int, w: Workload, runs: list[Run], nodes: int) -> Iterator[str]:
    """Cost of access by policy, 1: as global."""
    some = [r for r in runs if r["nodes"] == nodes]
    base = _of(some, "global")
    if not base:
        return
    values = [(r["policy"], _cost(r) / _cost(base)) for r in some]
    top = max(1.2, *(v for _, v in values))
    yield (f'<text x="{x}" y="{y - 8}" font-weight="bold">{escape(w.name)}'
           f'{" (after the move)" if w.moves else ""}</text>\n')
    for i, (policy, v) in enumerate(values):
        h, bx = BAR_H * v / top, x + i * PANEL / 6
        yield (f'<rect x="{bx:.1f}" y="{y + BAR_H - h:.1f}" width="{PANEL / 6 - 6:.1f}" '
               f'height="{h:.1f}" fill="{COLOURS[policy]}"/>\n')
        yield f'<text x="{bx + 14:.1f}" y="{y + BAR_H + 14}" class="tick">{v:.2f}</text>\n'
    one = y + BAR_H - BAR_H / top
    yield f'<path d="M{x} {one:.1f}h{PANEL}" stroke="#111" stroke-dasharray="3 3"/>\n'


def svg(document: dict[str, Any]) -> str:
    """One point for each policy and number of nodes; bars below."""
    runs = [r for r in document["runs"] if r["nodes"] > 1]
    names = list(dict.fromkeys(r["workload"] for r in runs))
    nodes = max((r["nodes"] for r in runs), default=1)
    rows = math.ceil(len(names) / COLS) or 1
    step, bar_step = PANEL + GAP + 8, BAR_H + GAP
    bars = TOP + rows * step + 40
    width, height = LEFT + COLS * (PANEL + GAP), bars + rows * bar_step + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}" '
           'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="12" fill="#222">'
           '<style>.tick{font-size:10.5px;text-anchor:middle;fill:#444}'
           '.left{font-size:10.5px;text-anchor:end;fill:#444}.n{font-size:9px;fill:#666}</style>\n'
           '<rect width="100%" height="100%" fill="#fff"/>\n'
           '<text x="14" y="24" font-size="15">Memory saved (up, % of global) against what is read '
           'from another node (right, %)</text>\n']
    for i, p in enumerate(POLICIES):
        out.append(_shape(p, 24 + i * 120, 44) + f'<text x="{34 + i * 120}" y="48">{p}</text>\n')
    out.append(f'<text x="{34 + 6 * 120}" y="48" fill="#555">number: of nodes</text>\n')
    for i, name in enumerate(names):
        some = [r for r in runs if r["workload"] == name]
        x, row = LEFT + i % COLS * (PANEL + GAP), i // COLS
        out += _frontier_panel(x, TOP + row * step, BY_NAME[name], some)
        out += _bars(x, bars + row * bar_step, BY_NAME[name], some, nodes)
    out.append(f'<text x="14" y="{bars - 34}" font-size="15">Cost of access on {nodes} nodes '
               '(model; 1: as global)</text>\n</svg>\n')
    return "".join(out)
