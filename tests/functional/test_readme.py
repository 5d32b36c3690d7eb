# SPDX-License-Identifier: MIT
"""README.md and the manual pages: every command runs, the example compiles, mandoc minds nothing.

Commands are lines of a block that begin with "$ " or "# ". They run in their order in a directory
where build/, include/ and docs/ are, with a /run, a network and processes of their own.
"""

import ctypes
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build")).resolve()
PATIENCE = 60  # seconds; what a command needs (a daemon, its clients) is there within one
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def blocks():
    """(language, text) of each block of code of the README."""
    text = (TOP / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)


def commands():
    return [line[2:] for lang, text in blocks() if not lang for line in text.splitlines()
            if line.startswith(("$ ", "# "))]


def cannot():
    if os.geteuid():
        return "a machine of its own takes root"
    if not (BUILD / "libksm-preload.so").exists():
        return "not built with a sanitizer"
    missing = [t for t in ("redis-server", "socat", "pgrep", "cc") if not shutil.which(t)]
    if missing or not os.path.exists("/dev/fuse"):
        return f"not here: {', '.join(missing) or '/dev/fuse'}"
    return None


def own_machine():
    """New mounts with a /run, and a network, for this process."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNS | CLONE_NEWNET):
        raise unittest.SkipTest("no namespaces here")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for where in ("/run", "/mnt"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", where], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


class Readme(unittest.TestCase):
    @unittest.skipIf(cannot(), cannot())
    def test_every_command(self):
        own_machine()
        cwd = pathlib.Path(tempfile.mkdtemp(prefix="ksmd-test."))
        self.addCleanup(shutil.rmtree, cwd, True)
        os.chmod(cwd, 0o755)
        for name, to in (("build", BUILD), ("include", TOP / "include"), ("docs", TOP / "docs")):
            (cwd / name).symlink_to(to)
        example = [text for lang, text in blocks() if lang == "c"]
        self.assertEqual(len(example), 1)
        (cwd / "example.c").write_text(example[0])
        all_of_them = commands()
        self.assertGreater(len(all_of_them), 15)
        for command in all_of_them:
            if re.sub(r"\s+#.*", "", command).endswith("&"):
                self.start(command, cwd)
                # Nobody types faster than a daemon begins to serve. A program with an allocator of
                # its own that began without one joins when it makes a thread.
                self.run_until_it_works("build/ksmdctl ls", cwd)
            else:
                self.run_until_it_works(command, cwd)

    def environment(self):
        return {k: v for k, v in os.environ.items() if not k.startswith(("KSM", "XDG"))}

    def start(self, command, cwd):
        p = subprocess.Popen(["sh", "-c", re.sub(r"&\s*(#.*)?$", "", command)], cwd=cwd,
                             env=self.environment(), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(p.wait, PATIENCE)
        self.addCleanup(os.killpg, p.pid, signal.SIGKILL)

    def run_until_it_works(self, command, cwd):
        end = time.monotonic() + PATIENCE
        while True:
            done = subprocess.run(["sh", "-c", command], cwd=cwd, env=self.environment(),
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=PATIENCE, check=False)
            if done.returncode == 0 and "error " not in done.stdout[:6]:
                return
            self.assertLess(time.monotonic(), end, f"{command}: {done.stdout}{done.stderr}")
            time.sleep(0.1)

    def test_the_example_compiles_without_a_warning(self):
        for lang, text in blocks():
            if lang == "c":
                done = subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                                       f"-I{TOP}/include", "-xc", "-"], input=text, text=True,
                                      capture_output=True, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""))


class Manual(unittest.TestCase):
    @unittest.skipUnless(shutil.which("mandoc"), "mandoc is not installed")
    def test_mandoc_minds_nothing(self):
        """Except that other pages are not installed here, of which no page is to blame."""
        for page in (TOP / "docs" / "man").iterdir():
            done = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True,
                                  check=False)
            said = [line for line in (done.stdout + done.stderr).splitlines()
                    if "referenced manual not found" not in line and
                    "outdated mandoc.db" not in line]
            self.assertEqual(said, [])

    def test_every_program_has_a_page(self):
        pages = {p.stem for p in (TOP / "docs" / "man").iterdir()}
        text = (TOP / "Makefile").read_text(encoding="utf-8")
        names = re.search(r"^PROGRAMS := .*?,([a-z -]+)\)$", text, re.M)[1].split()
        self.assertLessEqual(set(names) | {"libksm"}, pages)


if __name__ == "__main__":
    checkline.main()
