# SPDX-License-Identifier: MIT
"""A program that is merged is checkpointed and restored by CRIU: released before, joined after.

Debian 12's CRIU knows neither the mapping [vvar_vclock], which the kernel has since 6.13, nor a
machine without netfilter. So all of it runs on Debian's cloud kernel in a virtual machine, with
modules of that kernel.
"""

import pathlib
import re
import shutil
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402
import debian  # noqa: E402
import machine  # noqa: E402

# In the order in which each finds what it needs.
MODULES = ["libcrc32c", "nfnetlink", "nf_tables", "inet_diag", "tcp_diag", "udp_diag", "raw_diag",
           "unix_diag", "netlink_diag", "af_packet_diag"]
COMMANDS = ["cat", "grep", "ls", "mkdir", "mount", "setsid", "sleep", "tr"]

# Each line "WORD VALUE" is looked at below.
SCRIPT = r"""
export PATH=/usr/sbin:/usr/bin:/bin KSMD_RUNTIME_DIR=/run/ksmd-user
images=/tmp/images; mkdir -p $images
await() { until eval "$1"; do sleep 0.2; done; }
beat() { IFS=' ' read -r number sum </tmp/beat; }
beats() { beat; first=$number; await 'beat && [ "$number" -gt $((first + 1)) ]'; }
merged() { ksmdctl get client/$pid/ksm_merging_pages; }
frames() { grep -c ksm-arena /proc/$pid/maps; }
uffd() { ls -l /proc/$pid/fd | grep -c userfaultfd; }

ksmd-user --log-level error </dev/null &
await 'ksmdctl get ksm/run >/dev/null 2>&1'
setsid ksm-run /bin/beat /tmp/beat </dev/null >/tmp/out 2>&1 &
await '[ -s /tmp/beat ] && [ -n "$(ksmdctl ls client)" ]'
pid=$(ksmdctl ls client | tr -d /)
await '[ "$(merged)" -ge 2000 ]'
beats; echo "SUM $sum"
criu dump -t $pid -D $images -o merged.log >/dev/null 2>&1; echo "DUMP-MERGED $?"
beats; echo "SUM $sum"
ksmdctl release $pid; echo "RELEASE $?"
echo "FRAMES $(frames)"; echo "UFFD $(uffd)"
criu dump -t $pid -D $images -v4 -o dump.log >/dev/null 2>&1; status=$?
echo "DUMP $status"; [ $status = 0 ] || grep Error $images/dump.log
echo "ALIVE $(ls -d /proc/$pid 2>/dev/null)"
criu restore -D $images -d -v4 -o restore.log >/dev/null 2>&1; status=$?
echo "RESTORE $status"; [ $status = 0 ] || grep Error $images/restore.log
beats; echo "SUM $sum"
ksmdctl join $pid; echo "JOIN $?"
await '[ "$(merged)" -ge 2000 ]'
beats; echo "SUM $sum"
echo END
"""


class Criu(unittest.TestCase):
    def machine(self):
        """What the script says in a machine."""
        if not shutil.which("criu"):
            self.skipTest("no criu")
        try:
            return machine.run("2x1024", SCRIPT, "criu", MODULES, ["tests/numa-vm/beat"], COMMANDS,
                               {shutil.which("criu"): "/usr/sbin/criu"})
        except debian.Missing as why:
            self.skipTest(str(why))

    def test_checkpoint_and_restore(self):
        said = self.machine()
        # Not the exit status: CRIU has the machine's console hung up before it can be said.
        words = re.findall(r"^([A-Z-]+) ?(.*)$", said, re.MULTILINE)
        sums = [value for word, value in words if word == "SUM"]
        self.assertIn(("END", ""), words)
        self.assertEqual(len(sums), 4)
        self.assertEqual(len(set(sums)), 1, "contents after the restore")
        for word, value in {"RELEASE": "0", "FRAMES": "0", "UFFD": "0", "DUMP": "0", "ALIVE": "",
                            "RESTORE": "0", "JOIN": "0"}.items():
            self.assertIn((word, value), words)
        # A merged one has a userfaultfd and frames of the daemon's: that is what release is for.
        self.assertNotIn(("DUMP-MERGED", "0"), words)


if __name__ == "__main__":
    checkline.main()
