# SPDX-License-Identifier: MIT
"""ksm-bench numa --rates: how fast frames change their NUMA node, and what that costs.

The frames of one node are moved to the other, and back, by node/N/migrate_to. All CPU time counts:
the daemon's, and that of the processes whose pages are re-pointed. On pretended nodes the daemon
may not move frames, so all are re-pointed. On real ones the kernel moves them, and what it takes to
move as much plain memory by move_pages(2) is measured in the same run.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from numa_run import KNOBS, Failed, Group, Tenant

SHARERS = (2, 4, 8)
MOVES = 6  # there and back, three times; the median counts
WAIT_S = 120.0
POLL_S = 0.01
LEAST_MOVED = 8192  # so that a move takes longer than to see that it has ended
LOOKS = 20  # while the kernel moves as much plain memory
NODES = 2
GATHERINGS = 20
RUN = 64  # pages in one mapping on average, at least: contiguous runs

# What is wanted (docs/numa.md).
REPOINTED_PER_S = 120_000
COLLISION_TIMES = 1.5
PHYSICAL_SHARE = 0.8


@dataclass
class Cost:
    """Of moving so many frames once."""

    frames: int
    sharers: int
    wall_s: float
    cpu_s: float


def _cpu_s(pid: int) -> float:
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def _wait(what: str, done, poll_s: float = POLL_S) -> None:
    end = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > end:
            raise Failed(f"not within {WAIT_S:.0f} s: {what}")
        time.sleep(poll_s)


class Scene(Group):
    """Processes on nodes with the same contents."""

    def __init__(self, bench: str, program: str, real: bool, nodes: list[int], pages: int) -> None:
        super().__init__(program, "auto" if real else f"emulated:{NODES}")
        self.pages = pages
        try:
            for name, value in {**KNOBS, "merge_policy": "node"}.items():
                self.daemon.ask(f"set ksm/{name} {value}")
            for node in nodes:
                t = Tenant(bench, self.daemon.dir, node, NODES, pages, real)
                self.tenants.append(t)
                t.ask(f"fill 0 {pages} 1")
            for t in self.tenants:
                t.ask("offer")
            sets = len(set(nodes))
            self.expect(sets * pages, (len(nodes) - sets) * pages)
            self._gather()
            self.daemon.ask("set ksm/run 0")
        except BaseException:
            self.stop()
            raise

    def _gather(self) -> None:
        """Frames that neighbour in a process are brought next to each other."""
        d = self.daemon
        for _ in range(GATHERINGS):
            d.ask("set ksm/compact_memory 1")
            _wait("frames are gathered", lambda: not any(
                d.number(f"node/{n}/{what}") for n in range(NODES)
                for what in ("compact", "gathering")))
            if d.number("ksm/added_vmas") * RUN <= len(self.tenants) * self.pages:
                return
        raise Failed("frames do not come together")

    def expect(self, shared: int, sharing: int) -> None:
        d = self.daemon
        _wait("pages are merged", lambda: d.number("ksm/pages_shared") == shared and
              d.number("ksm/pages_sharing") == sharing and not d.number("ksm/orders"))

    def _spent(self) -> float:
        return self.daemon.cpu_s() + sum(_cpu_s(t.process.pid) for t in self.tenants)

    def move(self, from_: int, to: int, sharers: int, poll_s: float = POLL_S) -> Cost:
        """All frames of a node."""
        d, begun, cpu = self.daemon, time.monotonic(), self._spent()
        was = d.number(f"node/{from_}/pgmigrate_success")
        d.ask(f"set node/{from_}/migrate_to {to}")
        _wait("the move ends",
              lambda: d.ask(f"get node/{from_}/migrate_to").strip() == "none", poll_s)
        wall = time.monotonic() - begun
        cost = Cost(d.number(f"node/{from_}/pgmigrate_success") - was, sharers, wall,
                    self._spent() - cpu)
        if cost.frames != self.pages:
            raise Failed(f"{self.pages - cost.frames} of {self.pages} frames stayed")
        return cost

    def check(self) -> None:
        wrong = sum(int(t.ask("check")) for t in self.tenants)
        if wrong:
            raise Failed(f"{wrong} pages do not hold what was written")


def _median(costs: list[Cost], of) -> float:
    return statistics.median(of(c) for c in costs)


def _there_and_back(s: Scene, sharers: int) -> list[Cost]:
    costs = [s.move(i % 2, 1 - i % 2, sharers) for i in range(MOVES)]
    s.check()
    return costs


def _says(ok: bool) -> str:
    return "yes" if ok else "no"


def _repointing(bench: str, program: str, pages: int) -> None:
    per_s, per_page = {}, {}
    for n in SHARERS:
        with Scene(bench, program, False, [0] * n, pages) as s:
            costs = _there_and_back(s, n)
        per_s[n] = _median(costs, lambda c: c.frames / c.cpu_s)
        per_page[n] = _median(costs, lambda c: 1e6 * c.cpu_s / c.frames / c.sharers)
        print(f"| re-pointed, {n} sharers | {per_s[n]:,.0f} frames per CPU second | "
              f"{per_page[n]:.2f} us for each page |"
              + (f" wanted {REPOINTED_PER_S:,}: {_says(per_s[n] >= REPOINTED_PER_S)} |"
                 if n == SHARERS[0] else
                 f" for each page {per_page[n] / per_page[SHARERS[0]]:.2f} times as with "
                 f"{SHARERS[0]} |"), flush=True)
    costs = []
    for _ in range(MOVES // 2):
        with Scene(bench, program, False, [0, 0, 1, 1], pages) as s:
            costs.append(s.move(0, 1, 2))
            s.expect(pages, 3 * pages)
            s.check()
    met = _median(costs, lambda c: c.frames / c.cpu_s)
    times = per_s[2] / met
    print(f"| collisions, 2 sharers | {met:,.0f} frames per CPU second | "
          f"{times:.2f} times a plain re-pointing | wanted at most {COLLISION_TIMES}: "
          f"{_says(times <= COLLISION_TIMES)} |", flush=True)


def _physical(bench: str, program: str, pages: int) -> None:
    # Looks cost CPU time that the move would have had, and are not to be much of it.
    with Scene(bench, program, True, [0, 0], pages) as s:
        plain = Tenant(bench, s.daemon.dir, 0, NODES, pages, True)
        s.tenants.append(plain)
        plain.ask(f"fill 0 {pages} 7000000")
        moved, costs = [], []
        for i in range(MOVES):  # in turn, so that what else goes on hits both
            moved.append(int(plain.ask(f"move {1 - i % 2}")) / 1e9)
            costs.append(s.move(i % 2, 1 - i % 2, 2, max(moved[-1] / LOOKS, 0.001)))
        s.check()
        for t in s.tenants[:2]:
            if set(t.lies_on(s.daemon)) != {MOVES % 2}:
                raise Failed("frames do not lie where they were moved to")
    own = _median(costs, lambda c: c.frames / c.wall_s)
    kernel = pages / statistics.median(moved)
    print(f"| moved by the kernel, 2 sharers | {own:,.0f} frames per second | "
          f"{own / kernel:.2f} of move_pages on plain memory ({kernel:,.0f}) | "
          f"wanted {PHYSICAL_SHARE}: {_says(own >= PHYSICAL_SHARE * kernel)} |", flush=True)


def measure(bench: str, program: str, real: bool, pages: int) -> None:
    """Prints a table."""
    if real:
        pages = max(pages, LEAST_MOVED)
    print(f"{pages} frames for each node; medians of {MOVES} moves\n")
    print("| what | rate | cost | wanted |\n|---|---|---|---|", flush=True)
    if real:
        _physical(bench, program, pages)
    else:
        _repointing(bench, program, pages)
