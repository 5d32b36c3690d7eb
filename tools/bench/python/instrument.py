# SPDX-License-Identifier: MIT
"""The process that measures: ksm-bench itself, which started this program.

It is at the other end of standard input, a socket. requests.c has the language.
"""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Iterator

from metrics import BY_KEY
from workloads import Workload


class End(IntEnum):
    """How something ended; the largest of several counts."""

    GOOD = 0
    INCOMPLETE = 1  # something took too long
    FAILED = 2
    STOPPED = 3  # the operator asked to stop


@dataclass
class Measured:
    """What one round on one side gave."""

    end: End = End.GOOD
    values: dict[str, float] = field(default_factory=dict)  # by key of a metric
    knobs: dict[str, str] = field(default_factory=dict)
    note: str = ""  # why something is missing

    def knobs_text(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.knobs.items())


@dataclass
class Options:
    """What the operator asked for, as far as one round is concerned."""

    smart_scan: int  # -1: as the kernel has it
    limit: int  # seconds for merging to end
    merge_only: bool
    max_map_count: int  # mappings that a process may have; 0: as the workload has it


def _end(text: str) -> End:
    err = -int(text)
    return {0: End.GOOD, errno.ETIME: End.INCOMPLETE, errno.EINTR: End.STOPPED}.get(err, End.FAILED)


def _knob(text: str) -> str:
    """A choice reads as "[none] scan-time", and its value is "none"."""
    return re.sub(r".*\[(.*)\].*", r"\1", text)


class Instrument:
    def __init__(self) -> None:
        self._keeps_knobs = False
        self._socket = socket.socket(fileno=0)
        self._answers = self._socket.makefile("r", encoding="ascii", errors="replace")

    def _ask(self, request: str) -> Iterator[list[str]]:
        """The lines of the answer, in two words or three."""
        self._socket.send(request.encode())
        while True:
            line = self._answers.readline()
            if not line:
                raise EOFError  # it was killed, and there is nobody to answer
            yield line.rstrip("\n").split(" ", 1)
            if line.startswith("end "):
                return

    def begin(self, kernel: bool) -> End:
        """Wait until no other ksm-bench measures; with the kernel, keep its knobs."""
        self._keeps_knobs = kernel
        (_, text), = self._ask(f"begin {'both' if kernel else 'user'}")
        return _end(text)

    def _max_map_count(self, w: Workload, options: Options) -> int:
        """0 where it cannot be put back."""
        return (options.max_map_count or w.max_map_count) if self._keeps_knobs else 0

    def measure(self, side: str, w: Workload, processes: int, size_mib: int, options: Options
                ) -> Measured:
        """One round."""
        m = Measured()
        extent = "merge" if options.merge_only else "all"
        for verb, text in self._ask(f"measure {side} {extent} {w.contents} {w.manner} {size_mib} "
                                    f"{processes} {options.smart_scan} {options.limit} "
                                    f"{self._max_map_count(w, options)}"):
            if verb == "value":
                key, value = text.split()
                m.values[BY_KEY[key].key] = float(value)
            elif verb == "knob":
                name, value = text.split(" ", 1)
                m.knobs[name] = _knob(value)
            elif verb == "note":
                m.note = text
            elif verb == "end":
                m.end = _end(text)
        return m
