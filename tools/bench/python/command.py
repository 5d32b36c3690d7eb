# SPDX-License-Identifier: MIT
"""The command line of ksm-bench, except for what needs no Python: costs, pool, restore."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import NoReturn, Optional

import numa
import programs
import report
from instrument import End, Instrument, Options
from results import MAX_ROUNDS, SIDES, USER
from rounds import Run, Wanted
from services import SERVICES
from workloads import WORKLOADS, named

# Of config.h. Merging that takes longer than the limit is reported as endless.
MAX_PROCESSES = 1000
MAX_LIMIT_S = 600

EXIT_STATUS = {End.GOOD: 0, End.INCOMPLETE: 3, End.FAILED: 1, End.STOPPED: 1}
EXIT_USAGE = 2

USAGE = """\
Usage: ksm-bench kernel [--workload NAME[,NAME...]|all] [--size MiB]
                        [--processes N] [--rounds N] [--smart-scan 0|1]
                        [--only kernel|ksmd-user] [--limit SECONDS]
                        [--max-map-count N] [--merge-only] [--json]
       ksm-bench growth [--size MiB] [--rounds N] [--limit SECONDS] [--json]
       ksm-bench programs [--server NAME[,NAME...]] [--rounds N]
                        [--only ksmd-user] [--json]
       ksm-bench report [FILE...] [--summary|--figures] [--svg FILE]
                        [--update FILE.md]
       ksm-bench numa [OPTION...]
       ksm-bench costs | pool
       ksm-bench restore

kernel   compare with the kernel's KSM; needs root, because the kernel's knobs
         are the machine's (they are put back afterwards). --only ksmd-user
         needs no root. --size is that of each process. --json: one line for
         each workload on standard output. --merge-only: end when all is merged
         (for profiles). --max-map-count: mappings that a process may have
         (sysctl vm.max_map_count, which is put back; root).
growth   workload growth on ksmd-user alone; --size: of each process, in the
         large case.
programs throughput and latency of servers (redis, postgresql, node, nginx),
         and of a process that forks (fork): native, merged and while being
         merged, by ksmd-user and by the kernel's KSM; and what ksm-run adds to
         the start of a program.
report   Markdown tables, and a plot, of what --json wrote.
numa     what each merge_policy saves on several NUMA nodes, and from where is
         read what it merged; ksm-bench numa --help.
costs    what this machine asks for the steps that any merge is made of.
pool     what the pool of frames costs, and what it can give when fragmented.
restore  put the kernel's knobs back after a run was killed with its watchdog
         (the next run does that, too).

Workloads:
""" + "".join(f"  {w.name:14} {w.what} ({w.processes} x {w.size_mib} MiB)\n" for w in WORKLOADS)

# Options that take a number: least, most, default (0: as the workload has it, -1: as the kernel).
NUMBERS = {"size": (1, 1 << 20, 0), "processes": (1, MAX_PROCESSES, 0),
           "rounds": (1, MAX_ROUNDS, 3), "smart_scan": (0, 1, -1), "limit": (1, MAX_LIMIT_S, 60),
           "max_map_count": (1024, (1 << 31) - 1, 0)}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"ksm-bench: {message}\n{USAGE}")
        sys.exit(EXIT_USAGE)


def _number(parser: _Parser, name: str, text: Optional[str]) -> int:
    least, most, default = NUMBERS[name]
    if text is None:
        return default
    if re.fullmatch("[0-9]{1,10}", text) and least <= int(text) <= most:
        return int(text)
    parser.error(f'--{name.replace("_", "-")} takes a number from {least} to {most}, not "{text}"')


def _wanted(args: list[str], grows: bool) -> Wanted:
    parser = _Parser(add_help=False)
    for name in NUMBERS:
        parser.add_argument("--" + name.replace("_", "-"))
    parser.add_argument("--workload", default="growth" if grows else "clones")
    parser.add_argument("--only", default=USER if grows else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--merge-only", action="store_true")
    a = parser.parse_args(args)
    n = {name: _number(parser, name, getattr(a, name)) for name in NUMBERS}
    if a.only not in (None, *SIDES):
        parser.error(f'--only takes kernel or ksmd-user, not "{a.only}"')
    try:
        workloads = named(a.workload)
    except ValueError as e:
        parser.error(str(e))
    options = Options(n["smart_scan"], n["limit"], a.merge_only, n["max_map_count"])
    return Wanted(workloads, [a.only] if a.only else list(SIDES), n["size"], n["processes"],
                  n["rounds"], a.json, options)


def _programs(args: list[str]) -> int:
    parser = _Parser(add_help=False)
    parser.add_argument("--rounds")
    parser.add_argument("--only")
    parser.add_argument("--server", default=",".join(s.name for s in SERVICES))
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args(args)
    by_name = {s.name: s for s in SERVICES}
    for name in a.server.split(","):
        if name not in by_name:
            parser.error(f'there is no server "{name}"')
    if a.only not in (None, USER):
        parser.error(f'--only takes ksmd-user here, not "{a.only}"')
    return EXIT_STATUS[programs.run(Instrument(), [by_name[n] for n in a.server.split(",")],
                                    _number(parser, "rounds", a.rounds), not a.only, a.json)]


def main(args: list[str]) -> int:
    """The exit status."""
    if args[:1] == ["numa"]:
        return numa.main(args[1:])
    if args[:1] == ["report"]:
        return report.main(args[1:])
    if args[:1] == ["programs"]:
        return _programs(args[1:])
    if args[:1] in (["kernel"], ["growth"]):
        wanted = _wanted(args[1:], args[0] == "growth")
        try:
            return EXIT_STATUS[Run(wanted, Instrument()).all()]
        except (EOFError, ConnectionError):
            # The process that measures was killed, or the reader of the results has gone.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains about it at its end
            return EXIT_STATUS[End.STOPPED]
    helps = args == ["--help"]
    (sys.stdout if helps else sys.stderr).write(USAGE)
    return 0 if helps else EXIT_USAGE
