# SPDX-License-Identifier: MIT
"""What processes of ksm-bench numa hold and read, and what that costs.

The model of access: reading a page of node m from node n costs d(n, m) / 10, in accesses to a
page of one's own node, where d is the distance that ACPI gives (10 to itself). A process reads its
pages with the weights that the workload says, whose sum is 1. So the cost of a process is the sum
over its pages of weight * d / 10, and 1 is the least. Nothing else is modelled: no caches, no
bandwidth, no contention. Where each page lies is not modelled; it is asked.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Callable, Sequence

PAGE = 4096
HERE = 10

# Two nodes of one board; sockets of two; sockets of four.
NEAR, FAR, FAR_2 = 12, 32, 21


def distances(nodes: int) -> list[list[int]]:
    """Of a machine of two sockets."""
    far = FAR_2 if nodes == 2 else FAR
    half = max(nodes // 2, 1)
    return [[HERE if a == b else NEAR if a // half == b // half else far
             for b in range(nodes)] for a in range(nodes)]


@dataclass
class Process:
    """What a process holds: its node, and runs (first page, pages, first content)."""

    node: int
    runs: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Workload:
    name: str
    what: str
    hold: Callable[[int, int], list[Process]]  # of (nodes, pages): all processes
    shares: str  # between which nodes contents are common: "none", "near" (within a node), "far"
    skewed: bool = False
    moves: bool = False


UNIQUE = 1 << 32  # from here on each content is one process's


def _own(i: int, pages: int) -> int:
    return UNIQUE * (i + 1)


def _none(nodes: int, pages: int) -> list[Process]:
    return [Process(i // 2, [(0, pages, _own(i, pages))]) for i in range(2 * nodes)]


def _pairs(nodes: int, pages: int) -> list[Process]:
    return [Process(i // 2, [(0, pages, UNIQUE * (i // 2 + 1))]) for i in range(2 * nodes)]


def _far_pairs(nodes: int, pages: int) -> list[Process]:
    """Each with one on the opposite node; two of each node hold different contents."""
    half = max(nodes // 2, 1)
    return [Process(i // 2, [(0, pages, UNIQUE * (i // 2 % half + 1 + half * (i % 2)))])
            for i in range(2 * nodes)]


def _all(nodes: int, pages: int) -> list[Process]:
    return [Process(i // 2, [(0, pages, 0)]) for i in range(2 * nodes)]


def _half(nodes: int, pages: int) -> list[Process]:
    return [Process(i // 2, [(0, pages // 2, 0), (pages // 2, pages - pages // 2, _own(i, pages))])
            for i in range(2 * nodes)]


def _home(nodes: int, pages: int) -> list[Process]:
    """Contents of N groups: three processes of one node hold a group, and one of each other."""
    part = pages // nodes
    found = []
    for i in range(3 * nodes):
        p = Process(i // 3)
        for g in range(nodes):
            common = g == p.node or i % 3 == 0
            p.runs.append((g * part, part, g * part if common else _own(i, pages) + g * part))
        if part * nodes < pages:
            p.runs.append((part * nodes, pages - part * nodes, _own(i, pages) + part * nodes))
        found.append(p)
    return found


WORKLOADS = (
    Workload("none", "no page has an equal", _none, "none"),
    Workload("pairs", "two processes of each node hold the same", _pairs, "near"),
    Workload("far", "each shares with one of another node, none with its neighbour", _far_pairs,
             "far"),
    Workload("all", "all processes hold the same, and read it evenly", _all, "far"),
    Workload("skew", "the same; a few pages are read most (the n-th as often as 1/n)", _all, "far",
             skewed=True),
    Workload("half", "half of each process is common to all", _half, "far"),
    Workload("home", "contents have a node with three holders, and one on each other", _home,
             "far"),
    Workload("move", "as pairs; then all processes go to the next node", _pairs, "near",
             moves=True),
)
BY_NAME = {w.name: w for w in WORKLOADS}


def weights(w: Workload, pages: int) -> list[float]:
    """How often each page is read; the sum is 1. Skewed: neighbours are not alike."""
    if not w.skewed:
        return [1 / pages] * pages
    v = [1 / (1 + i * 7919 % pages) for i in range(pages)]
    total = sum(v)
    return [x / total for x in v]


@dataclass
class Access:
    """What all processes' reading comes to."""

    local: float  # share of what is read that lies on the reader's node
    cost_mean: float
    cost_sd: float  # over nodes, of the mean cost of the processes that run there
    interconnect_mib: float  # when each process reads as many pages as it has


def access(w: Workload, distance: Sequence[Sequence[int]], runs_on: Sequence[int],
           lies_on: Sequence[Sequence[int]]) -> Access:
    """runs_on: node of each process; lies_on: node of each page of each process."""
    by_node: dict[int, list[float]] = {}
    remote_sum = moved = 0.0
    for node, pages in zip(runs_on, lies_on):
        weight = weights(w, len(pages))
        far = sum(x for x, at in zip(weight, pages) if at != node)
        by_node.setdefault(node, []).append(
            sum(x * distance[node][at] for x, at in zip(weight, pages)) / HERE)
        remote_sum += far
        moved += far * len(pages) * PAGE / (1 << 20)
    means = [statistics.fmean(v) for v in by_node.values()]
    return Access(1 - remote_sum / len(runs_on), statistics.fmean(means),
                  statistics.pstdev(means), moved)
