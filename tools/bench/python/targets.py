# SPDX-License-Identifier: MIT
"""What ksmd-user has to show against the kernel's KSM, and whether it does.

A side that merged less has less to do. So a gain in time or CPU counts only where ksmd-user merged
at least nine tenths of what the kernel did. A workload that did not come to its end reaches
nothing.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import stats
from results import KERNEL, USER, Result

MERGED_ENOUGH = 0.9
# Of so many stores, five are beyond the 99.9th percentile (and twenty of the loads).
PROBES_ENOUGH = 5000

TIMES_BETTER = "times better than the kernel, at least"
AT_MOST = "at most, in the metric's unit"


class Target(NamedTuple):
    """What is wanted, and what is good enough to be safe and of use: the floor.

    "any" stands for every workload that has no target of its own for this metric.
    """

    workload: str
    metric: str
    kind: str
    wanted: float
    floor: float


def _of(workloads: str, metric: str, kind: str, wanted: float, floor: float) -> list[Target]:
    return [Target(w, metric, kind, wanted, floor) for w in workloads.split()]


TARGETS = (
    *_of("clones many huge", "merge_s", TIMES_BETTER, 6, 3.2),
    *_of("clones", "cpu_s", TIMES_BETTER, 5, 1.8),
    *_of("many huge", "cpu_s", TIMES_BETTER, 4, 1.6),
    *_of("zero", "merge_s", TIMES_BETTER, 5, 2.3),
    *_of("zero", "cpu_s", TIMES_BETTER, 4, 1.5),
    *_of("scattered", "merge_s", TIMES_BETTER, 4, 2.3),
    *_of("scattered", "cpu_s", TIMES_BETTER, 3, 1.5),
    *_of("permuted", "merge_s", TIMES_BETTER, 3, 1.1),
    *_of("permuted", "cpu_s", TIMES_BETTER, 2.5, 0.75),
    *_of("unique", "cpu_s", TIMES_BETTER, 5, 3),
    *_of("alternating", "merged_pct", TIMES_BETTER, 1, 0.9),
    *_of("zero", "region_vmas", AT_MOST, 0, 0),
    *_of("alternating", "page_vmas", AT_MOST, 0.5, 1),
    *_of("permuted", "page_vmas", AT_MOST, 0.5, 0.6),
    *_of("unique", "rest_cpu_ms", TIMES_BETTER, 1000, 500),
    *_of("dirty", "rest_cpu_ms", TIMES_BETTER, 50, 25),
    *_of("instagram", "rest_cpu_ms", TIMES_BETTER, 1, 1),  # most of it is not at rest
    *_of("any", "rest_cpu_ms", TIMES_BETTER, 50, 10),
    *_of("clones zero huge", "saved_net_mib", TIMES_BETTER, 1.02, 1),
    *_of("scattered permuted", "saved_net_mib", TIMES_BETTER, 1, 0.95),
    *_of("permuted scattered", "cow_ns", TIMES_BETTER, 1, 0.9),
    *_of("any", "cow_ns", TIMES_BETTER, 1, 1),
    *_of("any", "load_p999_us", TIMES_BETTER, 1, 1),
    *_of("clones many huge", "store_p999_us", TIMES_BETTER, 1, 0.6),
    *_of("scattered permuted zero", "store_p999_us", TIMES_BETTER, 1, 0.2),
    *_of("corunner", "beside_excess_us", TIMES_BETTER, 1 / 0.3, 1 / 0.7),
    *_of("unique", "page_bytes", AT_MOST, 20, 24),
    *_of("growth", "grow_size_cpu", AT_MOST, 1, 1.2),
    *_of("growth", "grow_size_wall", AT_MOST, 1, 1.2),
    *_of("growth", "grow_many_cpu", AT_MOST, 1, 1.3),
    *_of("growth", "grow_many_wall", AT_MOST, 1, 1.3),
)


class Verdict(NamedTuple):
    seen: stats.Summary
    holds: Optional[bool]  # what is wanted; None: not known
    why: str = ""  # beside the numbers
    floor: bool = False  # at least that is reached


def find(r: Result, metric: str) -> Optional[Target]:
    """What is wanted of this metric in this workload."""
    wanted = {t.workload: t for t in TARGETS if t.metric == metric}
    return wanted.get(r.workload, wanted.get("any"))


def concerns(t: Target, r: Result) -> bool:
    """Whether a table of this result has a line for the target."""
    if r.skipped or find(r, t.metric) is not t:
        return False
    return t.workload != "any" or r.measured(t.metric)


def _reached(t: Target, seen: stats.Summary, what: float) -> bool:
    return seen.median <= what if t.kind == AT_MOST else seen.median >= what


def _nr_probes(r: Result) -> float:
    """Of the side that has fewer; NaN where the kernel has none."""
    kernel, user = (r.side[s].summary("probes").median for s in (KERNEL, USER))
    return user if user < kernel else kernel


def check(t: Target, r: Result) -> Verdict:
    """Whether the result shows what is wanted."""
    user, kernel = r.side[USER], r.side[KERNEL]
    seen = user.summary(t.metric) if t.kind == AT_MOST else r.gain(t.metric)
    merged = user.summary("merged_pct").median
    if t.metric in ("merge_s", "cpu_s"):
        if user.incomplete:
            return Verdict(seen, False, "did not end")
        if merged < kernel.summary("merged_pct").median * MERGED_ENOUGH:  # not where one is NaN
            return Verdict(seen, False, "merged only %.0f %%" % merged)
    if t.metric == "store_p999_us" and _nr_probes(r) < PROBES_ENOUGH:
        return Verdict(seen, None, "only %.0f stores timed" % _nr_probes(r))
    if not seen.nr:
        return Verdict(seen, None,
                       "the kernel did not end" if kernel.incomplete else "not measured")
    return Verdict(seen, _reached(t, seen, t.wanted), floor=_reached(t, seen, t.floor))
