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
    """ "any" stands for every workload that has no target of its own for this metric."""

    workload: str
    metric: str
    kind: str
    wanted: float


TARGETS = (
    Target("clones", "merge_s", TIMES_BETTER, 6),
    Target("clones", "cpu_s", TIMES_BETTER, 5),
    Target("permuted", "merge_s", TIMES_BETTER, 3),
    Target("permuted", "cpu_s", TIMES_BETTER, 2.5),
    Target("scattered", "merge_s", TIMES_BETTER, 3),
    Target("scattered", "cpu_s", TIMES_BETTER, 2.5),
    Target("zero", "merge_s", TIMES_BETTER, 5),
    Target("zero", "region_vmas", AT_MOST, 0),
    Target("clones", "rest_cpu_ms", TIMES_BETTER, 50),
    Target("unique", "rest_cpu_ms", TIMES_BETTER, 200),
    Target("dirty", "rest_cpu_ms", TIMES_BETTER, 20),
    Target("any", "rest_cpu_ms", TIMES_BETTER, 1),
    Target("clones", "saved_net_mib", TIMES_BETTER, 0.97),
    Target("zero", "saved_net_mib", TIMES_BETTER, 0.97),
    Target("permuted", "saved_net_mib", TIMES_BETTER, 0.9),
    Target("scattered", "saved_net_mib", TIMES_BETTER, 0.9),
    Target("huge", "saved_net_mib", TIMES_BETTER, 1),
    Target("any", "cow_ns", TIMES_BETTER, 1),
    Target("any", "load_p999_us", TIMES_BETTER, 1),
    Target("any", "store_p999_us", TIMES_BETTER, 1),
    Target("unique", "page_bytes", AT_MOST, 24),
    Target("growth", "grow_size_cpu", AT_MOST, 1.2),
    Target("growth", "grow_size_wall", AT_MOST, 1.2),
    Target("growth", "grow_many_cpu", AT_MOST, 1.3),
    Target("growth", "grow_many_wall", AT_MOST, 1.3),
)


class Verdict(NamedTuple):
    seen: stats.Summary
    holds: Optional[bool]  # None: not known
    why: str = ""  # beside the numbers


def find(r: Result, metric: str) -> Optional[Target]:
    """What is wanted of this metric in this workload."""
    wanted = {t.workload: t for t in TARGETS if t.metric == metric}
    return wanted.get(r.workload, wanted.get("any"))


def concerns(t: Target, r: Result) -> bool:
    """Whether a table of this result has a line for the target."""
    if r.skipped or find(r, t.metric) is not t:
        return False
    return t.workload != "any" or r.measured(t.metric)


def _reached(t: Target, seen: stats.Summary) -> Optional[bool]:
    if not seen.nr:
        return None
    return seen.median <= t.wanted if t.kind == AT_MOST else seen.median >= t.wanted


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
    return Verdict(seen, _reached(t, seen))
