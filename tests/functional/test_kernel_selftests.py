# SPDX-License-Identifier: MIT
"""The kernel's own tests of KSM, unmodified, against the service in the kernel's place.

tools/testing/selftests/mm/ksm_tests.c and ksm_functional_tests.c come from Debian's package
linux-source-6.12. It is fetched, not installed, and only what the two need is unpacked and kept in
the build directory. Where that cannot be done the tests are skipped, and say why. The view lies
over /sys/kernel/mm/ksm in a mount namespace of the test's own, and ksm-run leads the programs'
/proc/self/ksm_* there.

What cannot pass is in CANNOT and, with its reason, in docs/compatibility.md; all else has to.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import checkline  # noqa: E402
import debian  # noqa: E402
import machine  # noqa: E402
from rig import TOP  # noqa: E402
from view import BUILD, WHY_NOT, Fixture, await_, own_namespace  # noqa: E402

PACKAGE = "linux-source-6.12"
INSTALLED = pathlib.Path(f"/usr/src/{PACKAGE}.tar.xz")
WANTED = ["tools/testing/selftests/mm/*.[ch]", "tools/testing/selftests/*.h", "include/vdso/*.h",
          "tools/include/uapi/linux/fs.h", "tools/include/uapi/linux/prctl.h"]
CACHE = BUILD / "kernel-selftests"
PROGRAMS = ("ksm_tests", "ksm_functional_tests")
UNPACK_LIMIT = 120  # seconds
RUN_LIMIT = 100     # of one program; the longest takes 3

CANNOT = {"test_prot_none"}

# As tools/testing/selftests/mm/run_vmtests.sh calls it, and what else it can do.
KSM_TESTS = ["-H -s 100", "-P -s 100", "-M -p 10", "-U", "-Z -p 10 -z 0", "-Z -p 10 -z 1",
             "-D -s 100", "-C", "-M -p 10 -t 1", "-U -t 1", "-M -p 257", "-M -p 4000"]
NUMA_TESTS = ["-N -m 1", "-N -m 0"]
# The same in a virtual machine.
ON_NODES = r"""
export PATH=/usr/bin:/bin KSMD_RUNTIME_DIR=/run/ksmd-user
await() { until eval "$1"; do sleep 0.2; done; }
mkdir /tmp/view
ksmd-user --log-level error </dev/null &
await 'ksmdctl get ksm/run >/dev/null 2>&1'
ksmd-fs -f /tmp/view </dev/null &
await '[ -d /tmp/view/kernel/mm/ksm ]'
mount --bind /tmp/view/kernel/mm/ksm /sys/kernel/mm/ksm
for args in "-N -m 1" "-N -m 0"; do
	await '[ $(ksmdctl get ksm/clients) = 0 ]'
	echo BEGIN
	ksm-run --madvise-only --view /tmp/view ksm_tests $args
	echo "END $?"
done
"""


def archive(at):
    """The package's tar archive on the standard output of a command for sh."""
    if INSTALLED.exists():
        return f"cat {INSTALLED}"
    debian.fetch(PACKAGE, at)
    return f"dpkg-deb --fsys-tarfile {PACKAGE}_*.deb | tar -xO ./usr/src/{PACKAGE}.tar.xz"


def build(at):
    headers = at / "headers"
    (headers / "linux").mkdir(parents=True)
    for name in ("fs.h", "prctl.h"):
        shutil.copy(at / "tools/include/uapi/linux" / name, headers / "linux")
    source = at / "tools/testing/selftests/mm"
    for name in PROGRAMS:
        # Without optimisation: test_prctl_fork_exec passes an array of arguments to execv(3) that
        # has no NULL at its end, and the word behind it on the stack is one only then.
        debian.run(["gcc", "-O0", "-w", "-D_GNU_SOURCE=", f"-I{at}",
                    f"-I{at}/tools/testing/selftests", f"-isystem{headers}", "-o", str(at / name),
                    f"{name}.c", "vm_util.c", "thp_settings.c", "-lnuma", "-lrt", "-lpthread"],
                   60, cwd=source)


def make(at):
    wanted = " ".join(f"'*/{w}'" for w in WANTED)
    debian.run(["sh", "-ec", f"{archive(at)} | xz -dc -T0 | tar -x --strip-components=1 "
                f"--wildcards {wanted}"], UNPACK_LIMIT, cwd=at)
    build(at)


def nodes_with_memory():
    try:
        text = pathlib.Path("/sys/devices/system/node/has_memory").read_text(encoding="ascii")
    except OSError:
        return 1
    spans = [word.split("-") for word in text.strip().split(",")]
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)


@functools.cache
def why_missing():
    try:
        debian.kept(CACHE, make)
    except debian.Missing as e:
        return f"the kernel's tests: {e}"
    return None


def results(output):
    """TAP's lines by the name of the function that was running; "" when none was named."""
    name, found = "", {}
    for line in re.sub(r"(?<=.)# \[RUN\]", "\n# [RUN]", output).splitlines():
        running = re.match(r"# \[RUN\] (\w+)", line)
        said = re.match(r"(not ok|ok) \d+ ?(.*)", line)
        if running:
            name = running[1]
            found.setdefault(name, [])
        elif said:
            found.setdefault(name, []).append((said[1], said[2]))
    return found


@unittest.skipIf(WHY_NOT, WHY_NOT)
@unittest.skipIf(not (BUILD / "libksm-preload.so").exists(), "no preloaded object in this build")
class KernelSelftests(Fixture):
    maxDiff = None

    def setUp(self):
        if why_missing():
            self.skipTest(why_missing())
        super().setUp()

    def say(self, program, *args):
        """What one of the programs says in the kernel's place.

        They count pages, and nearly all have the same. The kernel's are gone with their process; of
        the service's the daemon hears when the process has ended.
        """
        await_("what was merged before is gone",
               lambda: all(self.ctl("get", f"ksm/{name}") == "0\n"
                           for name in ("clients", "pages_shared")))
        with self.over_the_kernels_place():
            done = subprocess.run(
                [BUILD / "ksm-run", "--madvise-only", "--view", self.mnt, f"./{program}", *args],
                env={**os.environ, "KSMD_RUNTIME_DIR": str(self.run_dir)}, cwd=CACHE, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RUN_LIMIT, check=False)
        return done.stdout

    def test_ksm_functional_tests(self):
        for _ in range(3):
            said = self.say("ksm_functional_tests")
            found = results(said)
            self.assertEqual(len(found), 9, said)
            for name, lines in found.items():
                with self.subTest(name):
                    if name in CANNOT:
                        self.assertEqual([ok for ok, _ in lines], ["not ok"],
                                         f"{name} can pass now: take it from CANNOT\n{said}")
                    else:
                        self.assertEqual([ok for ok, _ in lines], ["ok"], said)
                        self.assertNotIn("# SKIP", lines[0][1], said)

    def test_ksm_tests(self):
        for args in KSM_TESTS:
            with self.subTest(args):
                said = self.say("ksm_tests", *args.split())
                lines = results(said).get("", [])
                self.assertEqual([ok for ok, _ in lines], ["ok"], said)
                self.assertNotIn("# SKIP", lines[0][1], said)
        # They put the knobs back.
        self.assertEqual(self.ctl("get", "ksm/run"), "1\n")

    def test_ksm_tests_of_nodes(self):
        if nodes_with_memory() > 1:
            said = [self.say("ksm_tests", *args.split()) for args in NUMA_TESTS]
        else:
            said = self.said_on_nodes()
        for text in said:
            lines = results(text).get("", [])
            self.assertEqual([ok for ok, _ in lines], ["ok"], text)
            self.assertNotIn("# SKIP", lines[0][1], text)

    def said_on_nodes(self):
        """What they say in a machine with two nodes, each time."""
        files = {CACHE / "ksm_tests": "/bin/ksm_tests"}
        try:
            said = machine.run("1x384,1x384", ON_NODES, "fuse", ["fuse"], ["ksmd-fs"],
                               ["mkdir", "mount", "sleep"], files)
        except debian.Missing as why:
            self.skipTest(f"ksm_tests -N: this machine has one node with memory, and {why}")
        self.assertIn("END 0", said)
        return re.findall(r"^BEGIN$(.*?)^END \d+$", said, re.MULTILINE | re.DOTALL)

    def test_what_cannot_pass_is_written_down(self):
        doc = (TOP / "docs/compatibility.md").read_text(encoding="utf-8")
        for name in CANNOT:
            self.assertIn(f"`{name}`", doc)


if __name__ == "__main__":
    if not WHY_NOT:
        own_namespace()
    checkline.main()
