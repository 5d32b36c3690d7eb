# SPDX-License-Identifier: MIT
"""Results, as JSON.

The JSON holds the value of every round, so that medians, tables and plots can be made later and
elsewhere.

A file of results may come from anywhere, and what is made of it is Markdown and XML. So nothing in
it is believed: numbers outside their range count as 0, and strings are cut and lose every character
that means something in either language. A value that is missing was not measured. A document that
is no result of ours refuses the whole text. Several documents may follow one another in a text,
so that results can be collected with >>.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import stats
from metrics import BY_KEY, METRICS

KERNEL = "kernel"
USER = "ksmd-user"
SIDES = (KERNEL, USER)

MAX_RESULTS = 1000
MAX_ROUNDS = 100
MAX_NOTES = 8
# Lengths of strings.
NAME = 31
MACHINE = 127
NOTE = 239
KNOBS = 1023


class Refused(ValueError):
    """A text that is no list of results; says why."""


class Machine(NamedTuple):
    cpu: str
    kernel: str
    cpus: int
    memory_mib: int


@dataclass
class Side:
    """What was measured on the kernel's KSM, or on ksmd-user."""

    knobs: str = ""
    incomplete: bool = False  # a round did not come to its end
    values: dict[str, list[float]] = field(default_factory=dict)  # per round; key of a metric

    def add(self, values: dict[str, float]) -> None:
        """One more round."""
        for m in METRICS:
            self.values.setdefault(m.key, []).append(values.get(m.key, math.nan))

    def series(self, key: str) -> list[float]:
        return self.values.get(key, [])

    def summary(self, key: str) -> stats.Summary:
        return stats.summary(self.series(key))


@dataclass
class Result:
    """One workload, run on one or both sides."""

    machine: Machine
    workload: str
    size_mib: int = 0  # of each process
    processes: int = 0
    rounds: int = 0
    date: str = ""
    skipped: str = ""  # why nothing was measured
    notes: list[str] = field(default_factory=list)  # what is incomplete, and why
    side: dict[str, Side] = field(default_factory=lambda: {s: Side() for s in SIDES})

    def measured(self, key: str) -> bool:
        return any(self.side[s].summary(key).nr for s in SIDES)

    def gain(self, key: str) -> stats.Summary:
        """How many times better ksmd-user is than the kernel."""
        return stats.gain(self.side[KERNEL].series(key), self.side[USER].series(key),
                          BY_KEY[key].better < 0)


def label(results: list[Result], i: int) -> str:
    """ "clones", or "clones 2x64 MiB" where another of the results has the same name."""
    r = results[i]
    if sum(other.workload == r.workload for other in results) == 1:
        return r.workload
    return f"{r.workload} {r.processes}x{r.size_mib} MiB"


# ---- writing ----


def _number(v: float) -> float | int | None:
    """Nine figures; null for what could not be measured."""
    if math.isnan(v):
        return None
    v = float(f"{v:.9g}")
    return int(v) if v.is_integer() else v


def _document(r: Result) -> dict[str, Any]:
    sides = {s: {"knobs": side.knobs, "incomplete": side.incomplete,
                 **{m.key: {"values": [_number(v) for v in side.series(m.key)]}
                    for m in METRICS if side.summary(m.key).nr}}
             for s, side in r.side.items()}
    return {"benchmark": "kernel", "machine": r.machine._asdict(), "date": r.date,
            "workload": r.workload, "size_mib": r.size_mib, "processes": r.processes,
            "rounds": r.rounds, "skipped": r.skipped, "notes": r.notes, "sides": sides}


def dump(r: Result) -> str:
    """One JSON document on one line."""
    return json.dumps(_document(r), separators=(",", ":")) + "\n"


# ---- reading ----


def _clean(value: Any, length: int) -> str:
    if not isinstance(value, str):
        return ""
    return re.sub(r"[^ -~]|[<>&|`]", "?", value)[:length]


def _count(value: Any, most: int) -> int:
    return int(value) if isinstance(value, float) and 0 <= value <= most else 0


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any, length: int) -> list[Any]:
    return value[:length] if isinstance(value, list) else []


def _side(document: dict[str, Any]) -> Side:
    side = Side(_clean(document.get("knobs"), KNOBS), document.get("incomplete") is True)
    for m in METRICS:
        values = _list(_object(document.get(m.key)).get("values"), MAX_ROUNDS)
        if values:
            side.values[m.key] = [v if isinstance(v, float) else math.nan for v in values]
    return side


def _result(document: Any) -> Result:
    d = _object(document)
    if d.get("benchmark") != "kernel" or "machine" not in d or "sides" not in d:
        raise ValueError("no result")
    machine, sides = _object(d["machine"]), _object(d["sides"])
    return Result(
        Machine(_clean(machine.get("cpu"), MACHINE), _clean(machine.get("kernel"), MACHINE),
                _count(machine.get("cpus"), 1 << 20), _count(machine.get("memory_mib"), 1 << 31)),
        _clean(d.get("workload"), NAME),
        _count(d.get("size_mib"), 1 << 30),
        _count(d.get("processes"), 1 << 30),
        _count(d.get("rounds"), MAX_ROUNDS),
        _clean(d.get("date"), NAME),
        _clean(d.get("skipped"), NOTE),
        [_clean(n, NOTE) for n in _list(d.get("notes"), MAX_NOTES)],
        {s: _side(_object(sides.get(s))) for s in SIDES})


def _finite(text: str) -> float:
    v = float(text)
    if not math.isfinite(v):
        raise ValueError("no number is as large")
    return v


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


# All numbers become floats: true and false, which Python counts among the integers, do not.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_finite, parse_constant=_no_constant)
_SPACE = re.compile(r"[ \t\r\n]*")


def _skip_space(text: str, at: int) -> int:
    m = _SPACE.match(text, at)
    return m.end() if m else at


def load(text: str) -> list[Result]:
    """All results of a text, at least one. Raises Refused."""
    found: list[Result] = []
    at = _skip_space(text, 0)
    if at == len(text):
        raise Refused("is empty")
    while at < len(text):
        if len(found) == MAX_RESULTS:
            raise Refused(f"has more than {MAX_RESULTS} results")
        try:
            document, at = _DECODER.raw_decode(text, at)
            found.append(_result(document))
        except (ValueError, RecursionError) as e:
            raise Refused("is not what ksm-bench --json writes") from e
        at = _skip_space(text, at)
    return found
