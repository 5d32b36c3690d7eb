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
    manner: str = "plain"  # enum manner of workload.h
    max_map_count: int = 0  # mappings that each process may have; 0: as the machine has it

    @property
    def real(self) -> bool:
        """Programs of this machine."""
        return self.contents in ("real", "guests")

    @property
    def programs(self) -> tuple[str, ...]:
        """Those that it needs: real.c, corunner.c."""
        if self.contents == "guests":
            return ("qemu-system-x86_64",)
        if self.real:
            return ("redis-server", "memcached")
        return ("redis-server",) if self.manner == "beside" else ()

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


# vm.max_map_count in the workloads that show what clients pair of the same contents.
PAIRING = {"16k": 16384, "64k": 65530, "256k": 262144}

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
    # What the kernel allows by default: one mapping more would be needed for each page.
    Workload("alternating", "every 2nd page has a twin, in another order in each process", 256, 2,
             "alternate", max_map_count=65530),
    # What is merged where mappings are few, as many as by default, and more.
    *(Workload(f"{name}-{short}", f"{name}, with {limit:,} mappings for each process", size, 2,
               name, max_map_count=limit)
      for name, size in (("permuted", 128), ("scattered", 256))
      for short, limit in PAIRING.items()),
    # The shape of Instagram's workers, as published when PR_SET_MEMORY_MERGE was introduced: 39
    # sharers for each frame, 61 % of the pages that are looked at volatile, 10 % unique.
    Workload("instagram", "29 % alike in all, 10 % unique, 61 % rewritten twice a second", 16, 40,
             "instagram", "churn"),
    Workload("forked", "a parent and its children, which have rewritten half of what they share",
             128, 4, manner="forked"),
    Workload("sparse", "16 pages in 32 TiB, the same in each process", 1, 2, manner="sparse"),
    Workload("corunner", "clones, beside a redis-server that is not merged and answers 4,000 "
             "requests a second", 512, 2, manner="beside"),
    Workload("real", "redis-server and memcached, two of each with the same data", 64, 4, "real"),
    Workload("guests", "guests of QEMU at rest, with the same data at different addresses", 128, 3,
             "guests"),
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
