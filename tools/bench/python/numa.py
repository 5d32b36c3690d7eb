# SPDX-License-Identifier: MIT
"""ksm-bench numa: what each merge_policy saves, and from where is read what it merged."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import machine
import numa_rates
import numa_report
from numa_model import BY_NAME, WORKLOADS
from numa_run import Failed, Run, Seen

POLICIES = ("global", "node", "distance", "majority", "replicate", "interleave")
MAX_NODES = 64
MAX_PAGES = 1 << 20
DEFAULT_MIB = 4

USAGE = """\
Usage: ksm-bench numa [--policy NAME[,NAME...]|all] [--nodes N[,N...]|real]
                      [--workload NAME[,NAME...]|all] [--size MiB]
                      [--json FILE] [--svg FILE]
       ksm-bench numa --from FILE [--svg FILE]
       ksm-bench numa --rates [--nodes real] [--size MiB]

Processes lie on NUMA nodes, run on them, and hold contents in common; a
ksmd-user of its own merges them by each policy in turn. Tells what is saved,
and the share that is read from another node. Needs no root.

--nodes     pretended nodes [1,2,4,8], or the machine's (real)
--size      of each process [4]
--from      report what --json wrote
--rates     frames that change their node per second: re-pointed, and where
            they meet others of their contents; with --nodes real moved by the
            kernel, beside move_pages(2) on as much plain memory

The cost of access is a model: a page at distance d costs d / 10 local accesses,
and each workload says how often each page is read. Where pages lie is seen.

Workloads:
""" + "".join(f"  {w.name:6} {w.what}\n" for w in WORKLOADS)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"ksm-bench: {message}\n{USAGE}")
        sys.exit(2)


def _names(parser: _Parser, option: str, text: str, known: tuple[str, ...]) -> list[str]:
    if text == "all":
        return list(known)
    for name in text.split(","):
        if name not in known:
            parser.error(f'--{option} takes {", ".join(known)} or all, not "{name}"')
    return text.split(",")


def _real_nodes() -> int:
    """Nodes with memory, as ksmd-user numbers them; it has no gaps here or nothing is measured."""
    base = Path("/sys/devices/system/node")
    try:
        text = (base / "has_memory").read_text().strip()
    except OSError:
        return 1
    m = re.fullmatch(r"0(?:-(\d+))?", text)
    return int(m[1] or 0) + 1 if m else 1


def _nodes(parser: _Parser, text: str) -> tuple[list[int], bool]:
    if text == "real":
        n = _real_nodes()
        if n == 1:
            parser.error("this machine has one NUMA node, or they are not numbered from 0 on")
        return [n], True
    if not re.fullmatch("[0-9]{1,2}(,[0-9]{1,2})*", text):
        parser.error(f'--nodes takes numbers from 1 to {MAX_NODES}, not "{text}"')
    nodes = [int(n) for n in text.split(",")]
    if not all(1 <= n <= MAX_NODES for n in nodes):
        parser.error(f'--nodes takes numbers from 1 to {MAX_NODES}, not "{text}"')
    return nodes, False


def _programs() -> tuple[str, str]:
    bench = os.environ["KSM_BENCH"]  # which started this
    daemon = os.environ.get("KSMD_USER") or str(Path(bench).with_name("ksmd-user"))
    if not os.access(daemon, os.X_OK):
        daemon = shutil.which("ksmd-user") or daemon
    return bench, daemon


def _measure(a: argparse.Namespace) -> list[Seen]:
    bench, daemon = _programs()
    found: list[Seen] = []
    begun = time.monotonic()
    for nodes in a.nodes:
        for name in a.workloads:
            for policy in a.policies:
                with Run(bench, daemon, nodes, a.real, a.pages, BY_NAME[name], policy) as run:
                    seen = run.measure()
                found.append(seen)
                v = seen.values
                print(f"[{time.monotonic() - begun:4.0f} s] {nodes} nodes, {name}, {policy}: "
                      f"{v['saved_mib']:.1f} MiB saved, {v['remote_pct']:.1f} % remote"
                      f"{', ' + seen.note if seen.note else ''}", file=sys.stderr, flush=True)
    return found


def _parse(args: list[str]) -> argparse.Namespace:
    parser = _Parser(add_help=False)
    for name, default in (("policy", "all"), ("nodes", "1,2,4,8"), ("workload", "all"),
                          ("size", str(DEFAULT_MIB)), ("json", None), ("svg", None),
                          ("from", None)):
        parser.add_argument("--" + name, default=default)
    parser.add_argument("--help", action="store_true")
    parser.add_argument("--rates", action="store_true")
    a = parser.parse_args(args)
    a.source = getattr(a, "from")
    a.policies = _names(parser, "policy", a.policy, POLICIES)
    a.workloads = _names(parser, "workload", a.workload, tuple(BY_NAME))
    a.nodes, a.real = ([], False) if a.source or a.help else _nodes(parser, a.nodes)
    if not re.fullmatch("[0-9]{1,4}", a.size) or not 0 < int(a.size) * 256 <= MAX_PAGES:
        parser.error(f'--size takes a number from 1 to {MAX_PAGES // 256}, not "{a.size}"')
    a.pages = int(a.size) * 256
    return a


def main(args: list[str]) -> int:
    """The exit status."""
    a = _parse(args)
    if a.help:
        sys.stdout.write(USAGE)
        return 0
    try:
        if a.rates:
            numa_rates.measure(*_programs(), a.real, a.pages)
            return 0
        if a.source:
            document = json.loads(Path(a.source).read_text())
        else:
            document = {"machine": machine.read()._asdict(), "size_mib": int(a.size),
                        "date": time.strftime("%Y-%m-%d", time.gmtime()),
                        "runs": [asdict(s) for s in _measure(a)]}
        if a.json:
            Path(a.json).write_text(json.dumps(document, indent=1) + "\n")
        if a.svg:
            Path(a.svg).write_text(numa_report.svg(document))
        sys.stdout.write(numa_report.tables(document))
    except (Failed, OSError, ValueError, KeyError) as e:
        print(f"ksm-bench: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
