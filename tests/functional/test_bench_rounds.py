# SPDX-License-Identifier: MIT
"""ksm-bench kernel: what rounds write, of a kernel that gets nowhere and of a real daemon.

The kernel's knobs are a directory ($KSM_BENCH_DIR), in which no page is ever merged: a round that
would never end must be given up.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests" / "lib"), str(TOP / "tools" / "bench" / "python")]
import checkline  # noqa: E402
import results  # noqa: E402

BUILD = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build"))
KNOBS = {
    "run": "1", "sleep_millisecs": "21", "pages_to_scan": "101", "merge_across_nodes": "1",
    "max_page_sharing": "257", "use_zero_pages": "0", "smart_scan": "1",
    "advisor_mode": "none [scan-time]",
}
COUNTERS = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "full_scans",
            "ksm_zero_pages")


class Rounds(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="ksm-test-bench.")
        self.addCleanup(temp.cleanup)
        self.dir = pathlib.Path(temp.name)
        self.ksm = self.dir / "ksm"
        self.ksm.mkdir()
        for name, value in KNOBS.items():
            (self.ksm / name).write_text(value)
        for name in COUNTERS:
            (self.ksm / name).write_text("0\n")

    def bench(self, *args, status=0, **env):
        """The results that `ksm-bench kernel` writes; its messages are in self.err."""
        p = subprocess.run([str(BUILD / "ksm-bench"), "kernel", *args], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=240,
                           universal_newlines=True,
                           env={**os.environ, "KSM_BENCH_DIR": str(self.dir), **env})
        self.out, self.err = p.stdout, p.stderr
        self.assertEqual(p.returncode, status, self.err)
        return results.load(p.stdout) if p.stdout.startswith("{") else None

    def user(self, *args, **kwargs):
        return self.bench("--only", "ksmd-user", "--size", "8", "--rounds", "1", "--json", *args,
                          **kwargs)

    def median(self, r, key):
        s = r.side["ksmd-user"].summary(key)
        self.assertEqual(s.nr, 1, key)
        return s.median

    def missing(self, r, *keys):
        for key in keys:
            self.assertEqual(r.side["ksmd-user"].summary(key).nr, 0, key)

    # ---- what does not end ----

    @unittest.skipUnless(os.path.exists("/sys/kernel/mm/ksm/run"), "this kernel has no KSM")
    def test_endless_round_is_reported_and_the_others_go_on(self):
        found = self.bench("--only", "kernel", "--size", "1", "--limit", "1", "--json",
                           "--workload", "clones,scattered", status=3)
        self.assertEqual([r.workload for r in found], ["clones", "scattered"])
        for r in found:
            kernel = r.side["kernel"]
            self.assertTrue(kernel.incomplete)
            self.assertFalse(r.side["ksmd-user"].incomplete)
            self.assertEqual(len(r.notes), 1)
            self.assertIn("no end of merging within 1 s", r.notes[0])
            # Three rounds were asked for; a side that does not end gets no second.
            self.assertEqual(kernel.series("merged_pct"), [0])
            self.assertEqual(kernel.summary("merge_s").nr, 0)
            self.assertEqual(kernel.summary("saved_mib").nr, 1)
        for name, value in KNOBS.items():  # a choice is shown in brackets, and written as a word
            self.assertEqual((self.ksm / name).read_text(), value.split("[")[-1].rstrip("]"))
        self.assertFalse((self.dir / "ksm-bench.knobs").exists())

    def test_too_large_is_skipped(self):
        (r,) = self.bench("--only", "ksmd-user", "--size", "1048576", "--processes", "1000",
                          "--json")
        self.assertIn("MiB of memory", r.skipped)

    def test_missing_programs_are_skipped(self):
        (self.dir / "python3").symlink_to(sys.executable)
        (r,) = self.bench("--only", "ksmd-user", "--workload", "real", "--json",
                          PATH=str(self.dir))
        self.assertIn("redis-server is not installed", r.skipped)
        self.assertIn("redis-server is not installed", self.err)

    # ---- how it is printed ----

    def test_without_json_tables_are_printed(self):
        self.bench("--only", "ksmd-user", "--size", "1048576", "--processes", "1000")
        self.assertTrue(self.out.startswith("### clones: 1000 x 1048576 MiB, 3 rounds\n\nSkipped:"))

    def test_without_python_nothing_begins(self):
        self.bench("--size", "1", PATH=str(self.dir), status=1)
        self.assertEqual(self.out, "")
        self.assertIn("cannot run python3", self.err)
        self.assertEqual({name: (self.ksm / name).read_text() for name in KNOBS}, KNOBS)
        self.assertEqual([p.name for p in self.dir.iterdir()], ["ksm"])  # neither lock nor knobs

    # ---- how it is asked ----

    def test_wrong_usage(self):
        for args, said in ((["--size", "0"], "--size takes a number from 1 to 1048576"),
                           (["--rounds", "101"], "--rounds takes a number from 1 to 100"),
                           (["--smart-scan", "-1"], "--smart-scan takes a number from 0 to 1"),
                           (["--processes", "1001"], "--processes takes a number from 1 to 1000"),
                           (["--max-map-count", "9"], "--max-map-count takes a number from 1024"),
                           (["--limit", "1x"], "--limit takes a number from 1 to 600"),
                           (["--only", "none"], "--only takes kernel or ksmd-user"),
                           (["--workload", "clones,nosuch"], 'there is no workload "nosuch"'),
                           (["more"], "more")):
            with self.subTest(args):
                self.bench(*args, status=2)
                self.assertEqual(self.out, "")
                self.assertIn(said, self.err)
                self.assertIn("Usage: ksm-bench kernel", self.err)

    # ---- a real daemon ----

    def test_measures_ksmd_user(self):
        clones, unique, zero = self.user("--workload", "clones,unique,zero")
        self.assertEqual(self.median(clones, "merged_pct"), 100)
        self.assertGreater(self.median(clones, "cpu_s"), 0)
        self.assertGreater(self.median(clones, "merge_s"), 0)
        self.assertGreater(self.median(clones, "saved_mib"), 7)
        self.assertLess(self.median(clones, "saved_net_mib"), 8)
        self.assertGreater(self.median(clones, "cow_ns"), 0)
        self.assertGreater(self.median(clones, "probes"), 10)
        self.assertGreaterEqual(self.median(clones, "store_max_us"),
                                self.median(clones, "store_p999_us"))
        self.assertGreater(self.median(unique, "page_bytes"), 0)
        self.missing(clones, "page_bytes")
        self.assertEqual(self.median(zero, "merged_pct"), 100)

    def test_measures_families_and_what_is_rewritten(self):
        """Every byte is compared at the end of each; the user's status says that it was right."""
        alternating, instagram, forked = self.user("--workload", "alternating,instagram,forked",
                                                   "--processes", "3")
        self.assertEqual(self.median(alternating, "merged_pct"), 100)
        # Every second page of three processes: two of the three copies go, 8 MiB; page tables of
        # mappings with pages between the frames, and a sanitizer, take some of it.
        self.assertGreater(self.median(alternating, "saved_mib"), 6)
        self.assertLess(self.median(alternating, "saved_mib"), 9)
        self.assertGreater(self.median(alternating, "page_vmas"), 0.5)
        self.assertEqual(self.median(instagram, "merged_pct"), 100)
        self.assertGreater(self.median(instagram, "rest_cpu_ms"), 0)
        self.missing(instagram, "probes")
        # Half is still shared by the fork and stays so; of the other half one copy stays.
        self.assertGreater(self.median(forked, "saved_mib"), 6.5)
        self.assertLess(self.median(forked, "saved_mib"), 8.5)
        self.missing(forked, "merged_pct", "probes")

    def test_measures_the_merge_alone(self):
        (r,) = self.user("--workload", "clones", "--merge-only")
        self.assertEqual(self.median(r, "merged_pct"), 100)
        self.assertGreater(self.median(r, "cpu_s"), 0)
        self.missing(r, "rest_cpu_ms", "cow_ns", "probes")
        (text,) = self.out.splitlines()  # any reader of JSON understands it
        self.assertEqual(json.loads(text)["benchmark"], "kernel")

    # A build with a sanitizer has none, because its run time would have to be in every program.
    if (BUILD / "libksm-preload.so").exists():
        def test_measures_programs(self):
            p = subprocess.run([str(BUILD / "ksm-bench"), "programs", "--server", "redis",
                                "--only", "ksmd-user", "--rounds", "1", "--json"], check=False,
                               stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=240, env={**os.environ, "KSM_BENCH_DIR": str(self.dir)})
            self.assertEqual(p.returncode, 0, p.stderr)
            d = json.loads(p.stdout)
            (redis,) = d["servers"]
            self.assertEqual({(s["way"], s["when"]) for s in redis["speeds"]},
                             {(w, m) for w in ("native", "ksmd-user")
                              for m in ("at rest", "while merging")})
            for s in redis["speeds"]:
                self.assertGreater(s["per_s"][0], 0)
                self.assertGreater(s["p99_ms"][0], 0)
            self.assertGreater(min(d["start_ms"]), 0)
            p = subprocess.run([str(BUILD / "ksm-bench"), "programs", "--server", "none"],
                               check=False, capture_output=True, text=True, timeout=60)
            self.assertEqual(p.returncode, 2)
            self.assertIn('there is no server "none"', p.stderr)

        def test_measures_a_server_beside_it(self):
            (r,) = self.user("--workload", "corunner")
            if r.skipped:
                self.skipTest(r.skipped)
            self.assertEqual(self.median(r, "merged_pct"), 100)
            self.assertGreater(self.median(r, "beside_alone_p50_us"), 0)
            self.assertGreaterEqual(self.median(r, "beside_alone_us"),
                                    self.median(r, "beside_alone_p50_us"))
            self.assertGreaterEqual(self.median(r, "beside_alone_p999_us"),
                                    self.median(r, "beside_alone_us"))
            self.assertGreaterEqual(self.median(r, "beside_p999_us"),
                                    self.median(r, "beside_p99_us"))
            self.missing(r, "rest_cpu_ms", "probes")

        def test_measures_real_programs(self):
            (r,) = self.user("--workload", "real")
            if r.skipped:
                self.skipTest(r.skipped)
            self.assertGreater(self.median(r, "saved_mib"), 8)  # 8 MiB of each pair, and more

        def test_measures_guests(self):
            (r,) = self.user("--workload", "guests")
            if r.skipped:
                self.skipTest(r.skipped)
            self.assertGreater(self.median(r, "saved_mib"), 8)  # two of them need no data


if __name__ == "__main__":
    checkline.main()
