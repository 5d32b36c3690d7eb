# SPDX-License-Identifier: MIT
"""Does a page cost more where there are many, or many processes?

The workload `clones` runs in four cases, each in a daemon of its own: a small and a large total in
two processes, and one total in two and in many processes. Each case gives the CPU time, and the
time, until all is merged, over the number of all pages. A quotient of 1 means that the cost is
proportional. The two cases of a quotient run one after the other, so that both see the same
machine.
"""

from __future__ import annotations

import dataclasses
import math
import sys

from instrument import End, Instrument, Measured, Options
from stats import quotient
from workloads import BY_NAME

SIZE_FACTOR = 16
MANY = 200
MANY_MIB = 4
PAGES_PER_MIB = 256


def _case(instrument: Instrument, side: str, key: str, processes: int, size_mib: int,
          options: Options, out: Measured) -> End:
    one = instrument.measure(side, BY_NAME["clones"], processes, size_mib, options)
    pages = processes * size_mib * PAGES_PER_MIB
    for what, of in (("cpu", "cpu_s"), ("wall", "merge_s")):
        if of in one.values:
            out.values[f"{key}_{what}_us"] = one.values[of] / pages * 1e6
    if "others_pct" in one.values:
        out.values["others_pct"] = max(out.values.get("others_pct", 0), one.values["others_pct"])
    out.knobs = one.knobs
    cpu, wall = (out.values.get(f"{key}_{what}_us", math.nan) for what in ("cpu", "wall"))
    print(f"    {processes:3} x {size_mib:4} MiB: {cpu:.2f} us CPU, {wall:.2f} us per page",
          file=sys.stderr)
    if one.note:
        out.note = f"{processes}x{size_mib} MiB: {one.note[:200]}"
    return one.end


def measure(instrument: Instrument, side: str, large_mib: int, options: Options) -> Measured:
    """One round of all cases on one side."""
    out = Measured()
    options = dataclasses.replace(options, merge_only=True)
    for key, processes, size_mib in (("page", 2, max(large_mib // SIZE_FACTOR, 1)),
                                     ("size", 2, large_mib),
                                     ("few", 2, MANY * MANY_MIB // 2),
                                     ("many", MANY, MANY_MIB)):
        # A case that does not end leaves the other cases, and with them the other quotient.
        end = _case(instrument, side, key, processes, size_mib, options, out)
        out.end = max(out.end, end)
        if end == End.STOPPED:
            break
    for name, above, below in (("size", "size", "page"), ("many", "many", "few")):
        for what in ("cpu", "wall"):
            pair = [out.values.get(f"{key}_{what}_us", math.nan) for key in (above, below)]
            q = quotient(*pair)
            if not math.isnan(q):
                out.values[f"grow_{name}_{what}"] = q
    return out
