# SPDX-License-Identifier: MIT
"""ksm-bench numa: figures that must come out, with a real daemon on pretended nodes; the model; and
what is refused."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests" / "lib"), str(TOP / "tools" / "bench" / "python")]
import checkline  # noqa: E402
import numa_model  # noqa: E402
import numa_report  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build"))


def bench(*args):
    return subprocess.run([str(BUILD / "ksm-bench"), "numa", *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240,
                          universal_newlines=True)


class Model(unittest.TestCase):
    def test_distances(self):
        self.assertEqual(numa_model.distances(1), [[10]])
        for n in (2, 3, 4, 8):
            d = numa_model.distances(n)
            self.assertEqual([len(row) for row in d], [n] * n)
            for a in range(n):
                for b in range(n):
                    self.assertEqual(d[a][b], d[b][a])
                    self.assertEqual(d[a][b] == 10, a == b)

    def test_access(self):
        w, d = numa_model.BY_NAME["all"], [[10, 30], [30, 10]]
        a = numa_model.access(w, d, [0, 1], [[0, 0, 0, 0], [1, 1, 1, 0]])
        self.assertAlmostEqual(a.local, (1 + 0.75) / 2)
        self.assertAlmostEqual(a.cost_mean, (1 + 1.5) / 2)
        self.assertAlmostEqual(a.cost_sd, 0.25)
        self.assertAlmostEqual(a.interconnect_mib, 4096 / (1 << 20))

    def test_weights(self):
        for w in numa_model.WORKLOADS:
            v = numa_model.weights(w, 1000)
            self.assertAlmostEqual(sum(v), 1)
            self.assertEqual(len(set(v)) > 1, w.skewed)

    def test_every_page_is_held_once(self):
        for w in numa_model.WORKLOADS:
            for n in (1, 2, 3, 8):
                for p in w.hold(n, 1000):
                    self.assertEqual(sum(nr for _, nr, _ in p.runs), 1000)
                    self.assertEqual([first for first, _, _ in p.runs],
                                     [sum(nr for _, nr, _ in p.runs[:i])
                                      for i in range(len(p.runs))])
                    self.assertLess(p.node, n)

    def test_frontier(self):
        def run(policy, saved, remote):
            return {"policy": policy, "values": {"saved_mib": saved, "remote_pct": remote}}
        runs = [run("global", 10, 50), run("node", 5, 0), run("majority", 10, 30),
                run("replicate", 7, 20), run("interleave", 6, 40)]
        self.assertEqual(numa_report.frontier(runs), ["node", "majority", "replicate"])


class Bench(unittest.TestCase):
    def test_figures(self):
        with tempfile.TemporaryDirectory(prefix="ksm-test-bench.") as temp:
            js, svg = pathlib.Path(temp, "out.json"), pathlib.Path(temp, "out.svg")
            p = bench("--nodes", "2", "--policy", "global,node,majority,replicate", "--workload",
                      "all,none,move", "--size", "1", "--json", str(js), "--svg", str(svg))
            self.assertEqual(p.returncode, 0, p.stderr)
            document = json.loads(js.read_text())
            xml.dom.minidom.parseString(svg.read_text())
            again = bench("--from", str(js))
        self.assertEqual(again.stdout, p.stdout)
        v = {(r["workload"], r["policy"]): r["values"] for r in document["runs"]}
        self.assertEqual(len(v), 12)
        # Four processes of 1 MiB.
        self.assertEqual(v["all", "global"]["saved_mib"], 3)
        self.assertEqual(v["all", "majority"]["saved_mib"], 3)
        self.assertEqual(v["all", "node"]["saved_mib"], 2)
        self.assertEqual(v["all", "node"]["remote_pct"], 0)
        self.assertEqual(v["all", "node"]["cost_mean"], 1)
        self.assertEqual(v["all", "global"]["remote_pct"], 50)
        self.assertAlmostEqual(v["all", "global"]["cost_mean"], (1 + 2.1) / 2)
        # A quarter of 768 pages.
        self.assertEqual(v["all", "replicate"]["replicas"], 192)
        self.assertEqual(v["all", "replicate"]["saved_mib"], 3 - 192 / 256)
        self.assertAlmostEqual(v["all", "replicate"]["remote_pct"], 100 * (256 - 192) / 512)
        for policy in ("global", "node", "majority", "replicate"):
            self.assertEqual(v["none", policy]["saved_mib"], 0)
            self.assertEqual(v["none", policy]["remote_pct"], 0)
        # Frames stay behind, or follow.
        self.assertEqual(v["move", "global"]["moved_remote_pct"], 100)
        self.assertEqual(v["move", "node"]["moved_remote_pct"], 100)
        self.assertEqual(v["move", "majority"]["left_remote_pct"], 100)
        self.assertEqual(v["move", "majority"]["moved_remote_pct"], 0)
        self.assertEqual(v["move", "majority"]["migrations"], 512)
        self.assertEqual(v["move", "replicate"]["moved_remote_pct"], 0)

    def test_rates(self):
        p = bench("--rates", "--size", "2")
        self.assertEqual(p.returncode, 0, p.stderr)
        for what in ("re-pointed, 2 sharers", "re-pointed, 4 sharers", "re-pointed, 8 sharers",
                     "collisions, 2 sharers"):
            self.assertRegex(p.stdout, rf"\| {what} \| [1-9][0-9,]* frames per CPU second \|")

    def test_usage(self):
        for args in (["--policy", "nearest"], ["--nodes", "0"], ["--nodes", "65"],
                     ["--nodes", "2,"], ["--workload", "x"], ["--size", "0"], ["--size", "x"],
                     ["--what"], ["--nodes", ""], ["--rates", "--size", "0"],
                     ["--rates", "--nodes", "x"]):
            p = bench(*args)
            self.assertEqual(p.returncode, 2, args)
            self.assertIn("Usage:", p.stderr)
        self.assertEqual(bench("--help").returncode, 0)
        p = bench("--from", "/nonexistent")
        self.assertEqual(p.returncode, 1)
        self.assertIn("/nonexistent", p.stderr)


if __name__ == "__main__":
    checkline.main()
