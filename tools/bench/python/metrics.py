# SPDX-License-Identifier: MIT
"""What ksm-bench measures: the key of each value in JSON, and how tables name it.

The order is that of the tables.
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """One value of each round and side."""

    key: str
    label: str
    unit: str  # "" for a plain number
    better: int  # -1: less is better, 1: more is better, 0: neither


METRICS = (
    Metric("merge_s", "time to the last merge", "s", -1),
    Metric("cpu_s", "CPU spent until then", "s", -1),
    Metric("register_ms", "registration, slowest client", "ms", -1),
    Metric("merged_pct", "merged, of what can be", "%", 1),
    Metric("rest_cpu_ms", "CPU of one later pass", "ms", -1),
    Metric("saved_mib", "memory saved (PSS)", "MiB", 1),
    Metric("saved_net_mib", "memory saved, net of metadata", "MiB", 1),
    Metric("saved_per_cpu", "memory saved net, per second of CPU", "MiB/s", 1),
    Metric("saved_system_mib", "memory saved, in use on the machine", "MiB", 1),
    Metric("vmas", "VMAs added per client", "", -1),
    Metric("region_vmas", "VMAs added in the memory that is merged, per client", "", -1),
    Metric("page_vmas", "VMAs added per merged page", "", -1),
    Metric("page_bytes", "metadata per tracked page that is not merged", "B", -1),
    Metric("cow_ns", "write to a merged page (CoW break)", "ns", -1),
    Metric("dirty_ns", "rewrite of a page between passes", "ns", -1),
    Metric("load_p999_us", "load while merging, 99.9 %", "us", -1),
    Metric("load_max_us", "load while merging, worst", "us", -1),
    Metric("load_control_us", "load, control, 99.9 %", "us", -1),
    Metric("load_beyond_us", "load beyond control, 99.9 %", "us", -1),
    Metric("store_p999_us", "store while merging, 99.9 %", "us", -1),
    Metric("store_max_us", "store while merging, worst", "us", -1),
    Metric("store_control_us", "store, control, 99.9 %", "us", -1),
    Metric("store_beyond_us", "store beyond control, 99.9 %", "us", -1),
    Metric("control_max_us", "load or store, control, worst", "us", -1),
    Metric("probes", "stores timed", "", 0),
    Metric("probe_gap_ms", "longest time without a probe", "ms", 0),
    Metric("beside_alone_p50_us", "request to a server, alone, median", "us", 0),
    Metric("beside_alone_us", "request to a server, alone, 99 %", "us", 0),
    Metric("beside_alone_p999_us", "request to a server, alone, 99.9 %", "us", 0),
    Metric("beside_p50_us", "request while merging, median", "us", -1),
    Metric("beside_p99_us", "request while merging, 99 %", "us", -1),
    Metric("beside_p999_us", "request while merging, 99.9 %", "us", -1),
    Metric("beside_excess_us", "request while merging, 99 %, more than alone", "us", -1),
    Metric("others_pct", "CPU used by others while merging", "% of one", 0),
    Metric("page_cpu_us", "CPU per page, small", "us", -1),
    Metric("page_wall_us", "time per page, small", "us", -1),
    Metric("size_cpu_us", "CPU per page, 16 times the size", "us", -1),
    Metric("size_wall_us", "time per page, 16 times the size", "us", -1),
    Metric("few_cpu_us", "CPU per page, 2 processes", "us", -1),
    Metric("few_wall_us", "time per page, 2 processes", "us", -1),
    Metric("many_cpu_us", "CPU per page, many processes of the same total", "us", -1),
    Metric("many_wall_us", "time per page, many processes of the same total", "us", -1),
    Metric("grow_size_cpu", "CPU per page, 16 times the size / small", "x", -1),
    Metric("grow_size_wall", "time per page, 16 times the size / small", "x", -1),
    Metric("grow_many_cpu", "CPU per page, many processes / 2", "x", -1),
    Metric("grow_many_wall", "time per page, many processes / 2", "x", -1),
)

BY_KEY = {m.key: m for m in METRICS}
