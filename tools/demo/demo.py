#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make run: merge the memory of unmodified programs from Debian's archive, and check their data.

For each kind of program: start several under ksm-run, give them all the same data, look at the
memory that the kernel says they use, let the daemon merge, look again. Afterwards ask every program
for all of its data, and compare it with what it was given.

What is measured. "Memory" is the proportional set size (PSS) from /proc/PID/smaps_rollup: a page
that n processes share counts 1/n in each, so that the sum is what they really use. Beside it stands
what the whole machine has available, which counts everything: the daemon, its frames, page tables,
mappings. Whatever else happens on the machine meanwhile shows there, too. It is MemAvailable and
the free pages that the kernel keeps in lists of each CPU: these are in none of the figures of
/proc/meminfo, and since Linux 6.7 the lists grow to hundreds of MiB when much is freed at a time.

Everything that is started dies with this process (PR_SET_PDEATHSIG), and is ended and waited for in
an orderly way when it is interrupted.
"""

import argparse
import ctypes
import glob
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from worker import digest

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
PYTHON = "/usr/bin/python3"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)

# Merging has come to rest when it added nearly nothing for so long, over at least two passes. It
# always adds something, because programs go on writing to a few pages, which part and merge again.
CALM_SECONDS = 2.0
CALM_SHARE = 0.005
# More than any machine needs for a few hundred MiB; a daemon that does not come to rest is broken.
MERGE_TIMEOUT = 60.0
START_TIMEOUT = 30.0


class Failure(Exception):
    """Something is wrong, in words for the person at the terminal."""


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived."""


START = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - START:5.1f} s] {text}", flush=True)


def wait_for(what, condition, timeout, process=None):
    """Poll until condition() is true; fail when it is not in time, or the process has ended."""
    end = time.monotonic() + timeout
    while not condition():
        if process and process.poll() is not None:
            raise Failure(f"{what}: it ended with status {process.returncode}"
                          f"{tail(process.log)}")
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {timeout:.0f} s"
                          f"{tail(process.log) if process else ''}")
        time.sleep(0.02)


def tail(path):
    """The end of a log, to be added to a message."""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = f.read().splitlines()[-15:]
    except OSError:
        lines = []
    return "".join("\n    " + line for line in lines)


class Processes:
    """Everything that was started, so that it can be ended."""

    def __init__(self, directory):
        self.directory = directory
        self.all = []

    def start(self, name, argv, **kwargs):
        """Start argv with its error output in a log file. It dies when we do."""
        parent = os.getpid()

        def in_child():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        path = os.path.join(self.directory, name + ".log")
        with open(path, "wb") as log:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
            kwargs.setdefault("stdout", log)
            try:
                p = subprocess.Popen(argv, stderr=log, preexec_fn=in_child,
                                     start_new_session=True, **kwargs)
            except OSError as e:
                raise Failure(f"cannot start {argv[0]}: {e.strerror}") from e
        p.name, p.log = name, path
        self.all.append(p)
        return p

    def end(self, processes, timeout=5.0):
        """Ask all of these and what they started to end, wait, and insist where that is needed."""
        for p in processes:
            self.kill(p, signal.SIGTERM)
        for p in processes:
            try:
                p.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill(p, signal.SIGKILL)
                p.wait()
            for f in (p.stdin, p.stdout):
                if f:
                    f.close()
            self.all.remove(p)

    @staticmethod
    def kill(p, sig):
        if p.poll() is None:
            try:
                os.killpg(p.pid, sig)
            except ProcessLookupError:
                pass

    def end_all(self):
        self.end(list(reversed(self.all)))


class Daemon:
    """build/ksmd-user in a runtime directory of its own, and its control socket."""

    def __init__(self, processes, build, runtime_dir):
        self.processes = processes
        self.path = os.path.join(runtime_dir, "control.sock")
        self.process = processes.start(
            "ksmd-user", [os.path.join(build, "ksmd-user"), "--runtime-dir", runtime_dir])
        wait_for("ksmd-user does not start", self.answers, START_TIMEOUT, self.process)

    def answers(self):
        try:
            self.get("ksm/run")
            return True
        except (OSError, Failure):
            return False

    def command(self, line):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(10)
            s.connect(self.path)
            s.sendall(line.encode() + b"\n")
            f = s.makefile("rb")
            head = f.readline().decode().split(None, 1)
            if not head or head[0] != "ok":
                raise Failure(f"ksmd-user refuses '{line}': {' '.join(head)}")
            return f.read(int(head[1])).decode()

    def get(self, path):
        return self.command("get " + path).strip()

    def number(self, path):
        return int(self.get(path))

    def run(self, value):
        self.command(f"set ksm/run {value}")

    def state(self):
        if self.process.poll() is not None:
            raise Failure(f"ksmd-user ended with status {self.process.returncode}"
                          f"{tail(self.process.log)}")
        return {n: self.number("ksm/" + n) for n in ("pages_shared", "pages_sharing", "full_scans",
                                                     "ksm_zero_pages")}

    def stop(self):
        """With no program left there is nothing to share; the daemon must know that."""
        wait_for("ksmd-user still counts shared pages of programs that are gone",
                 lambda: self.state()["pages_shared"] == 0 and self.number("ksm/clients") == 0,
                 START_TIMEOUT, self.process)
        self.processes.end([self.process])
        if self.process.returncode != 0:
            raise Failure(f"ksmd-user ended with status {self.process.returncode}"
                          f"{tail(self.process.log)}")


def pss(pids):
    """What these processes use, in bytes, as the kernel accounts it."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def mem_available():
    """What the machine has for new programs, in bytes."""
    with open("/proc/meminfo", encoding="ascii") as f:
        available = sum(int(line.split()[1]) for line in f if line.startswith("MemAvailable:"))
    with open("/proc/zoneinfo", encoding="ascii") as f:
        # "count:" is below "cpu:" in "pagesets" and nowhere else.
        in_lists = sum(int(line.split()[1]) for line in f if line.split()[0] == "count:")
    return available * 1024 + in_lists * os.sysconf("SC_PAGE_SIZE")


def receive(s, n):
    """Exactly n bytes."""
    parts = []
    while n:
        part = s.recv(min(n, 1 << 20))
        if not part:
            raise Failure("a server closed the connection")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


class Server:
    """A kind of program that listens on a socket, with records to store in it."""

    def __init__(self, demo, count):
        self.demo = demo
        self.count = count
        self.processes, self.sockets = [], []

    def start(self):
        for i in range(self.count):
            path = os.path.join(self.demo.directory, f"{self.name}-{i}.sock")
            p = self.demo.run(f"{self.name}-{i}", self.argv(path), ["--fixed-layout"])
            self.processes.append(p)
            wait_for(f"{self.name} does not start", lambda: self.connect(path), START_TIMEOUT, p)

    def connect(self, path):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            s.connect(path)
        except OSError:
            s.close()
            return False
        s.settimeout(30)
        self.sockets.append(s)
        return True

    def record(self, i):
        """Contents number i: different in every page, the same in every program."""
        return hashlib.shake_128(f"{self.name} {i}".encode()).digest(self.record_size)

    def load(self):
        """The same commands, in the same order, to every program."""
        step = max(1, MIB // self.record_size)
        for first in range(0, self.records, step):
            ids = range(first, min(first + step, self.records))
            batch = b"".join(self.store(i) for i in ids)
            for s in self.sockets:
                s.sendall(batch)
            for s in self.sockets:
                if receive(s, len(self.stored) * len(ids)) != self.stored * len(ids):
                    raise Failure(f"{self.name} did not store what it was sent")

    def check(self):
        """Ask every program for every record. Returns bytes compared."""
        step = max(1, MIB // self.record_size)
        for first in range(0, self.records, step):
            ids = range(first, min(first + step, self.records))
            ask = b"".join(self.fetch(i) for i in ids)
            expected = b"".join(self.fetched(i) for i in ids)
            for n, s in enumerate(self.sockets):
                s.sendall(ask)
                if receive(s, len(expected)) != expected:
                    raise Failure(f"WRONG DATA: {self.name} number {n}, records from {first}")
        return self.records * self.record_size * self.count

    def close(self):
        for s in self.sockets:
            s.close()
        self.sockets.clear()


class Redis(Server):
    name = "redis-server"
    record_size = 4000
    stored = b"+OK\r\n"

    def __init__(self, demo, count, size):
        super().__init__(demo, count)
        self.records = size // self.record_size
        self.data = f"{self.records} values, {size // MIB} MB"

    def argv(self, path):
        return ["redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                "--appendonly", "no", "--daemonize", "no", "--dir", self.demo.directory]

    def store(self, i):
        value = self.record(i)
        key = b"key:%08d" % i
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)

    def fetch(self, i):
        return b"*2\r\n$3\r\nGET\r\n$12\r\nkey:%08d\r\n" % i

    def fetched(self, i):
        return b"$%d\r\n%b\r\n" % (self.record_size, self.record(i))


class Memcached(Server):
    name = "memcached"
    record_size = 60000
    stored = b"STORED\r\n"

    def __init__(self, demo, count, size):
        super().__init__(demo, count)
        self.records = size // self.record_size
        self.size = size
        self.data = f"{self.records} values, {size // MIB} MB"

    def argv(self, path):
        argv = ["memcached", "-s", path, "-m", str(2 * self.size // MIB), "-M", "-t", "2"]
        return argv + (["-u", "root"] if os.geteuid() == 0 else [])

    def store(self, i):
        return b"set key%d 0 0 %d\r\n%b\r\n" % (i, self.record_size, self.record(i))

    def fetch(self, i):
        return b"get key%d\r\n" % i

    def fetched(self, i):
        return b"VALUE key%d 0 %d\r\n%b\r\nEND\r\n" % (i, self.record_size, self.record(i))


class Python:
    """Workers that have parsed the same document."""

    name = "python3"

    def __init__(self, demo, count, size):
        self.demo = demo
        self.count = count
        self.size = size
        self.processes = []

    def document(self):
        """Text that is on every machine that can run this: sources, one list of lines a file."""
        document, size = {}, 0
        for pattern in ("/usr/lib/python3*/**/*.py", "/usr/share/doc/**/copyright",
                        "/usr/share/perl/**/*.p[lm]", "/usr/include/**/*.h"):
            for path in sorted(glob.iglob(pattern, recursive=True)):
                try:
                    with open(path, encoding="utf-8") as f:
                        document[path] = f.read().splitlines()
                    size += os.path.getsize(path)
                except (OSError, UnicodeDecodeError):
                    continue
                if size >= self.size:
                    return document, size
        return document, size

    def start(self):
        document, size = self.document()
        self.expected = digest(document)
        self.size = size
        self.data = f"{len(document)} files, {size // MIB} MB of text"
        path = os.path.join(self.demo.directory, "document.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(document, f)
        # All workers use one hash seed: with its own, each lays out dictionaries differently.
        env = dict(os.environ, PYTHONHASHSEED="0")
        for i in range(self.count):
            self.processes.append(self.demo.run(
                f"{self.name}-{i}", [PYTHON, os.path.join(HERE, "worker.py"), path],
                ["--fixed-layout"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def load(self):
        for p in self.processes:
            if p.stdout.readline() != b"ready\n":
                p.poll()
                raise Failure(f"{p.name} did not load the document{tail(p.log)}")

    def check(self):
        for p in self.processes:
            p.stdin.write(b"digest\n")
            p.stdin.flush()
        for p in self.processes:
            answer = p.stdout.readline().decode().strip()
            if answer != self.expected:
                raise Failure(f"WRONG DATA: {p.name} says {answer or 'nothing'}, "
                              f"it should be {self.expected}{tail(p.log)}")
        return self.size * self.count

    def close(self):
        pass


class Demo:
    def __init__(self, build, directory, scale):
        self.build = build
        self.directory = directory
        self.runtime_dir = os.path.join(directory, "run")
        os.mkdir(self.runtime_dir, 0o700)
        self.processes = Processes(directory)
        self.scale = scale
        self.rows = []

    def run(self, name, argv, options, **kwargs):
        return self.processes.start(
            name, [os.path.join(self.build, "ksm-run"), "--runtime-dir", self.runtime_dir,
                   *options, "--", *argv], **kwargs)

    def merge(self, daemon, kind):
        """Let the daemon merge until it comes to rest. Returns seconds to 99 % of the result."""
        start = time.monotonic()
        base = daemon.state()
        rested = base["pages_sharing"]
        seen, changed, shown = [(0.0, rested)], start, -1.0
        daemon.run(1)
        while True:
            time.sleep(0.05)
            now, state = time.monotonic(), daemon.state()
            if state["pages_sharing"] > seen[-1][1]:
                gain = state["pages_sharing"] - base["pages_sharing"]
                if state["pages_sharing"] - rested > CALM_SHARE * gain:
                    rested, changed = state["pages_sharing"], now
                seen.append((now - start, state["pages_sharing"]))
            if sys.stdout.isatty() and now - shown > 0.2:
                shown = now
                print(f"\r          {kind.name}: {state['pages_sharing'] - base['pages_sharing']} "
                      f"pages saved", end="\r", flush=True)
            if now - changed > CALM_SECONDS and state["full_scans"] >= base["full_scans"] + 2:
                break
            if now - start > MERGE_TIMEOUT:
                raise Failure(f"merging does not come to rest within {MERGE_TIMEOUT:.0f} s: "
                              f"{state}")
        daemon.run(0)
        goal = base["pages_sharing"] + 0.99 * (seen[-1][1] - base["pages_sharing"])
        return next(t for t, pages in seen if pages >= goal)

    def stage(self, daemon, kind):
        """One kind of program from start to merged."""
        kind.start()
        kind.load()
        say(f"{kind.count} x {kind.name} hold {kind.data} each")
        pids = [p.pid for p in kind.processes]
        time.sleep(0.3)
        before = daemon.state()
        used_before, available_before = pss(pids), mem_available()
        seconds = self.merge(daemon, kind)
        after = daemon.state()
        used_after, available_after = pss(pids), mem_available()
        row = {
            "name": kind.name, "count": kind.count, "before": used_before, "after": used_after,
            "available": available_after - available_before, "seconds": seconds,
            "shared": after["pages_shared"] - before["pages_shared"],
            "sharing": after["pages_sharing"] - before["pages_sharing"],
        }
        self.rows.append(row)
        say(f"  {used_before / MIB:.0f} MiB became {used_after / MIB:.0f} MiB "
            f"in {seconds:.1f} s")
        if row["sharing"] <= 0:
            raise Failure(f"nothing was merged in {kind.name}{tail(daemon.process.log)}")

    def table(self, daemon):
        print()
        print("program       processes  before MiB  after MiB  saved  pages_shared  pages_sharing"
              "  merged in  available MiB")
        total = {"before": 0, "after": 0, "count": 0, "shared": 0, "sharing": 0, "available": 0}
        for r in self.rows:
            print(f"{r['name']:<13} {r['count']:9} {r['before'] / MIB:11.0f} "
                  f"{r['after'] / MIB:10.0f} {1 - r['after'] / r['before']:6.0%} {r['shared']:13} "
                  f"{r['sharing']:14} {r['seconds']:8.1f} s {r['available'] / MIB:+14.0f}")
            for k in total:
                total[k] += r[k]
        print(f"{'together':<13} {total['count']:9} {total['before'] / MIB:11.0f} "
              f"{total['after'] / MIB:10.0f} {1 - total['after'] / total['before']:6.0%} "
              f"{total['shared']:13} {total['sharing']:14} {'':10} "
              f"{total['available'] / MIB:+14.0f}")
        profit = daemon.number("ksm/general_profit")
        saved = total["before"] - total["after"]
        rss = daemon.number("daemon/rss_bytes")
        print(f"The daemon itself uses {rss / MIB:.0f} MiB. By its own count "
              f"{profit / MIB:.0f} MiB are saved, less all metadata (general_profit).")
        print("'available': change of what the whole machine has available, with the daemon, its "
              "frames and all else.")
        if abs(total["available"] - saved) > saved / 4:
            print("(It is far from what the programs saved: something else on this machine took "
                  "or gave memory meanwhile.)")
        print()
        if profit <= 0 or saved <= 0:
            raise Failure("merging cost more memory than it saved")

    def main(self):
        say(f"starting ksmd-user in {self.runtime_dir}")
        daemon = Daemon(self.processes, self.build, self.runtime_dir)
        daemon.run(0)
        kinds = [
            Redis(self, 4, int(100 * MIB * self.scale)),
            Python(self, 6, int(20 * MIB * self.scale)),
            Memcached(self, 3, int(60 * MIB * self.scale)),
        ]
        for kind in kinds:
            self.stage(daemon, kind)
        self.table(daemon)
        say("asking every program for all of its data")
        for kind in kinds:
            checked = kind.check()
            say(f"  {kind.count} x {kind.name}: {checked // MIB} MB, every byte as it should be")
        say("ending the programs")
        for kind in kinds:
            kind.close()
            self.processes.end(kind.processes)
        daemon.stop()


def check_machine(build):
    for name in ("ksmd-user", "ksm-run", "libksm-preload.so"):
        if not os.path.exists(os.path.join(build, name)):
            raise Failure(f"{build}/{name} does not exist; run 'make' first")
    for program in ("redis-server", "memcached", PYTHON):
        if not shutil.which(program):
            raise Failure(f"{program} is not installed; 'tools/setup.sh run' installs it")


def interrupt(signum, _frame):
    raise Interrupted(signal.Signals(signum).name)


def parse_args():
    p = argparse.ArgumentParser(description="Demonstration of ksmd-user on unmodified programs.")
    p.add_argument("--build", default="build", help="directory of the built programs")
    p.add_argument("--scale", type=float, default=0,
                   help="size of the data, 1 for 100 MB a redis (default: as memory allows)")
    return p.parse_args()


def main():
    args = parse_args()
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, interrupt)
    demo, status = None, 1
    directory = tempfile.mkdtemp(prefix="ksm-demo-")
    try:
        build = os.path.abspath(args.build)
        check_machine(build)
        # At full size the programs need 1.2 GB until they are merged.
        scale = args.scale or min(1.0, mem_available() / (2.5 * 1024 * MIB))
        demo = Demo(build, directory, scale)
        demo.main()
        status = 0
    except Failure as e:
        print(f"\nFAILED: {e}", file=sys.stderr, flush=True)
    except Interrupted as e:
        print(f"\ninterrupted by {e}", file=sys.stderr, flush=True)
        status = 130
    finally:
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        if demo:
            demo.processes.end_all()
        shutil.rmtree(directory, ignore_errors=True)
    if status == 0:
        say("all data is right, and everything that was started is gone")
    return status


if __name__ == "__main__":
    sys.exit(main())
