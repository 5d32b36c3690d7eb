# SPDX-License-Identifier: MIT
"""Real programs, as Debian has them, beside a daemon that is killed again and again.

A program says how it is started, given its data, made to work, and asked for all of its data
(`Program`). `Run` starts it: as it is, under ksm-run with a daemon of its own, or for the kernel's
KSM. `test_programs.py` tests that no byte is wrong and that memory merges; `measure.py` measures
the memory, for the table in docs/programs.md.

Programs die with this process (PR_SET_PDEATHSIG), the daemon with its process group.
"""

import ctypes
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build"))
DAEMON = os.environ.get("KSM_DAEMON", str(BUILD / "ksmd-user"))
KERNEL = pathlib.Path("/sys/kernel/mm/ksm")
PATIENCE = 60  # seconds; everything waited for takes a fraction of one on an idle machine
PR_SET_PDEATHSIG = 1
PR_SET_MEMORY_MERGE = 67
ADDR_NO_RANDOMIZE = 0x0040000
LIBC = ctypes.CDLL(None, use_errno=True)
MIB = 1 << 20
# What a failed test shows of its daemon.
COUNTERS = ("run", "clients", "full_scans", "pages_shared", "pages_sharing", "pages_unshared",
            "pages_volatile", "order_pages_failed")


class Wrong(Exception):
    """A program did not do what it does without us, or has other data."""


def expect(what, seen, wanted):
    """Compare, and show the place where the two part: data may be long."""
    if seen == wanted:
        return
    at = 0
    if isinstance(seen, (bytes, str)) and isinstance(wanted, type(seen)):
        at = next((i for i, (a, b) in enumerate(zip(seen, wanted)) if a != b),
                  min(len(seen), len(wanted)))
        seen, wanted = seen[at:at + 80], wanted[at:at + 80]
    raise Wrong(f"{what}: at {at}: {seen!r}, not {wanted!r}")


def wait_for(what, condition, process=None, timeout=PATIENCE):
    """Poll until condition() is true, and return what it says."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if process and process.poll() is not None:
            raise Wrong(f"{what}: {process.name} ended with status {process.returncode}"
                        f"{tail(process.log)}")
        if time.monotonic() > end:
            raise Wrong(f"waited in vain for {what}{tail(process.log) if process else ''}")
        time.sleep(0.02)


def tail(path):
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "".join("\n    " + line for line in text.splitlines()[-12:])


def free_port():
    """A port that nobody has. Somebody else may take it before we do, which is seldom."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def session_of(pid):
    """All processes of a session: what a program started, too."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="latin1").rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == pid:
            found.append(int(stat.parent.name))
    return found


def threads(pid):
    """Each thread's name, state, and what it waits for in the kernel."""
    found = ""
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            name, fields = (task / "stat").read_text(encoding="latin1").rsplit(")", 1)
            wchan = (task / "wchan").read_text(encoding="latin1")
        except OSError:
            continue
        found += f" {name.split('(', 1)[1]} {fields.split()[0]} {wchan};"
    return found


class Daemon:
    """A daemon of the test's own."""

    def __init__(self, directory):
        self.run_dir = directory / "run"
        self.log = directory / "daemon.log"
        self.process = None
        self.kills = 0
        self.start()

    def start(self):
        # It stays in our process group: PR_SET_PDEATHSIG would end it with the storm's thread.
        with open(self.log, "ab") as log:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(
                [DAEMON, "--runtime-dir", self.run_dir, "--allow-group", "all",
                 "--log-level", "warning"], stderr=log)
        self.process.name, self.process.log = "ksmd-user", self.log
        wait_for("the daemon", lambda: self.get("ksm/run", None) is not None, self.process)

    def ctl(self, *args):
        return subprocess.run([BUILD / "ksmdctl", "--runtime-dir", self.run_dir, *args],
                              capture_output=True, text=True, check=False, timeout=PATIENCE)

    def get(self, name, default=0):
        p = self.ctl("get", name)
        return int(p.stdout) if p.returncode == 0 else default

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.kills += 1

    def end(self):
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


class Storm:
    """Kills the daemon, stops it, has everything un-merged, until the end."""

    def __init__(self, daemon, seed):
        self.daemon = daemon
        self.random = random.Random(seed)
        self.over = threading.Event()
        self.error = None
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        try:
            while not self.over.wait(self.random.uniform(0.1, 0.8)):
                self.random.choice([self.kill, self.kill, self.kill, self.stop, self.unmerge])()
        except (Wrong, OSError, subprocess.SubprocessError) as e:
            self.error = e

    def kill(self):
        self.daemon.kill()
        self.over.wait(self.random.uniform(0, 0.3))
        self.daemon.start()

    def stop(self):
        self.daemon.process.send_signal(signal.SIGSTOP)
        self.over.wait(self.random.uniform(0, 0.3))
        self.daemon.process.send_signal(signal.SIGCONT)

    def unmerge(self):
        self.daemon.ctl("set", "ksm/run", "2")
        self.daemon.ctl("set", "ksm/run", "1")


class Run:
    """A directory, processes, and the way in which they are started: "native", "kernel", "ours"."""

    def __init__(self, way="ours", options=()):
        self.way = way
        self.options = list(options)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ksmd-programs."))
        # Some programs run as users of their own, who must find what we give them.
        os.chmod(self.dir, 0o755)
        self.processes = []
        self.daemon = None
        if way == "ours":
            for name in ("ksm-run", "libksm-preload.so"):
                shutil.copy(BUILD / name, self.dir / name)
            self.daemon = Daemon(self.dir)

    def wrapped(self, argv, plain=False):
        argv = [str(a) for a in argv]
        if self.way != "ours" or plain:
            return argv
        return [str(self.dir / "ksm-run"), "--preload", str(self.dir / "libksm-preload.so"),
                "--runtime-dir", str(self.daemon.run_dir), *self.options, "--", *argv]

    def identity(self, user):
        """Arguments of Popen() for a user of that name, where we may choose."""
        if not user or os.geteuid() != 0:
            return {}
        entry = pwd.getpwnam(user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def directory(self, name, user=None):
        path = self.dir / name
        path.mkdir(mode=0o755)
        if user and os.geteuid() == 0:
            shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        return path

    def start(self, name, argv, user=None, plain=False, **kwargs):
        """Start a program, in a session of its own and with its errors in a log."""
        fixed = "--fixed-layout" in self.options and not plain
        merge = self.way == "kernel" and not plain
        flags = PR_SET_MEMORY_MERGE

        def in_child():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if fixed:
                LIBC.personality(ADDR_NO_RANDOMIZE)
            if merge and LIBC.prctl(flags, 1, 0, 0, 0):
                os._exit(127)

        log_path = self.dir / f"{name}.log"
        with open(log_path, "ab") as log:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
            kwargs.setdefault("stdout", log)
            kwargs.setdefault("cwd", self.dir)
            # pylint: disable-next=consider-using-with,subprocess-popen-preexec-fn
            p = subprocess.Popen(self.wrapped(argv, plain), stderr=log, preexec_fn=in_child,
                                 start_new_session=True, **self.identity(user), **kwargs)
        p.name, p.log, p.plain = name, log_path, plain
        self.processes.append(p)
        return p

    def do(self, argv, user=None, plain=False, status=0, timeout=PATIENCE, **kwargs):
        """Run a program to its end, which must be the usual one; return its output."""
        p = subprocess.run(self.wrapped(argv, plain), capture_output=True, timeout=timeout,
                           check=False, **{"cwd": self.dir, **self.identity(user), **kwargs})
        if p.returncode != status:
            said = (p.stdout[-600:] + b"\n" + p.stderr[-1200:]).decode(errors="replace")
            raise Wrong(f"{' '.join(map(str, argv))[:200]}: status {p.returncode}: {said}")
        return p.stdout

    def stop(self, process, sig=signal.SIGTERM, status=(0, -signal.SIGTERM)):
        """End a program by a signal, in its usual time and with its usual status."""
        process.send_signal(sig)
        self.ended(process, status)

    def ended(self, process, status=(0,)):
        try:
            got = process.wait(PATIENCE)
        except subprocess.TimeoutExpired as e:
            raise Wrong(f"{process.name} does not end") from e
        if got not in status:
            raise Wrong(f"{process.name} ended with status {got}{tail(process.log)}")
        wait_for(f"the end of {process.name}'s children", lambda: not session_of(process.pid))

    def pids(self):
        return [pid for p in self.processes if not p.plain for pid in session_of(p.pid)]

    def memory(self):
        """Proportional set size of all programs, in bytes: what they really use."""
        total = 0
        for pid in self.pids():
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            except OSError:
                continue
            found = re.search(r"^Pss: +(\d+) kB", text, re.M)
            total += int(found[1]) << 10 if found else 0
        return total

    def state(self):
        """Where everything stands, for whoever reads why a test failed: a line for each process
        with its threads, and the daemon's counters."""
        lines = []
        for p in ([self.daemon.process] if self.daemon else []) + self.processes:
            # The daemon is in our session, and is alone in its process.
            pids = session_of(p.pid) or ([p.pid] if p.poll() is None else [])
            lines += [f"STATE: {p.name} {pid}:{threads(pid)}" for pid in pids]
            if not pids:
                lines.append(f"STATE: {p.name} has ended with status {p.poll()}")
        if self.daemon:
            try:
                seen = [f"{n} {self.daemon.get('ksm/' + n, 'unknown')}" for n in COUNTERS]
                lines.append("STATE: " + ", ".join(seen))
            except subprocess.TimeoutExpired:
                lines.append("STATE: the daemon answers no question")
        return "\n".join(lines)

    def end(self):
        """Nothing that was started stays."""
        for p in self.processes:
            for pid in session_of(p.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            p.kill()
            p.wait()
            for stream in (p.stdin, p.stdout):
                if stream:
                    stream.close()
        if self.daemon:
            self.daemon.end()
        shutil.rmtree(self.dir, ignore_errors=True)


class Program:
    """One kind of program. `r` is the Run that starts it."""

    name = ""
    packages = ()       # Debian's, of which the files in `needs` come
    needs = ()          # programs, by name or path
    options = ()        # of ksm-run
    merges = 0          # pages that must merge at least; 0: the program is too short for that
    rests = False       # its forks share pages: they must not be tried for ever

    def __init__(self, r):
        self.r = r

    @classmethod
    def missing(cls):
        return [n for n in cls.needs if not shutil.which(n)]

    def start(self):
        """Start it, and give it its data."""

    def work(self, n):
        """One round, number n from 1, of reading and writing, with a check of what was read."""

    def check(self):
        """Ask for all data, and compare."""

    def stop(self):
        """End it, and look at how it ends."""
