# SPDX-License-Identifier: MIT
"""ksmdctl metrics: text that OpenMetrics allows, and the daemon's own numbers in it.

The parser takes what the specification (OpenMetrics 1.0.0) allows and nothing else, for the kinds
of families that are used here.
"""

import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402
import rig  # noqa: E402
from rig import BUILD, DAEMON, PATIENCE  # noqa: E402

STRANGE = 'a"b\\c'  # a process chooses its own name

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? ({NUMBER})$")
SUFFIX = {"counter": "_total", "gauge": "", "info": "_info"}


def unescape(s):
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), s)


def parse(text):
    """{(sample's name, sorted labels): value}. Raises ValueError where the text is not allowed."""
    if not text.endswith("\n# EOF\n"):
        raise ValueError("no end")
    samples, families, kind, family = {}, set(), None, None
    for line in text[:-len("# EOF\n")].split("\n")[:-1]:
        meta = re.fullmatch(rf"# (TYPE|HELP|UNIT) ({NAME}) (.*)", line)
        if meta and meta[1] == "TYPE":
            family, kind = meta[2], meta[3]
            if family in families or kind not in SUFFIX:
                raise ValueError(line)
            families.add(family)
        elif meta:
            if meta[2] != family or meta[1] == "UNIT" or re.search(r'\\[^\\"n]', meta[3]):
                raise ValueError(line)
        else:
            m = SAMPLE.match(line)
            if not m or m[1] != family + SUFFIX[kind]:
                raise ValueError(line)
            labels = re.findall(LABEL, m[2] or "")
            if len({n for n, _ in labels}) != len(labels):
                raise ValueError(line)
            key = m[1], tuple(sorted((n, unescape(v)) for n, v in labels))
            if key in samples or (kind == "counter" and float(m[m.lastindex]) < 0):
                raise ValueError(line)
            samples[key] = float(m[m.lastindex])
    return samples


class Parser(unittest.TestCase):
    def test_what_is_not_allowed(self):
        good = '# TYPE a counter\n# HELP a b\na_total{x="y"} 1\n# EOF\n'
        self.assertEqual(parse(good), {("a_total", (("x", "y"),)): 1})
        for old, new in (("a_total", "a"), ("# EOF\n", ""), (" 1", ""), ('"y"', "y"), ("1", "-1"),
                         ('y"', '\\y"'), (" 1\n", ' 1\na_total{x="y"} 2\n'), ("counter", "count")):
            with self.assertRaises(ValueError, msg=new):
                parse(good.replace(old, new, 1))


class Metrics(rig.Rig):
    def setUp(self):
        super().setUp()
        self.start([DAEMON, "--runtime-dir", self.dir / "run"])
        self.wait("the daemon", lambda: self.ctl("get", "ksm/run").returncode == 0)

    def start(self, command, **how):
        return super().start(command, stderr=subprocess.DEVNULL, **how)

    def metrics(self, **how):
        r = self.ctl("metrics", **how)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return parse(r.stdout)

    def test_daemon(self):
        self.ctl("set", "ksm/run", "0")
        self.ctl("set", "ksm/sleep_millisecs", "1234")
        m = self.metrics()
        self.assertEqual(m[("node_ksmd_run", ())], 0)
        self.assertEqual(m[("node_ksmd_sleep_seconds", ())], 1.234)
        for name in ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile",
                     "merge_across_nodes", "pages_to_scan"):
            self.assertEqual(m[(f"node_ksmd_{name}", ())], int(self.get(f"ksm/{name}")), name)
        self.assertIn(("node_ksmd_full_scans_total", ()), m)
        version = ("version", self.get("daemon/version"))
        self.assertTrue([k for k in m if k[0] == "ksmd_daemon_info" and version in k[1]])
        for reason in self.ctl("ls", "ksm/left_out").stdout.split():
            self.assertEqual(m[("ksmd_left_out", (("reason", reason),))], 0)

    def test_every_number_is_there(self):
        """Of the daemon's own directories, which do not change while nobody is connected."""
        self.ctl("set", "ksm/run", "0")
        nr = sum(k[0].removeprefix("node_").startswith("ksmd_") and not k[1]
                 for k in self.metrics())
        want = 0
        for group in ("ksm", "daemon", "limit"):
            for name in self.ctl("ls", group).stdout.split():
                want += re.fullmatch("-?[0-9]+", self.get(f"{group}/{name}")) is not None
        self.assertEqual(nr, want)

    def test_what_never_falls_is_a_counter(self):
        """Seen to fail when metrics.c does not name pages_migrated."""
        names = {k[0] for k in self.metrics()}
        nr = 0
        for group in ("ksm", "daemon", "limit", "node"):
            for name in self.ctl("ls", f"help/{group}").stdout.split():
                if "since the start" in self.get(f"help/{group}/{name}"):
                    family = f"ksmd_{name}" if group == "ksm" else f"ksmd_{group}_{name}"
                    self.assertIn(f"{family}_total", names)
                    nr += 1
        self.assertGreaterEqual(nr, 10)

    def test_the_dashboard_names_what_is_there(self):
        board = json.loads((TOP / "tools" / "grafana" / "grafana.json").read_text())
        used = set()
        for panel in board["panels"]:
            for target in panel["targets"]:
                used |= set(re.findall(r"\b(?:node_)?ksmd_[a-z_]+", target["expr"]))
        self.assertGreater(len(used), 15)
        self.assertLessEqual(used, {k[0] for k in self.metrics()})

    def serve(self):
        """ksmd-metrics, on a port that was free a moment ago."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.start([BUILD / "ksmd-metrics", "--listen", f"127.0.0.1:{self.port}", "--runtime-dir",
                    self.dir / "run"])
        self.wait("the listener", lambda: self.http("/") == 404)

    def http(self, path, method="GET", **headers):
        """The status, or of 200 the text. None: no answer."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            c.request(method, path, headers=headers)
            r = c.getresponse()
            text = r.read().decode()
            return text if r.status == 200 else r.status
        except OSError:
            return None
        finally:
            c.close()

    def test_http_serves_totals_only(self):
        self.serve()
        m = parse(self.http("/metrics"))
        self.assertEqual(m[("node_ksmd_run", ())], 1)
        self.assertIn(("node_ksmd_pages_shared", ()), m)
        for name, labels in m:
            self.assertNotRegex(name, "^ksmd_(client|user|domain)_")
            self.assertLessEqual({n for n, _ in labels} & {"pid", "uid", "comm", "domain"}, set())

    def test_http_refuses_what_it_does_not_serve(self):
        self.serve()
        self.assertEqual(self.http("/metrics", "POST"), 405)
        self.assertEqual(self.http("/metrics", Host="rebound.example:80"), 403)
        self.assertEqual(self.http("/metrics", Host="127.0.0.1.example"), 403)
        for address in ("0.0.0.0:9999", "[::]:9999", "127.0.0.1", "127.0.0.1:0", "localhost:80"):
            done = subprocess.run([BUILD / "ksmd-metrics", "--listen", address], timeout=PATIENCE,
                                  capture_output=True, check=False)
            self.assertEqual(done.returncode, 2, address)

    def test_http_without_a_daemon(self):
        self.serve()
        self.ctl("get", "daemon/pid")
        os.kill(int(self.get("daemon/pid")), 9)
        self.wait("the end", lambda: self.http("/metrics") == 503)

    def test_http_does_not_wait_for_the_slow(self):
        """Silent ones, and some that ask and do not read, fill it; they are ended before long."""
        self.serve()
        for i in range(40):
            s = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
            self.addCleanup(s.close)
            if i % 2:
                s.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn("node_ksmd_run", self.http("/metrics"))

    def test_clients(self):
        code = f"import time; open('/proc/self/comm', 'w').write({STRANGE!r}); time.sleep(600)"
        p = self.start([BUILD / "ksm-run", "--runtime-dir", self.dir / "run", sys.executable, "-c",
                        code])
        self.wait("a client", lambda: self.get(f"client/{p.pid}/comm") == STRANGE)
        mine = {k: v for k, v in self.metrics().items() if ("pid", str(p.pid)) in k[1]}
        self.assertTrue(mine)
        for name, labels in mine:
            self.assertIn(("comm", STRANGE), labels, name)
            self.assertIn(("uid", str(os.geteuid())), labels, name)
        names = {k[0] for k in mine}
        self.assertIn("ksmd_client_ksm_merging_pages", names)
        self.assertIn("ksmd_client_agent_cpu_seconds_total", names)
        reasons = {v for k in mine if k[0] == "ksmd_client_left_out" for n, v in k[1]
                   if n == "reason"}
        self.assertEqual(reasons, set(self.ctl("ls", f"client/{p.pid}/left_out").stdout.split()))

    def test_zones_of_domains(self):
        p = self.start([BUILD / "ksm-run", "--runtime-dir", self.dir / "run", "perl", "-e",
                        "$x = 1 x 4000000; sleep 600"])
        self.wait("a client", lambda: self.get(f"client/{p.pid}/comm") == "perl")
        m = self.metrics()
        zone = ("domain", "1"), ("zone", "0")
        self.assertEqual(m[("ksmd_domain_zone_span", zone)],
                         int(self.get("domain/1/zone/0/span")))
        self.assertIn(("ksmd_domain_zone_free_by_type",
                       (zone[0], ("kind", "movable"), zone[1])), m)
        names = {k[0] for k in m}
        for name in self.ctl("ls", "help/domain/zone").stdout.split():
            if not name.endswith("/") and self.get(f"domain/1/zone/0/{name}").isdecimal():
                self.assertIn(f"ksmd_domain_zone_{name}", names)

    @unittest.skipIf(os.geteuid() != 0, "becoming another user takes root")
    def test_others_see_what_is_theirs(self):
        p = self.start([BUILD / "ksm-run", "--runtime-dir", self.dir / "run", "perl", "-e",
                        "$x = 1 x 4000000; sleep 600"])
        self.wait("a client", lambda: self.get(f"client/{p.pid}/comm") == "perl")
        m = self.metrics(user=12345, group=12345, extra_groups=[])
        self.assertIn(("node_ksmd_run", ()), m)
        self.assertNotIn(("node_ksmd_pages_shared", ()), m)
        self.assertEqual([k for k in m if {"pid", "domain"} & dict(k[1]).keys()], [])


# The preloaded object, by which a program takes part, is not built with a sanitizer.
if not (BUILD / "libksm-preload.so").exists():
    for name in ("test_clients", "test_others_see_what_is_theirs", "test_zones_of_domains"):
        delattr(Metrics, name)


if __name__ == "__main__":
    checkline.main()
