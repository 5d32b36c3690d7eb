# SPDX-License-Identifier: MIT
"""Tools that operators have for the kernel's KSM, unmodified, with the view in its place.

prometheus-node-exporter and ksmtuned come from Debian's archive; they are fetched, not installed.
"""

import functools
import os
import pathlib
import re
import socket
import subprocess
import sys
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import checkline  # noqa: E402
import debian  # noqa: E402
from view import BUILD, PATIENCE, WHY_NOT, Fixture, await_, own_namespace  # noqa: E402

# As the exporter names them, and the attribute behind each.
EXPORTED = {"full_scans_total": "full_scans", "merge_across_nodes": "merge_across_nodes",
            "pages_shared": "pages_shared", "pages_sharing": "pages_sharing",
            "pages_to_scan": "pages_to_scan", "pages_unshared": "pages_unshared",
            "pages_volatile": "pages_volatile", "run": "run", "sleep_seconds": "sleep_millisecs"}


@functools.cache
def unpacked(package):
    """Where the package is, or why it is not."""
    def make(at):
        debian.fetch(package, at)
        debian.run(["sh", "-ec", f"dpkg-deb -x {package}_*.deb ."], 60, cwd=at)
    try:
        return debian.kept(BUILD / f"package-{package}", make), None
    except debian.Missing as e:
        return None, f"{package}: {e}"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    with socket.socket() as s:
        return not s.connect_ex(("127.0.0.1", port))


@unittest.skipIf(WHY_NOT, WHY_NOT)
class Tools(Fixture):
    def program_of(self, package, path):
        at, why = unpacked(package)
        if why:
            self.skipTest(why)
        return at / path

    def start(self, command, **env):
        p = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(self.end, p)
        return p

    def test_the_exporter(self):
        exporter = self.program_of("prometheus-node-exporter", "usr/bin/prometheus-node-exporter")
        port = free_port()
        if (BUILD / "libksm-preload.so").exists():
            self.program("x = bytearray(b'ab' * (8 << 20))")
            await_("merging", lambda: int(self.ctl("get", "ksm/pages_sharing")) > 100)
        self.ctl("set", "ksm/run", "0")
        with self.over_the_kernels_place():
            self.start([exporter, "--collector.disable-defaults", "--collector.ksmd",
                        f"--web.listen-address=127.0.0.1:{port}"])
            await_("the exporter", lambda: answers(port))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics",
                                        timeout=PATIENCE) as page:
                text = page.read().decode()
        self.assertIn('node_scrape_collector_success{collector="ksmd"} 1', text)
        said = dict(re.findall(r"^node_ksmd_(\w+) (\S+)$", text, re.M))
        self.assertEqual(sorted(said), sorted(EXPORTED))
        for name, attribute in EXPORTED.items():
            want = float(self.ctl("get", "ksm/" + attribute))
            if name == "sleep_seconds":
                want /= 1000
            self.assertEqual(float(said[name]), want, name)

    def test_ksmtuned(self):
        """It stops KSM where much is free and starts it where little is, in its own units."""
        tuned = self.program_of("ksmtuned", "usr/sbin/ksmtuned")
        common = {"KSM_MONITOR_INTERVAL": "1", "KSM_SLEEP_MSEC": "33"}

        def run_it(pidfile, **env):
            self.start(["bash", str(tuned)], PIDFILE=str(self.dir / pidfile), **common, **env)
            await_("ksmtuned", lambda: (self.dir / pidfile).exists() and
                   (self.dir / pidfile).read_text(encoding="ascii").strip())
            return int((self.dir / pidfile).read_text(encoding="ascii"))
        with self.over_the_kernels_place():
            self.assertEqual(self.ctl("get", "ksm/run"), "1\n")
            pid = run_it("much", KSM_THRES_COEF="0", KSM_THRES_CONST="1")
            await_("a stop", lambda: self.ctl("get", "ksm/run") == "0\n")
            os.kill(pid, 9)
            pid = run_it("little", KSM_THRES_COEF="200", KSM_NPAGES_MAX="640",
                         KSM_NPAGES_BOOST="640")
            await_("a start", lambda: self.ctl("get", "ksm/run") == "1\n")
            os.kill(pid, 9)
        self.assertEqual(self.ctl("get", "ksm/pages_to_scan"), "640\n")
        self.assertGreaterEqual(int(self.ctl("get", "ksm/sleep_millisecs")), 10)


if __name__ == "__main__":
    if not WHY_NOT:
        own_namespace()
    checkline.main()
