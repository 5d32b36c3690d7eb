# SPDX-License-Identifier: MIT
"""ksm-bench programs: how fast real servers are beside merging.

Each server is started twice with the same data, in three ways: native, under ksm-run with a daemon
of its own, and with PR_SET_MEMORY_MERGE for the kernel's KSM. It is asked when everything has been
merged ("at rest"; the kernel's KSM goes on with its passes as it has them by default), and while
it is being merged again after everything was un-merged ("while merging"; both sides without
pauses). Natively it is asked twice, too. The ways take turns in each round, so that a drift of the
machine hits all.

Among them is a process that does nothing but fork. Beside it: what ksm-run adds to the start of a
program that ends at once.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Callable, Optional, Sequence

import stats
from instrument import End, Instrument
from services import Failure, Fork, Service, Speed

PR_SET_PDEATHSIG, PR_SET_MEMORY_MERGE = 1, 67
ADDR_NO_RANDOMIZE = 0x0040000
KERNEL_KNOBS = pathlib.Path("/sys/kernel/mm/ksm")
LIBC = ctypes.CDLL(None, use_errno=True)
WAYS = ("native", "ksmd-user", "kernel")
MOMENTS = ("at rest", "while merging")
QUIET_S = 1.0
REST_S = 30.0
STARTS = 50

START_MS = 3.0  # wanted at most, beyond the native start


class Side:
    """Nothing that merges: the native way. The others are below."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.dir = directory

    def wrapped(self, argv: list[str]) -> list[str]:
        return argv

    def in_child(self) -> None:
        """Between fork and exec."""

    def get(self, name: str) -> int:
        return 0

    def set(self, name: str, value: str) -> None:
        """A knob, by the name that the kernel gives it."""

    def end(self) -> None:
        """Undo everything."""


class User(Side):
    """A daemon of our own, and ksm-run."""

    def __init__(self, directory: pathlib.Path) -> None:
        super().__init__(directory)
        where = pathlib.Path(f"/proc/{os.getppid()}/exe").resolve().parent
        self.run = os.environ.get("KSM_RUN", str(where / "ksm-run"))
        daemon = os.environ.get("KSMD_USER", str(where / "ksmd-user"))
        self.ctl = str(where / "ksmdctl")
        self.sockets = directory / "run"
        # pylint: disable-next=consider-using-with
        self.daemon = subprocess.Popen([daemon, "--runtime-dir", self.sockets, "--allow-group",
                                        "all", "--log-level", "warning"])
        end = time.monotonic() + 10
        while self._ctl("get", "ksm/run").returncode:
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise Failure("ksmd-user does not answer")
            time.sleep(0.02)

    def _ctl(self, *args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([self.ctl, "--runtime-dir", self.sockets, *args], check=False,
                              capture_output=True, text=True, timeout=60)

    def wrapped(self, argv: list[str]) -> list[str]:
        return [self.run, "--runtime-dir", str(self.sockets), "--fixed-layout", "--", *argv]

    def get(self, name: str) -> int:
        return int(self._ctl("get", f"ksm/{name}").stdout or 0)

    def set(self, name: str, value: str) -> None:
        p = self._ctl("set", f"ksm/{name}", value)
        if p.returncode:
            raise Failure(f"ksm/{name}: {p.stderr.strip()}")

    def end(self) -> None:
        self.daemon.terminate()
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()


class Kernel(Side):
    """The kernel's KSM, whose knobs ksm-bench keeps and puts back."""

    def in_child(self) -> None:
        if LIBC.prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0):
            os._exit(127)

    def get(self, name: str) -> int:
        return int((KERNEL_KNOBS / name).read_text(encoding="ascii"))

    def set(self, name: str, value: str) -> None:
        (KERNEL_KNOBS / name).write_text(value, encoding="ascii")

    def end(self) -> None:
        self.set("run", "2")
        self.set("run", "0")


MAKE = {"native": Side, "ksmd-user": User, "kernel": Kernel}


@dataclass
class Result:
    """Of one service: for each way and moment the speeds of all rounds."""

    name: str
    skipped: str = ""
    speed: dict[tuple[str, str], list[Speed]] = field(default_factory=dict)

    def median(self, way: str, moment: str) -> Optional[Speed]:
        seen = self.speed.get((way, moment))
        if not seen:
            return None
        return Speed(stats.summary([s.per_s for s in seen]).median,
                     stats.summary([s.p99_ms for s in seen]).median)

    def add(self, way: str, moment: str, speed: Speed) -> None:
        self.speed.setdefault((way, moment), []).append(speed)


def _starter(side: Side, made: "list[subprocess.Popen[bytes]]"
             ) -> Callable[..., "subprocess.Popen[bytes]"]:
    def in_child() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        LIBC.personality(ADDR_NO_RANDOMIZE)
        side.in_child()

    def start(argv: list[str], user: Optional[str] = None) -> "subprocess.Popen[bytes]":
        as_user = {"user": user, "group": user, "extra_groups": []} if user else {}
        # pylint: disable-next=consider-using-with,subprocess-popen-preexec-fn
        p = subprocess.Popen(side.wrapped(argv), stdin=subprocess.DEVNULL, cwd=side.dir,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             preexec_fn=in_child, start_new_session=True, **as_user)
        made.append(p)
        return p

    return start


def _rest(side: Side) -> None:
    """Until nothing more was merged for a second, and in two passes."""
    end = time.monotonic() + REST_S
    seen, since, scans = -1, time.monotonic(), 0
    while time.monotonic() < end:
        now = side.get("pages_sharing")
        if abs(now - seen) > seen // 100 or now and seen < 0:
            seen, since, scans = now, time.monotonic(), side.get("full_scans")
        if time.monotonic() - since > QUIET_S and side.get("full_scans") >= scans + 2:
            return
        time.sleep(0.05)


def _unthrottled(side: Side) -> None:
    side.set("sleep_millisecs", "0")
    side.set("pages_to_scan", "10000")


def _throttled(side: Side) -> None:
    side.set("pages_to_scan", "100")
    side.set("sleep_millisecs", "20")


def _kill(made: "list[subprocess.Popen[bytes]]") -> None:
    for p in made:
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for p in made:
        p.wait()


def _round(kind: type[Service], way: str, r: Result) -> None:
    made: "list[subprocess.Popen[bytes]]" = []
    directory = pathlib.Path(tempfile.mkdtemp(prefix="ksm-bench."))
    os.chmod(directory, 0o755)  # servers run as users of their own
    side: Optional[Side] = None
    try:
        side = MAKE[way](directory)
        service = kind(directory, _starter(side, made))
        service.begin()
        service.ask()  # caches fill
        if way != "native":
            side.set("run", "1")
            _unthrottled(side)
            _rest(side)
            _throttled(side)
        r.add(way, "at rest", service.ask())
        if way != "native":
            side.set("run", "2")
            _unthrottled(side)
            side.set("run", "1")
        r.add(way, "while merging", service.ask())
    finally:
        _kill(made)
        if side:
            side.end()
        shutil.rmtree(directory, ignore_errors=True)


def _start_ms(side: Side) -> float:
    """Median time of a program that ends at once."""
    true, times = side.wrapped(["/bin/true"]), []
    for _ in range(STARTS):
        t = time.monotonic()
        subprocess.run(true, check=True, stdin=subprocess.DEVNULL)
        times.append((time.monotonic() - t) * 1e3)
    return stats.summary(times).median


def start_times() -> tuple[float, float]:
    """Milliseconds of /bin/true: native, and under ksm-run beside a daemon."""
    with tempfile.TemporaryDirectory(prefix="ksm-bench.") as d:
        side = User(pathlib.Path(d))
        try:
            return _start_ms(Side(pathlib.Path(d))), _start_ms(side)
        finally:
            side.end()


# ---- the report ----


def _ratio(above: Optional[Speed], below: Optional[Speed], rate: bool) -> str:
    if not above or not below:
        return "-"
    a, b = (above.per_s, below.per_s) if rate else (above.p99_ms, below.p99_ms)
    return stats.figure(a / b) + "x" if b else "-"


def table(results: list[Result], start: tuple[float, float]) -> str:
    out = ["| server | when | requests/s: native | ksmd-user | kernel | 99 % [ms]: native "
           "| ksmd-user | kernel | ksmd-user / native | 99 % |\n|" + "---|" * 10 + "\n"]
    for r in results:
        if r.skipped:
            out.append(f"| {r.name} | skipped: {r.skipped} |\n")
            continue
        for moment in MOMENTS:
            s = [r.median(way, moment) for way in WAYS]
            rates = " | ".join(stats.figure(v.per_s) if v else "-" for v in s)
            p99 = " | ".join(stats.figure(v.p99_ms) if v else "-" for v in s)
            out.append(f"| {r.name} | {moment} | {rates} | {p99} | {_ratio(s[1], s[0], True)} "
                       f"| {_ratio(s[1], s[0], False)} |\n")
    out.append(f"\nWanted at rest: at least {Service.rate_at_rest:g}x the requests, at most "
               f"{Service.p99_at_rest:g}x the 99th percentile; of forks {Fork.rate_at_rest:.2f}x "
               f"and {Fork.p99_at_rest:g}x.\n"
               f"/bin/true: {start[0]:.2f} ms native, {start[1]:.2f} ms under ksm-run; wanted: at "
               f"most {START_MS:g} ms more.\n")
    return "".join(out)


def _document(results: list[Result], start: tuple[float, float]) -> str:
    return json.dumps({"benchmark": "programs", "start_ms": list(start), "servers": [
        {"name": r.name, "skipped": r.skipped,
         "speeds": [{"way": way, "when": moment, "per_s": [s.per_s for s in seen],
                     "p99_ms": [s.p99_ms for s in seen]}
                    for (way, moment), seen in r.speed.items()]} for r in results]}) + "\n"


def run(instrument: Instrument, kinds: Sequence[type[Service]], rounds: int, kernel: bool,
        as_json: bool) -> End:
    """The kernel's KSM only with its knobs, which needs root."""
    end = instrument.begin(kernel)
    if end != End.GOOD:
        return end
    ways = [w for w in WAYS if kernel or w != "kernel"]
    results = []
    for kind in kinds:
        r = Result(kind.name)
        results.append(r)
        if kind.missing():
            r.skipped = f"{', '.join(kind.missing())} is not installed"
            continue
        for number in range(rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                try:
                    _round(kind, way, r)
                except (Failure, OSError, subprocess.SubprocessError) as e:
                    print(f"ksm-bench: {kind.name}, {way}: {e}", file=sys.stderr)
                    end = End.FAILED
                    continue
                rest, merging = (r.speed[way, m][-1] for m in MOMENTS)
                print(f"  {kind.name}, round {number + 1}, {way}: {rest.per_s:.0f}/s at rest, "
                      f"{merging.per_s:.0f}/s while merging", file=sys.stderr)
    start = start_times()
    sys.stdout.write(_document(results, start) if as_json else table(results, start))
    return end
