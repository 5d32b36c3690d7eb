# SPDX-License-Identifier: MIT
"""Servers whose speed is measured: how two of each are started with the same data, and asked.

Data depends on the number of a record alone, so that two servers of a kind hold the same, and
merging has something to do. The first is asked, by the load generator that its own users would
take, with as many questions as it answers in about a second; the answers' times are the
generator's.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import random
import re
import shutil
import socket
import subprocess
import time
from typing import Callable, NamedTuple, Optional

PATIENCE_S = 60
SECONDS = 2  # of one measurement
RECORDS = 16384
RECORD = 4000  # bytes

Start = Callable[..., "subprocess.Popen[bytes]"]


class Failure(Exception):
    """A server or a load generator did not do what it does, in words for the operator."""


class Speed(NamedTuple):
    per_s: float
    p99_ms: float


def _wait(what: str, condition: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if process.poll() is not None:
            raise Failure(f"{what} ended with status {process.returncode}")
        if time.monotonic() > end:
            raise Failure(f"{what} does not answer")
        time.sleep(0.02)


def _output(argv: list[str], **kwargs: object) -> str:
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       check=False, timeout=PATIENCE_S, **kwargs)  # type: ignore[call-overload]
    if p.returncode:
        raise Failure(f"{argv[0]}: {(p.stderr or p.stdout).strip()[-200:]}")
    return str(p.stdout)


def _records(seed: int = 1) -> list[bytes]:
    rand = random.Random(seed)
    return [rand.randbytes(RECORD) for _ in range(RECORDS)]


def _free_port() -> int:
    """Somebody else may take it before the server does, which is seldom."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _listens(address: object) -> bool:
    """A path, or a host and a port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as s:
        return s.connect_ex(address) == 0


class Service:
    """Two servers of a kind in a directory; `start` starts a program, merged or not."""

    name = ""
    needs: tuple[str, ...] = ()
    rate_at_rest, p99_at_rest = 0.98, 1.05  # wanted, against native

    def __init__(self, directory: pathlib.Path, start: Start) -> None:
        self.dir, self.run = directory, start

    @classmethod
    def missing(cls) -> list[str]:
        return [n for n in cls.needs if not shutil.which(n)]

    def begin(self) -> None:
        """Start both, and give them their data."""
        raise NotImplementedError

    def ask(self) -> Speed:
        """Ask the first for SECONDS."""
        raise NotImplementedError


class Redis(Service):
    name, needs = "redis", ("redis-server", "redis-benchmark")

    def begin(self) -> None:
        for i in range(2):
            path = str(self.dir / f"redis{i}.sock")
            p = self.run(["redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                          "--appendonly", "no"])
            _wait("redis-server", lambda path=path: _listens(path), p)
            self._fill(path)
        self.questions = 0

    @staticmethod
    def _fill(path: str) -> None:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE_S)
            s.connect(path)
            answers = s.makefile("rb")
            for i, value in enumerate(_records()):
                s.sendall(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n"
                          % (i, RECORD, value))
                if answers.readline() != b"+OK\r\n":
                    raise Failure("redis-server did not store a record")

    def ask(self) -> Speed:
        if not self.questions:
            self.questions = 5000
            self.questions = int(self._benchmark().per_s * SECONDS)
        return self._benchmark()

    def _benchmark(self) -> Speed:
        out = _output(["redis-benchmark", "-s", str(self.dir / "redis0.sock"), "-t", "get", "-n",
                       str(self.questions), "-c", "8", "-r", str(RECORDS), "--csv"])
        head, row = ([w.strip('"') for w in line.split(",")] for line in out.split("\n")[:2])
        values = dict(zip(head, row))
        return Speed(float(values["rps"]), float(values["p99_latency_ms"]))


class _Http(Service):
    """Asked by wrk over the loopback device."""

    def wait(self, p: "subprocess.Popen[bytes]", port: int) -> None:
        _wait(self.name, lambda: _listens(("127.0.0.1", port)), p)

    def ask(self) -> Speed:
        out = _output(["wrk", "-t1", "-c8", f"-d{SECONDS}s", "--latency", "-s",
                       str(self.script), f"http://127.0.0.1:{self.port}/"])
        p99 = re.search(r"^ +99% +([0-9.]+)(us|ms|s)$", out, re.M)
        rate = re.search(r"^Requests/sec: +([0-9.]+)$", out, re.M)
        if not p99 or not rate or "Non-2xx" in out or "Socket errors" in out:
            raise Failure(f"wrk: {out.strip()[-200:]}")
        return Speed(float(rate[1]), float(p99[1]) * {"us": 1e-3, "ms": 1, "s": 1e3}[p99[2]])

    def write_script(self) -> None:
        self.script = self.dir / "ask.lua"
        self.script.write_text("request = function() return wrk.format('GET', '/' .. "
                               f"math.random(0, {RECORDS - 1})) end\n", encoding="ascii")


class Nginx(_Http):
    name, needs = "nginx", ("nginx", "wrk")

    def begin(self) -> None:
        self.write_script()
        files = self.dir / "files"
        files.mkdir()
        for i, value in enumerate(_records()):
            (files / str(i)).write_bytes(value)
        os.chmod(files, 0o755)
        for i in range(2):
            port = _free_port()
            conf = self.dir / f"nginx{i}.conf"
            conf.write_text(
                f"daemon off; worker_processes 2; pid {self.dir}/nginx{i}.pid;\n"
                f"error_log {self.dir}/nginx{i}.log; user {pwd.getpwuid(os.geteuid()).pw_name};\n"
                "events {}\n"
                f"http {{ access_log off; open_file_cache max={RECORDS};\n"
                + "".join(f"{what}_temp_path {self.dir}/{what}{i};\n" for what in
                          ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                + f"server {{ listen 127.0.0.1:{port}; root {files}; }} }}\n", encoding="ascii")
            self.wait(self.run(["nginx", "-c", str(conf), "-e", f"{self.dir}/nginx{i}.log"]), port)
            self.port = port if i == 0 else self.port


class Node(_Http):
    name, needs = "node", ("node", "wrk")

    PROGRAM = """
const records = new Map();
let x = 1n;
for (let i = 0; i < %d; i++) {
    const b = Buffer.alloc(%d);
    for (let k = 0; k < b.length; k += 8) {
        x = BigInt.asUintN(64, x * 6364136223846793005n + 1442695040888963407n);
        b.writeBigUInt64LE(x, k);
    }
    records.set("/" + i, b.toString("latin1"));
}
require("http").createServer((q, a) => a.end(records.get(q.url), "latin1"))
    .listen(+process.argv[2], "127.0.0.1");
"""

    def begin(self) -> None:
        self.write_script()
        program = self.dir / "server.js"
        program.write_text(self.PROGRAM % (RECORDS, RECORD), encoding="ascii")
        for i in range(2):
            port = _free_port()
            self.wait(self.run(["node", str(program), str(port)]), port)
            self.port = port if i == 0 else self.port


class Postgres(Service):
    name, needs = "postgresql", ()
    user: Optional[str] = "postgres"

    @classmethod
    def bin(cls) -> Optional[pathlib.Path]:
        return next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))), None)

    @classmethod
    def missing(cls) -> list[str]:
        where = cls.bin()
        return [] if where and (where / "pgbench").exists() else ["pgbench"]

    def begin(self) -> None:
        self.user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        for i in range(2):
            data, sockets = self.dir / f"data{i}", self.dir / f"sockets{i}"
            for d in (data, sockets):
                d.mkdir(mode=0o700)
                if self.user:
                    shutil.chown(d, self.user, self.user)
            self._tool("initdb", "-D", str(data), "-A", "trust", "-N", "-U", "postgres")
            p = self.run([str(self._bin() / "postgres"), "-D", str(data), "-k", str(sockets), "-h",
                          "", "-c", "fsync=off", "-c", "shared_buffers=64MB"], user=self.user)
            _wait("postgres", lambda sockets=sockets: subprocess.run(
                [self._bin() / "pg_isready", "-h", sockets, "-q"], check=False).returncode == 0, p)
            self._tool("pgbench", "-i", "-s", "4", "-q", "-h", str(sockets), "-U", "postgres",
                       "postgres")

    def _bin(self) -> pathlib.Path:
        where = self.bin()
        assert where
        return where

    def _tool(self, name: str, *args: str) -> str:
        as_user = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        return _output([str(self._bin() / name), *args], cwd=self.dir, **as_user)

    def ask(self) -> Speed:
        for old in self.dir.glob("sockets0/log.*"):
            old.unlink()
        out = self._tool("pgbench", "-S", "-c", "4", "-j", "1", "-T", str(SECONDS), "-l",
                         "--log-prefix", str(self.dir / "sockets0" / "log"), "-h",
                         str(self.dir / "sockets0"), "-U", "postgres", "postgres")
        rate = re.search(r"^tps = ([0-9.]+)", out, re.M)
        us = sorted(int(line.split()[2]) for log in self.dir.glob("sockets0/log.*")
                    for line in log.read_text(encoding="ascii").splitlines())
        if not rate or not us:
            raise Failure(f"pgbench: {out.strip()[-200:]}")
        return Speed(float(rate[1]), us[len(us) * 99 // 100] / 1e3)


class Fork(Service):
    """A process that forks: its rate is that of its median fork, until the child has ended.

    Half of its memory equals the other half, in the same order.
    """

    name, needs = "fork", ("python3",)
    rate_at_rest, p99_at_rest = 2 / 3, 1.5
    HALF = 96 << 20

    PROGRAM = """
import mmap, os, random, socket, sys, time
half = random.Random(1).randbytes(int(sys.argv[2]))
m = mmap.mmap(-1, 2 * len(half), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[:len(half)] = half
m[len(half):] = half
del half
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1] + ".new")
s.listen()
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    c, times, end = s.accept()[0], [], time.monotonic() + float(sys.argv[3])
    while time.monotonic() < end:
        t = time.monotonic()
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        times.append(time.monotonic() - t)
    times.sort()
    c.sendall(b"%f %f" % (1 / times[len(times) // 2], times[len(times) * 99 // 100] * 1e3))
    c.close()
"""

    def begin(self) -> None:
        path = str(self.dir / "fork.sock")
        p = self.run(["python3", "-c", self.PROGRAM, path, str(self.HALF), str(SECONDS)])
        _wait("python3", lambda: os.path.exists(path), p)

    def ask(self) -> Speed:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE_S)
            s.connect(str(self.dir / "fork.sock"))
            answer = b"".join(iter(lambda: s.recv(100), b"")).split()
        if len(answer) != 2:
            raise Failure("the process that forks has ended")
        return Speed(float(answer[0]), float(answer[1]))


SERVICES: tuple[type[Service], ...] = (Redis, Postgres, Node, Nginx, Fork)
