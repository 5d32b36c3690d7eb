# SPDX-License-Identifier: MIT
"""The machine that is measured on."""

from __future__ import annotations

import os
import re

from results import Machine


def _number(path: str, name: str) -> int:
    """What a line of a file such as /proc/meminfo says; 0 when this kernel has no such line."""
    with open(path, encoding="ascii", errors="replace") as f:
        found = re.search(rf"^{name}:\s*(\d+)", f.read(), re.MULTILINE)
    return int(found.group(1)) if found else 0


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        found = re.search(r"^model name\s*: (.*)", f.read(), re.MULTILINE)
    return found.group(1) if found else "unknown CPU"


def available_mib() -> int:
    """Memory that is free or holds caches."""
    return _number("/proc/meminfo", "MemAvailable") // 1024


def read() -> Machine:
    u = os.uname()
    return Machine(_cpu(), f"{u.sysname} {u.release} {u.machine}",
                   os.sysconf("SC_NPROCESSORS_ONLN"), _number("/proc/meminfo", "MemTotal") // 1024)
