# SPDX-License-Identifier: MIT
"""One run of ksm-bench numa: a daemon, processes on nodes, and what is seen when all is merged.

The daemon is the real one, and so is all that is counted. Where nodes are pretended, it says where
each frame lies (ksmdctl do client/PID/nodes); where they are real, each process asks the kernel.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, Optional, Self

import numa_model
from numa_model import PAGE, Access, Workload

START_S = 10.0
SETTLE_S = 60.0  # after that a run counts as it is, and says so
# Numbers of frames for each node. A round of the policy looks at each number of the pool, and there
# would be four times as many as the machine has memory for: the time of that says nothing here.
ZONE_MIB = "256"
CALM_S = 1.5  # nothing has changed for so long
CALM_TURNS = 14  # and the mover has had so many turns, 250 ms apart on an idle machine
POLL_S = 0.1
# A round of the policy waits for so many times the CPU time of the one before (PARTS in
# src/daemon/steering.c), which on an emulated machine are seconds. What the mover does besides is
# counted with it, so there is a limit.
ROUND_PARTS = 20
ROUND_MAX_S = 10.0
STRIPE_PAGES = 512

# Put before anything is offered. All copies, if they are of use; memory is no concern here.
KNOBS = {"run": "1", "sleep_millisecs": "5", "max_idle_millisecs": "100", "pages_to_scan": "100000",
         "replica_min_free_percent": "0"}


class Failed(Exception):
    pass


class Daemon:
    def __init__(self, program: str, topology: str) -> None:
        self.dir = tempfile.mkdtemp(prefix="ksm-bench.")
        self.process = subprocess.Popen(
            [program, "--runtime-dir", self.dir, "--topology", topology, "--zone-span", ZONE_MIB,
             "--log-level", "warning"],
            stdin=subprocess.DEVNULL, stdout=2)
        self.socket: Optional[socket.socket] = None
        end = time.monotonic() + START_S
        while not self._connect():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise Failed("ksmd-user does not start")
            time.sleep(0.02)

    def _connect(self) -> bool:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(self.dir + "/control.sock")
        except OSError:
            s.close()
            return False
        self.socket, self.answers = s, s.makefile("rb")
        return True

    def ask(self, line: str) -> str:
        head = self._head(line)
        if not head and self._connect():
            head = self._head(line)  # it ends a connection on which nobody asked for a minute
        if head[:1] != ["ok"]:
            raise Failed(f"ksmd-user: {line}: {' '.join(head)}")
        return self.answers.read(int(head[1])).decode()

    def _head(self, line: str) -> list[str]:
        """Of the answer; empty: the connection has ended."""
        assert self.socket
        try:
            self.socket.sendall((line + "\n").encode())
            return self.answers.readline().decode().split()
        except ConnectionError:
            return []

    def number(self, path: str) -> int:
        return int(self.ask("get " + path))

    def cpu_s(self, thread: str = "") -> float:
        """CPU time of its threads, or of those of that name."""
        return sum(int(s[0]) for s in self._schedstats(thread)) / 1e9

    def turns(self, thread: str) -> int:
        """Times that threads of that name were run."""
        return sum(int(s[2]) for s in self._schedstats(thread))

    def _schedstats(self, thread: str) -> Iterator[list[str]]:
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                if not thread or (task / "comm").read_text().rstrip("\n") == thread:
                    yield (task / "schedstat").read_text().split()
            except OSError:
                pass  # it has ended

    def stop(self) -> None:
        if self.socket:
            self.answers.close()
            self.socket.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Tenant:
    def __init__(self, program: str, runtime_dir: str, node: int, nodes: int, pages: int,
                 real: bool) -> None:
        self.process = subprocess.Popen([program, "--node-tenant"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, KSMD_RUNTIME_DIR=runtime_dir))
        self.pages, self.node, self.real = pages, node, real
        self.home = node
        self.ask(f"map {pages} {node} {0 if real else nodes}")
        self.ask(f"run {node}")

    def ask(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        if answer.split(" ")[0] != "ok":
            raise Failed(f"a process: {line}: {answer or 'it has ended'}")
        return answer[3:]

    def run_on(self, node: int) -> None:
        self.ask(f"run {node}")
        self.node = node

    def lies_on(self, d: Daemon) -> list[int]:
        """The node of each page."""
        if self.real:
            words = self.ask("where").split()
            return [int(node) for n, node in zip(words[::2], words[1::2]) for _ in range(int(n))]
        return self._lies_on_pretended(d)

    def _lies_on_pretended(self, d: Daemon) -> list[int]:
        """Frames lie where the daemon says, and other pages where their addresses say."""
        found = [self.home] * self.pages
        words = self.ask("stripes").split()
        starts = {int(at, 16): i * STRIPE_PAGES for i, at in enumerate(words[::2])}
        at = "0"
        while at:
            answer = d.ask(f"do client/{self.process.pid}/nodes {at}")
            before, at = at, ""
            for line in filter(None, answer.split("\n")):
                if line.startswith("next "):
                    at = line[5:]
                    continue
                span, node = line.split()
                start, end = (int(x, 16) for x in span.split("-"))
                for addr in range(start, end, PAGE):
                    stripe = addr - addr % (STRIPE_PAGES * PAGE)
                    found[starts[stripe] + (addr - stripe) // PAGE] = int(node)
            if at == before:
                raise Failed("ksmd-user: the same address again")
        return found

    def stop(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


@dataclass
class Seen:
    """Of one policy on one workload."""

    nodes: int
    workload: str
    policy: str
    real: bool = False
    values: dict[str, float] = field(default_factory=dict)
    note: str = ""


def _counts(d: Daemon, nodes: int, name: str) -> int:
    return sum(d.number(f"node/{n}/{name}") for n in range(nodes))


POLICY_COUNTS = ("policy_moved", "policy_copied", "policy_joined", "policy_failed",
                 "pgmigrate_success", "migrate_collisions")


def _state(d: Daemon, nodes: int) -> tuple[int, ...]:
    """What changes while something is going on. Figures of the policy, not of its failures."""
    return (d.number("ksm/pages_shared"), d.number("ksm/pages_sharing"),
            d.number("ksm/pages_unshared"), d.number("ksm/pages_volatile"),
            *(_counts(d, nodes, name) for name in POLICY_COUNTS[:3]),
            _counts(d, nodes, "pages_remote"))


def _known(d: Daemon, tenants: list[Tenant], nodes: int) -> bool:
    """Does the daemon know where they run? On one node it does not ask."""
    return nodes == 1 or all(
        d.ask(f"get client/{t.process.pid}/node").strip() == str(t.node) for t in tenants)


def _settle(d: Daemon, tenants: list[Tenant], nodes: int,
            rounds: bool = False) -> tuple[float, bool]:
    """Wait until nothing changes; `rounds`: nor would by the policy's next round. How long that
    took, and whether it ended."""
    begun = last = time.monotonic()
    cpu = d.cpu_s("ksmd-move")
    passes, turns = d.number("ksm/full_scans"), d.turns("ksmd-move")
    was: tuple[int, ...] = ()
    while True:
        now, state = time.monotonic(), _state(d, nodes)
        if state != was or d.number("ksm/orders") or not _known(d, tenants, nodes):
            was, last, turns = state, now, d.turns("ksmd-move")
        pause = min(ROUND_PARTS * (d.cpu_s("ksmd-move") - cpu), ROUND_MAX_S) if rounds else 0
        if (now - last >= max(CALM_S, pause) and d.number("ksm/full_scans") >= passes + 3
                and (nodes == 1 or d.turns("ksmd-move") >= turns + CALM_TURNS)):
            return last - begun, True
        if now - begun > SETTLE_S:
            return now - begun, False
        time.sleep(POLL_S)


class Group:
    """A daemon, and the processes that it serves; `with` ends them."""

    def __init__(self, program: str, topology: str) -> None:
        self.tenants: list[Tenant] = []
        self.daemon = Daemon(program, topology)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        for t in self.tenants:
            t.stop()
        self.daemon.stop()


class Run(Group):
    """Everything of one run."""

    def __init__(self, bench: str, program: str, nodes: int, real: bool, pages: int,
                 w: Workload, policy: str) -> None:
        self.w, self.nodes, self.real = w, nodes, real
        self.seen = Seen(nodes, w.name, policy, real)
        matrix = numa_model.distances(nodes)
        rows = ",".join(":".join(map(str, row)) for row in matrix)
        super().__init__(program, "auto" if real else f"emulated:{nodes},{rows},moves")
        try:
            self.distance = [[int(x) for x in self.daemon.ask(f"get node/{n}/distances").split()]
                             for n in range(nodes)]
            for name, value in {**KNOBS, "merge_policy": policy}.items():
                self.daemon.ask(f"set ksm/{name} {value}")
            for p in w.hold(nodes, pages):
                t = Tenant(bench, self.daemon.dir, p.node, nodes, pages, real)
                self.tenants.append(t)
                for first, nr, content in p.runs:
                    t.ask(f"fill {first} {nr} {content}")
        except BaseException:
            self.stop()
            raise

    def _access(self) -> Access:
        return numa_model.access(self.w, self.distance, [t.node for t in self.tenants],
                                 [t.lies_on(self.daemon) for t in self.tenants])

    def _tell_access(self, a: Access, prefix: str = "") -> None:
        v = self.seen.values
        v[prefix + "remote_pct"] = 100 * (1 - a.local)
        v[prefix + "cost_mean"] = a.cost_mean
        v[prefix + "cost_sd"] = a.cost_sd
        v[prefix + "interconnect_mib"] = a.interconnect_mib

    def _merge(self) -> None:
        v, d = self.seen.values, self.daemon
        cpu, begun = d.cpu_s(), time.monotonic()
        for t in self.tenants:
            t.ask("offer")
        offered = time.monotonic() - begun
        took, ended = _settle(d, self.tenants, self.nodes)
        if not ended:
            self.seen.note = f"it had not come to rest after {SETTLE_S:.0f} s"
        v["merge_s"] = offered + took
        v["scan_cpu_s"] = d.cpu_s("ksmd-scan")
        v["move_cpu_s"] = d.cpu_s("ksmd-move")
        v["cpu_s"] = d.cpu_s() - cpu
        v["saved_mib"] = d.number("ksm/pages_sharing") * PAGE / (1 << 20)
        v["saved_net_mib"] = d.number("ksm/general_profit") / (1 << 20)
        v["replicas"] = _counts(d, self.nodes, "replicas")
        self._tell_access(self._access())

    def _rest(self) -> None:
        """CPU of the daemon per pass, and in percent of a core, while nothing happens."""
        d, v = self.daemon, self.seen.values
        passes, cpu, begun = d.number("ksm/full_scans"), d.cpu_s(), time.monotonic()
        time.sleep(1.0)
        passes, cpu = d.number("ksm/full_scans") - passes, d.cpu_s() - cpu
        v["rest_cpu_pct"] = 100 * cpu / (time.monotonic() - begun)

    def _move(self) -> None:
        """All processes go to the next node. What is read from there afterwards."""
        d, v = self.daemon, self.seen.values
        cpu = d.cpu_s("ksmd-move")
        for t in self.tenants:
            t.run_on((t.node + 1) % self.nodes)
        self._tell_access(self._access(), "left_")
        took, _ = _settle(d, self.tenants, self.nodes, rounds=True)
        v["follow_s"] = took
        v["follow_cpu_s"] = d.cpu_s("ksmd-move") - cpu
        self._tell_access(self._access(), "moved_")

    def measure(self) -> Seen:
        self._merge()
        self._rest()
        if self.w.moves and self.nodes > 1:
            self._move()
        v = self.seen.values
        v["migrations"] = sum(_counts(self.daemon, self.nodes, n)
                              for n in ("policy_moved", "pgmigrate_success"))
        v["collisions"] = sum(_counts(self.daemon, self.nodes, n)
                              for n in ("policy_joined", "migrate_collisions"))
        v["copies_made"] = _counts(self.daemon, self.nodes, "policy_copied")
        wrong = sum(int(t.ask("check")) for t in self.tenants)
        if wrong:
            raise Failed(f"{wrong} pages do not hold what was written")
        return self.seen
