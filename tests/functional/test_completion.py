# SPDX-License-Identifier: MIT
"""bash, zsh and fish complete options, commands, attributes of a running daemon, and clients."""

import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build")).resolve()
DAEMON = os.environ.get("KSM_DAEMON", str(BUILD / "ksmd-user"))
FILES = TOP / "tools" / "completion"
PATIENCE = 60  # seconds; a shell takes a fraction of one on an idle machine

# What is typed, and what has to be offered.
CASES = (
    ("ksmdctl st", {"status"}),
    ("ksmdctl --runt", {"--runtime-dir"}),
    ("ksmdctl get ksm/pages_sh", {"ksm/pages_shared", "ksm/pages_sharing"}),
    ("ksmdctl set lim", {"limit/"}),
    ("ksmdctl get help/domain/zon", {"help/domain/zone/"}),
    ("ksmdctl help pinn", {"pinned"}),
    ("ksm-run --fix", {"--fixed-layout"}),
    ("ksm-run --malloc ", {"heap", "native"}),
    ("ksm-run ksmdc", {"ksmdctl"}),
    ("ksmd-user --log-level ", {"error", "warning", "info", "debug"}),
    ("ksmd-user --domain c", {"cgroup"}),
    ("ksm-bench --smar", {"--smart-scan"}),
)

BASH = r"""
source "$1"
shift
f=$(complete -p "$1" | sed 's/.* -F \([^ ]*\) .*/\1/')
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$f
printf '%s\n' "${COMPREPLY[@]}"
"""


class Completion(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="ksmd-test."))
        cls.addClassCleanup(shutil.rmtree, cls.dir, True)
        # Programs as they are installed, and no others of that kind.
        bins = cls.dir / "bin"
        bins.mkdir()
        for name in ("ksmdctl", "ksm-run", "ksmd-user", "ksmd-fs", "ksm-bench"):
            (bins / name).symlink_to(BUILD / name)
        cls.env = {**os.environ, "PATH": f"{bins}:{os.environ['PATH']}", "HOME": str(cls.dir),
                   "KSMD_RUNTIME_DIR": str(cls.dir / "run"), "TERM": "dumb", "LC_ALL": "C.UTF-8",
                   "XDG_CONFIG_HOME": str(cls.dir), "XDG_DATA_HOME": str(cls.dir)}
        daemon = subprocess.Popen([DAEMON, "--runtime-dir", cls.dir / "run"],
                                  stderr=subprocess.DEVNULL)
        cls.addClassCleanup(daemon.wait, PATIENCE)
        cls.addClassCleanup(daemon.terminate)
        end = time.monotonic() + PATIENCE
        while subprocess.run(["ksmdctl", "get", "ksm/run"], env=cls.env, check=False,
                             capture_output=True).returncode:
            assert time.monotonic() < end
            time.sleep(0.01)

    def said(self, *command):
        done = subprocess.run(command, env=self.env, capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        return done.stdout

    def test_bash(self):
        for line, want in CASES:
            words = line.split(" ")
            got = self.said("bash", "--norc", "-c", BASH, "bash", FILES / "ksmdctl.bash", *words)
            self.assertEqual(set(got.split()), want, line)

    def test_bash_knows_options_with_an_equals_sign(self):
        got = self.said("bash", "--norc", "-c", BASH, "bash", FILES / "ksmdctl.bash",
                        "ksm-run", "--malloc", "=", "n")
        self.assertEqual(got.split(), ["native"])

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish(self):
        (self.dir / "ksmdctl.fish").write_bytes((FILES / "ksmdctl.fish").read_bytes())
        for line, want in CASES:
            got = self.said("fish", "--no-config", "-c",
                            f"source {FILES}/ksmdctl.fish; complete -C '{line}'")
            names = {g.split("\t")[0] for g in got.splitlines()}
            self.assertLessEqual(want, names, line)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh(self):
        """In a terminal, as zsh completes nowhere else: TAB, and the list is what comes."""
        pid, fd = pty.fork()
        if not pid:
            os.execvpe("zsh", ["zsh", "-f", "-i"], self.env)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        self.type(fd, f"fpath=({FILES} $fpath); autoload -U compinit; compinit -u -D\n"
                      "unsetopt beep; setopt list_ambiguous; bindkey '^I' complete-word; "
                      "bindkey '^G' list-choices; bindkey '^U' kill-whole-line; "
                      "zstyle ':completion:*' list-prompt ''; PS1='' PS2=''; "
                      "echo rea''dy\n", b"ready\r\n")
        for line, want in CASES:
            end = time.monotonic() + PATIENCE
            seen = ""
            # One that alone fits is inserted, several are listed.
            os.write(fd, b"\x15" + line.encode() + (b"\t" if len(want) == 1 else b"\x07"))
            while not all(re.search(rf"(^|[\s\x08]){re.escape(w)}(\s|$)", seen) or w in seen
                          for w in want):
                self.assertLess(time.monotonic(), end, f"{line}: {seen!r}")
                seen += self.read(fd)
            os.write(fd, b"\x15")

    def read(self, fd):
        ready, _, _ = select.select([fd], [], [], 0.1)
        return os.read(fd, 65536).decode(errors="replace") if ready else ""

    def type(self, fd, text, until):
        os.write(fd, text.encode())
        end, seen = time.monotonic() + PATIENCE, ""
        while until.decode() not in seen:
            self.assertLess(time.monotonic(), end, seen)
            seen += self.read(fd)


if __name__ == "__main__":
    checkline.main()
