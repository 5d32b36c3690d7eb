# SPDX-License-Identifier: MIT
"""ksmd-fs: files in the shape of the kernel's, with the daemon behind them.

Everything is mounted in a mount namespace of the test's own. Where the kernel has KSM the same
stores are made there, and answers compared; its knobs are put back.
"""

import contextlib
import fcntl
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import checkline  # noqa: E402
from view import (BUILD, KERNEL, PATIENCE, WHY_NOT, Fixture, as_user, await_, load,  # noqa: E402
                  own_namespace, result, store)

LOCK = "/run/lock/ksm-bench.lock"  # of whoever uses the kernel's KSM on this machine
OTHER_UID = 12345

NAMES = """advisor_max_cpu advisor_max_pages_to_scan advisor_min_pages_to_scan advisor_mode
advisor_target_scan_time full_scans general_profit ksm_zero_pages max_page_sharing
merge_across_nodes pages_scanned pages_shared pages_sharing pages_skipped pages_to_scan
pages_unshared pages_volatile run sleep_millisecs smart_scan stable_node_chains
stable_node_chains_prune_millisecs stable_node_dups use_zero_pages""".split()
KNOBS = {"run": b"0", "pages_to_scan": b"123", "sleep_millisecs": b"45", "merge_across_nodes": b"1",
         "max_page_sharing": b"64", "stable_node_chains_prune_millisecs": b"777",
         "use_zero_pages": b"0", "smart_scan": b"1", "advisor_mode": b"none",
         "advisor_max_cpu": b"50", "advisor_min_pages_to_scan": b"600",
         "advisor_max_pages_to_scan": b"20000", "advisor_target_scan_time": b"150"}
VALUES = [b"0", b"1", b"2", b"3", b"99", b"101", b"65536", b"2147483647", b"2147483648",
          b"4294967295", b"18446744073709551616", b"9" * 30, b"1\n", b"1\n\n", b"1\r\n",
          b"\n", b" ", b" 1", b"1 ", b"\t1", b"1\t", b"+1", b"+5", b"-1", b"-0", b"--1", b"0x1",
          b"010", b"1e2", b"1.0", b"1k", b"a", b"y", b"Y", b"n", b"no", b"on", b"Off", b"of", b"o",
          b"true", b"F", b"none", b"none\n", b"scan-time", b"[none]", b"NONE", b" none",
          b"none ", b"scan_time", b"scan-time\n\n", b"1\0", b"1\0002", b"\0", b"1 2", b"1\n2\n",
          b"0" * 50 + b"7", b"0" * 4094 + b"7", b"0" * 5000 + b"7", b"9" * 5000, b"\xff1"]

@unittest.skipIf(WHY_NOT, WHY_NOT)
class View(Fixture):
    # ---- the kernel's directory ----

    def test_the_kernels_names_and_no_other(self):
        self.assertEqual(sorted(os.listdir(self.ksm)), NAMES)
        for name in NAMES:
            mode = 0o100644 if name in KNOBS else 0o100444
            st = os.stat(self.ksm / name)
            self.assertEqual((oct(st.st_mode), st.st_size), (oct(mode), 4096), name)
            # Twice the daemon's word, because counters move.
            before, seen, after = (self.ctl("get", "ksm/" + name), load(self.ksm / name),
                                   self.ctl("get", "ksm/" + name))
            if before == after:
                self.assertEqual(seen, before, name)

    def test_a_bind_mount_serves_the_kernels_place(self):
        with self.over_the_kernels_place() as place:
            self.assertEqual(sorted(os.listdir(place)), NAMES)
            self.assertEqual(store(place / "sleep_millisecs", b"77\n"), 3)
        self.assertEqual(self.ctl("get", "ksm/sleep_millisecs"), "77\n")

    @staticmethod
    def all_stores(place):
        out = {}
        for name, calm in KNOBS.items():
            for value in VALUES:
                first = store(place / name, calm)
                key = f"{name} {value[:12]!r} of {len(value)}"
                out[key] = (first, store(place / name, value), load(place / name))
            store(place / name, calm)
        for name in set(NAMES) - set(KNOBS):
            out["store " + name] = store(place / name, b"0")
            out["open " + name] = result(lambda n=name: os.open(place / n, os.O_RDWR))
        return out

    def other_calls(self, place):
        run, sleep = place / "run", place / "sleep_millisecs"
        out = {}
        fd = os.open(sleep, os.O_RDWR)
        try:
            out["two writes"] = [result(lambda: os.write(fd, b"11")),
                                 result(lambda: os.write(fd, b"22")), load(sleep)]
            out["write behind"] = [result(lambda: os.pwrite(fd, b"33", 100)), load(sleep)]
            out["reads"] = [os.pread(fd, 100, 0), os.pread(fd, 100, 1), os.pread(fd, 1, 0),
                            os.pread(fd, 100, 5000)]
            out["empty"] = [os.write(fd, b""), load(sleep)]
        finally:
            os.close(fd)
        for flag in (os.O_TRUNC, os.O_APPEND):
            fd = os.open(sleep, os.O_WRONLY | flag)
            out[flag] = [os.write(fd, b"44"), load(sleep)]
            os.close(fd)
        out["truncate"] = result(lambda: os.truncate(run, 0))
        out["unlink"] = result(lambda: os.unlink(run))
        out["rename"] = result(lambda: os.rename(run, place / "walk"))
        out["create"] = result(lambda: os.open(place / "new", os.O_CREAT | os.O_WRONLY))
        out["mkdir"] = result(lambda: os.mkdir(place / "new"))
        out["missing"] = result(lambda: os.open(place / "new", os.O_RDONLY))
        out["directory"] = result(lambda: os.open(place, os.O_WRONLY))
        out["below a file"] = result(lambda: os.open(run / "x", os.O_RDONLY))
        return out

    @contextlib.contextmanager
    def kernel_put_back(self):
        if not os.access(KERNEL / "run", os.W_OK):
            self.skipTest("the kernel has no KSM")
        with open(LOCK, "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            values = {name: load(KERNEL / name) for name in KNOBS}
            values["advisor_mode"] = "scan-time" if "[scan-time]" in values["advisor_mode"] \
                else "none"
            # pages_to_scan is refused while an advisor runs, run comes last.
            order = sorted(KNOBS, key=lambda n: (n == "run", n == "pages_to_scan"))
            try:
                yield
            finally:
                for name in order:
                    store(KERNEL / name, values[name].encode())

    def test_stores_and_other_calls_as_in_sysfs(self):
        with self.kernel_put_back():
            store(KERNEL / "run", b"0")
            theirs = {**self.all_stores(KERNEL), **self.other_calls(KERNEL)}
        ours = {**self.all_stores(self.ksm), **self.other_calls(self.ksm)}
        differ = {k: (theirs[k], ours[k]) for k in theirs if theirs[k] != ours[k]}
        # Numbers of more than 32 bits: the kernel keeps the lower half for these, we refuse.
        for name in ("advisor_max_cpu", "advisor_min_pages_to_scan", "advisor_max_pages_to_scan",
                     "advisor_target_scan_time"):
            differ.pop(f"{name} {b'18446744073709551616'[:12]!r} of 20", None)
        self.assertEqual(differ, {})

    # ---- clients ----

    def test_ksm_stat_is_the_kernels(self):
        p = self.program("x = bytearray(b'ab' * (8 << 20))")
        stat = self.mnt / f"proc/{p.pid}/ksm_stat"
        await_("merging", lambda: load(stat.parent / "ksm_merging_pages").strip() not in ("0", ""))
        keys = [line.split(" ")[0] for line in load(stat).splitlines()]
        theirs = pathlib.Path("/proc/self/ksm_stat")
        want = ["ksm_rmap_items", "ksm_zero_pages", "ksm_merging_pages", "ksm_process_profit",
                "ksm_merge_any:", "ksm_mergeable:"]
        if theirs.exists():
            want = [line.split(" ")[0] for line in load(theirs).splitlines()]
        self.assertEqual(keys, want)
        self.assertIn(load(stat).splitlines()[5], ("ksm_mergeable: yes", "ksm_mergeable: no"))
        self.assertIn(str(p.pid), os.listdir(self.mnt / "proc"))
        self.end(p)
        await_("the client's end", lambda: load(stat) == "ENOENT")
        self.assertNotIn(str(p.pid), os.listdir(self.mnt / "proc"))

    def test_self_is_who_asks(self):
        p = self.program("import os\nassert os.readlink('%s') == str(os.getpid())" %
                         (self.mnt / "proc/self"))
        self.assertIsNone(p.poll())
        self.assertEqual(os.readlink(self.mnt / "proc/self"), str(os.getpid()))
        # The test is no client: as the kernel says of a process of which nothing is merged.
        self.assertEqual(load(self.mnt / "proc/self/ksm_merging_pages"), "0\n")
        self.assertEqual(load(self.mnt / "proc/self/ksm_stat"),
                         "ksm_rmap_items 0\nksm_zero_pages 0\nksm_merging_pages 0\n"
                         "ksm_process_profit 0\nksm_merge_any: no\nksm_mergeable: no\n")
        self.assertEqual(load(self.mnt / "proc/1/ksm_stat"), "ENOENT")
        for bad in ("0", "-1", "+1", "1x", "99999999999999999999", "self2"):
            self.assertEqual(load(self.mnt / "proc" / bad / "ksm_stat"), "ENOENT", bad)

    def test_self_is_the_process_of_a_thread(self):
        seen = []
        t = threading.Thread(target=lambda: seen.append(os.readlink(self.mnt / "proc/self")))
        t.start()
        t.join(PATIENCE)
        self.assertEqual(seen, [str(os.getpid())])

    def test_a_program_finds_its_own_files(self):
        """By its own name or number, through each call that opens files. Seen to fail, all of it,
        with the object of a program that runs without --view.
        """
        code = f"""
import ctypes, os, subprocess, time
x = bytearray(b'ab' * (8 << 20))
def own(name='self'):
    return open('/proc/%s/ksm_merging_pages' % name).read()
end = time.monotonic() + {PATIENCE}
while own() == '0\\n' and time.monotonic() < end:
    time.sleep(.01)
assert int(own()) > 0 and int(own(os.getpid())) > 0 and int(own('thread-self')) == 0
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
f = ctypes.c_void_p(libc.fopen(b'/proc/self/ksm_stat', b'r'))
buf = ctypes.create_string_buffer(400)
n = libc.fread(buf, 1, 399, f)
assert int(buf.raw[:n].split(b'ksm_merging_pages ')[1].split()[0]) > 0
fd = libc.openat(-100, b'/proc/self/ksm_merging_pages', 0)
assert int(os.read(fd, 99)) > 0
assert libc.open(ctypes.c_void_p(1), 0) == -1 and libc.fopen(b'/nothing', b'r') is None
# Another's is the kernel's, and a child that runs another program finds its own.
assert int(own(os.getppid())) == 0
said = subprocess.run(['sh', '-c', 'cat /proc/self/ksm_stat; readlink {self.mnt}/proc/self; '
                       'echo $KSM_RUN_VIEW'], stdout=-1, text=True).stdout.split()
assert said[0] == 'ksm_rmap_items' and said[-1] == '{self.mnt}', said
# What is open goes with who reads it: a child's is the child's.
pid = os.fork()
if not pid:
    os._exit(0 if open('/proc/self/ksm_merging_pages').read() ==
             os.pread(fd, 99, 0).decode() else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
        self.program(code, "--view", self.mnt)

    # ---- all attributes ----

    def test_every_attribute_has_a_file(self):
        p = self.program("x = bytearray(b'ab' * (1 << 20))")
        files = 0
        for at, dirs, names in os.walk(self.mnt / "ksmd"):
            where = os.path.relpath(at, self.mnt / "ksmd")
            listed = self.ctl("ls", *([] if where == "." else [where])).split()
            self.assertEqual(sorted(listed), sorted([d + "/" for d in dirs] + names), where)
            for name in names:
                text = load(pathlib.Path(at) / name)
                self.assertTrue(text.endswith("\n"), (where, name, text))
                files += 1
        self.assertGreater(files, 150)
        self.assertEqual(load(self.mnt / f"ksmd/client/{p.pid}/uid"), "0\n")
        zone = self.mnt / "ksmd/domain/1/zone"
        self.assertEqual([n.name for n in zone.iterdir()], ["0"])
        self.assertEqual(load(zone / "0/span"), load(self.mnt / "ksmd/zone/0/span"))
        self.assertEqual(load(zone / "64/span"), "ENOENT")
        self.assertEqual(load(self.mnt / "ksmd/nothing/here"), "ENOENT")
        self.assertEqual(load(self.mnt / "ksmd/ksm/run/x"), "ENOTDIR")

    # ---- who may ----

    def test_the_callers_user_counts(self):
        run = self.ksm / "run"
        seen = as_user(OTHER_UID, f"cat {run} && echo 2 >{run}")
        self.assertEqual(seen.stdout, "1\n")
        self.assertNotEqual(seen.returncode, 0)
        self.assertEqual(load(run), "1\n")
        # And the thread that served the other user serves root as root afterwards.
        for _ in range(20):
            as_user(OTHER_UID, f"echo 2 >{run}")
            self.assertEqual(store(run, b"0"), 1)
            self.assertEqual(store(run, b"1"), 1)

    def test_the_other_users_of_a_socket_that_is_closed_to_them(self):
        os.chmod(self.run_dir, 0o700)
        seen = as_user(OTHER_UID, f"cat {self.ksm / 'run'}")
        self.assertIn("ermission denied", seen.stderr)
        self.assertEqual(load(self.ksm / "run"), "1\n")

    # ---- a daemon that ends, stops, comes back ----

    def test_a_daemon_that_is_gone(self):
        fd = os.open(self.ksm / "run", os.O_RDWR)
        self.addCleanup(os.close, fd)
        self.end(self.daemon)
        self.assertEqual(result(lambda: os.pread(fd, 9, 0)), "EIO")
        self.assertEqual(result(lambda: os.write(fd, b"1")), "EIO")
        self.assertEqual(load(self.ksm / "run"), "EIO")
        self.assertEqual(result(lambda: os.listdir(self.mnt / "ksmd")), "EIO")
        self.assertEqual(sorted(os.listdir(self.ksm)), NAMES)
        self.start_daemon()
        self.assertEqual(os.pread(fd, 9, 0), b"1\n")
        self.assertEqual(load(self.ksm / "run"), "1\n")

    def test_a_store_that_waits_keeps_nobody(self):
        p = self.program("x = bytearray(b'ab' * (8 << 20))")
        merged = self.ksm / "pages_sharing"
        await_("merging", lambda: int(load(merged)) > 100)
        os.kill(p.pid, signal.SIGSTOP)
        self.addCleanup(result, lambda: os.kill(p.pid, signal.SIGCONT))
        answer = []
        waits = threading.Thread(target=lambda: answer.append(store(self.ksm / "run", b"2")))
        waits.start()
        await_("the store", lambda: load(self.ksm / "run") == "2\n")
        begun = time.monotonic()
        for name in NAMES:
            load(self.ksm / name)
        self.assertLess(time.monotonic() - begun, 5)
        waits.join(PATIENCE)
        self.assertEqual(answer, ["ETIMEDOUT"])

    def test_a_signal_ends_the_wait(self):
        p = self.program("x = bytearray(b'ab' * (8 << 20))")
        await_("merging", lambda: int(load(self.ksm / "pages_sharing")) > 100)
        os.kill(self.daemon.pid, signal.SIGSTOP)
        reader = subprocess.Popen(["cat", self.ksm / "full_scans"], stdout=subprocess.DEVNULL)
        self.addCleanup(self.end, reader)
        await_("the reader's wait", lambda: pathlib.Path(f"/proc/{reader.pid}/wchan").read_text(
            encoding="ascii").startswith("request_wait") or "fuse" in pathlib.Path(
                f"/proc/{reader.pid}/wchan").read_text(encoding="ascii"))
        begun = time.monotonic()
        reader.kill()
        reader.wait(PATIENCE)
        self.assertLess(time.monotonic() - begun, 10)
        os.kill(self.daemon.pid, signal.SIGCONT)
        self.assertEqual(load(self.ksm / "run"), "1\n")
        self.assertIsNone(p.poll())

    def test_two_writers(self):
        sleep = self.ksm / "sleep_millisecs"
        failed = []

        def write(value):
            for _ in range(200):
                if store(sleep, value) != len(value) or load(sleep) not in ("11\n", "222\n"):
                    failed.append(load(sleep))
        both = [threading.Thread(target=write, args=(v,)) for v in (b"11", b"222")]
        for t in both:
            t.start()
        for t in both:
            t.join(PATIENCE)
        self.assertEqual(failed, [])

    def test_every_file_any_input(self):
        """Whatever is written to whichever file, at whatever offset: an answer, and all goes on."""
        rng = random.Random(4711)
        values = [b"", b"\0", b"\n", b" ", b"%s%n", b"ls\nset ksm/run 2\n", rng.randbytes(100),
                  rng.randbytes(4096), rng.randbytes(100000)]
        for name in NAMES:
            path = self.ksm / name
            if name not in KNOBS:
                self.assertEqual(store(path, b"1"), "EACCES", name)
                continue
            fd = os.open(path, os.O_WRONLY)
            for value in values:
                for offset in (0, 1, 4096, 1 << 40):
                    got = result(lambda v=value, o=offset, f=fd: os.pwrite(f, v, o))
                    # Nothing is no store, as in sysfs.
                    want = 0 if not value else "EINVAL"
                    self.assertEqual(got, want, (name, value[:20], offset))
            os.close(fd)
            self.assertEqual(as_user(OTHER_UID, f"echo 1 >{path}").returncode != 0, True, name)
        self.assertEqual(load(self.ksm / "run"), "1\n")
        self.assertEqual(sorted(os.listdir(self.ksm)), NAMES)

    def test_every_file_when_the_daemon_ends(self):
        """EIO, or the new one's value, in any file, and never the old one's."""
        fds = {name: os.open(self.ksm / name, os.O_RDONLY) for name in NAMES}
        for fd in fds.values():
            self.addCleanup(os.close, fd)
        for _ in range(2):
            self.ctl("set", "ksm/sleep_millisecs", "1234")
            for name in NAMES:
                os.pread(fds[name], 99, 0)
            self.end(self.daemon)
            time.sleep(.02)  # a snapshot may live so long
            for name in NAMES:
                self.assertEqual(result(lambda n=name: os.pread(fds[n], 99, 0)), "EIO", name)
                self.assertEqual(load(self.ksm / name), "EIO", name)
            self.start_daemon()
            for name in NAMES:
                self.assertNotIn(os.pread(fds[name], 99, 0), (b"", b"1234\n"), name)

    def test_a_store_shows_at_once(self):
        """One look serves several files, but none that a store has made old. Seen to fail without
        snapshot_drop(); without the bit for each file that was served, the second part.
        """
        sleep = self.ksm / "sleep_millisecs"
        stop = threading.Event()

        def read_all():
            while not stop.is_set():
                for name in NAMES:
                    if name != "sleep_millisecs":
                        load(self.ksm / name)
        other = threading.Thread(target=read_all)
        other.start()
        try:
            for i in range(1, 200):
                self.assertEqual(store(sleep, b"%d" % i), len(str(i)))
                self.assertEqual(load(sleep), f"{i}\n")
        finally:
            stop.set()
            other.join(PATIENCE)
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(str(self.run_dir / "control.sock"))
            for i in range(1, 50):
                load(self.ksm / "run")
                daemon.sendall(b"set ksm/sleep_millisecs %d\n" % i)
                self.assertTrue(daemon.recv(99).startswith(b"ok"))
                load(sleep)  # may be of the look before that
                self.assertEqual(load(sleep), f"{i}\n")

    def sockets(self):
        """Connections of the view to the daemon."""
        fds = pathlib.Path(f"/proc/{self.view.pid}/fd")
        return {s for s in (os.readlink(fd) for fd in fds.iterdir()) if s.startswith("socket:")}

    def test_connections_are_kept(self):
        """One for each kind of caller, and only so many: connecting costs more than reading does.
        Seen to fail (none is left) when each read connects.
        """
        load(self.ksm / "run")
        first = self.sockets()
        self.assertEqual(len(first), 1)
        for name in NAMES:
            self.assertNotEqual(load(self.ksm / name), "EIO", name)
        self.assertEqual(self.sockets(), first)
        for uid in range(OTHER_UID, OTHER_UID + 3):
            as_user(uid, f"cat {self.ksm}/run {self.ksm}/smart_scan")
        self.assertEqual(len(self.sockets()), 4)
        for uid in range(OTHER_UID, OTHER_UID + 12):
            self.assertEqual(as_user(uid, f"cat {self.ksm}/run").stdout, "1\n")
            # Nobody gets another's connection.
            self.assertEqual(as_user(uid, f"cat {self.ksm}/pages_shared").returncode, 1)
        self.assertEqual(len(self.sockets()), 8)
        self.assertEqual(load(self.ksm / "pages_shared"), "0\n")


# The preloaded object, by which a program takes part, is not built with a sanitizer.
if not (BUILD / "libksm-preload.so").exists():
    for name in ("test_ksm_stat_is_the_kernels", "test_self_is_who_asks",
                 "test_a_program_finds_its_own_files",
                 "test_every_attribute_has_a_file", "test_a_store_that_waits_keeps_nobody",
                 "test_a_signal_ends_the_wait"):
        delattr(View, name)


if __name__ == "__main__":
    if not WHY_NOT:
        own_namespace()
    checkline.main()
