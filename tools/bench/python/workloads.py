# SPDX-License-Identifier: MIT
"""Which workloads there are. workload.c and real.c make what their memory holds."""

from __future__ import annotations

from typing import NamedTuple


class Workload(NamedTuple):
    name: str
    what: str  # one line for --help
    size_mib: int  # of each process, by default; of real programs: their data
    processes: int
    contents: str = "same"  # enum contents of workload.h
    manner: str = "plain"  # "huge": in transparent huge pages; "dirty": rewritten between passes

    @property
    def real(self) -> bool:
        """Programs of this machine."""
        return self.contents == "real"

    @property
    def growth(self) -> bool:
        """Several sizes of `clones`: growth.py."""
        return self.name == "growth"

    def needs_mib(self, processes: int, size_mib: int) -> int:
        """Memory that it occupies at its largest.

        Real programs: their data, and what they add to it. Others: frames, until the pages that
        they replace are free.
        """
        mib = processes * size_mib
        return 2 * mib if self.real else mib + mib // 8


WORKLOADS = (
    Workload("clones", "identical memory at identical offsets, no two pages of a process alike",
             512, 2),
    Workload("permuted", "the same pages in every process, each in its own random order",
             128, 2, "permuted"),
    Workload("scattered", "every 8th page has a twin in the other processes, the rest is unique",
             256, 2, "scattered"),
    Workload("unique", "no two pages alike", 512, 2, "unique"),
    Workload("zero", "a random half of the pages is zero, the rest is unique", 256, 2, "zero"),
    Workload("dirty", "clones, 1 % of whose pages are rewritten between passes", 256, 2,
             manner="dirty"),
    Workload("many", "clones in many small processes", 4, 200),
    Workload("huge", "clones in transparent huge pages", 512, 2, manner="huge"),
    Workload("real", "redis-server and memcached, two of each with the same data", 64, 4, "real"),
    Workload("growth", "cost per page: 16 times the size; 200 processes against 2 of the same "
             "total", 4096, 2),
)

BY_NAME = {w.name: w for w in WORKLOADS}


def named(names: str) -> list[Workload]:
    """The workloads of "NAME,NAME" or "all"; ValueError says which does not exist."""
    if names == "all":
        return list(WORKLOADS)
    for name in names.split(","):
        if name not in BY_NAME:
            raise ValueError(f'there is no workload "{name}"')
    return [BY_NAME[name] for name in names.split(",")]
