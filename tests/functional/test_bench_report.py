# SPDX-License-Identifier: MIT
"""ksm-bench report: what it reads, what it computes, what it says.

A benchmark that errs is believed. So its sums are checked against cases that can be done by hand,
and its reader against text that nobody means well with.
"""

import json
import math
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

TOP = pathlib.Path(__file__).resolve().parents[2]
BENCH = TOP / "tools" / "bench"
sys.path[:0] = [str(TOP / "tests" / "lib"), str(BENCH / "python")]
import checkline  # noqa: E402
import metrics  # noqa: E402
import plot  # noqa: E402
import results  # noqa: E402
import stats  # noqa: E402
import tables  # noqa: E402
import targets  # noqa: E402
import workloads  # noqa: E402

KSM_BENCH = pathlib.Path(os.environ.get("KSM_BUILD", TOP / "build")) / "ksm-bench"
NAN = math.nan


def document(**changed):
    """A result as ksm-bench writes it."""
    d = {
        "benchmark": "kernel",
        "machine": {"cpu": 'A "CPU" & <more>', "kernel": "Linux 6.18", "cpus": 2,
                    "memory_mib": 4096},
        "date": "2026-11-21", "workload": "clones", "size_mib": 512, "processes": 2, "rounds": 3,
        "skipped": "", "notes": [],
        "sides": {
            "kernel": {"knobs": "run=1", "incomplete": False,
                       "merge_s": {"median": 7, "min": 6, "max": 8, "values": [6, 7, 8]},
                       "cpu_s": {"values": [4, 4, 4]}},
            "ksmd-user": {"knobs": "", "incomplete": False,
                          "merge_s": {"values": [1, 1, 1]}, "cpu_s": {"values": [1, None, 2]}}},
        "ratios": {"merge_s": 0.142857143},
    }
    d.update(changed)
    return d


def with_values(side, key, values, **changed):
    d = document(**changed)
    d["sides"][side][key] = {"values": values}
    return d


def loaded(*documents):
    return results.load("\n".join(map(json.dumps, documents)))


class Sums(unittest.TestCase):
    def test_summaries(self):
        self.assertEqual(stats.summary([2, NAN, 1]), (1.5, 1, 2, 2))
        self.assertEqual(stats.summary([3]), (3, 3, 3, 1))
        self.assertEqual(stats.summary([9, 1, 4]), (4, 1, 9, 3))
        for nothing in ([], [NAN], [NAN, NAN]):
            s = stats.summary(nothing)
            self.assertEqual(s.nr, 0)
            self.assertTrue(math.isnan(s.median) and math.isnan(s.min) and math.isnan(s.max))

    def test_gains(self):
        s = stats.gain([6, 8, 10], [2, NAN, 1], True)
        self.assertAlmostEqual(s.median, 8 / 1.5, delta=1e-9)  # of the medians 8 and 1.5
        self.assertEqual((s.nr, s.min, s.max), (2, 3, 10))  # of the rounds 6/2 and 10/1
        s = stats.gain([100, 100], [98, 102], False)
        self.assertEqual((s.median, s.min, s.max), (1, 0.98, 1.02))
        self.assertEqual(stats.gain([], [], True).nr, 0)
        self.assertEqual(stats.gain([1, 2], [], True).nr, 0)
        self.assertEqual(stats.gain([6, 8, 10], [0], True).nr, 0)  # division by 0 is no gain
        self.assertEqual(stats.gain([1e308], [1e-308], True).nr, 0)

    def test_figures(self):
        for v, text in ((0, "0"), (0.12345, "0.123"), (5.678, "5.68"), (999.4, "999"),
                        (1000.4, "1000"), (123456789, "123456789"), (1e9, "1e+09"),
                        (1e-7, "1e-07"), (-3.14159, "-3.14")):
            self.assertEqual(stats.figure(v), text)


GOOD = ["null", "true", "-1.5e3", r'"a\"b\\c\u0041\n"', "[]", "{}", ' [1 , [2], {"a":[]}] ',
        '{"a":{"b":null}}']
BAD = ["nan", "inf", "-inf", "NaN", "Infinity", "-Infinity", "0x10", "+1", "1e999", "9" * 400,
       "[1,]", "[,1]", "[1 2]", '{"a"}', '{"a":}', '{"a"', "{a:1}", '"abc', '"abc\\', "[", "{",
       "]", "-", '{"a":1,}', "tru", ":", "", '"a\nb"', "[" * 100000]
NO_RESULTS = ["", "{}", "[]", '{"benchmark":"kernel"}',
              '{"benchmark":"other","machine":{},"sides":{}}', "hello",
              '{"benchmark":"kernel","machine":{},"sides":{}} trailing']


class Reading(unittest.TestCase):
    def test_json(self):
        form = '{"benchmark":"kernel","machine":{},"sides":{},"other":%s}'
        for text in GOOD:
            with self.subTest(text):
                self.assertEqual(len(results.load(form % text)), 1)
        for text in BAD:
            with self.subTest(text[:20]), self.assertRaises(results.Refused):
                results.load(form % text)

    def test_what_is_written_is_read_back(self):
        d = document(notes=["a note"])
        d["sides"]["ksmd-user"]["incomplete"] = True
        (r,) = loaded(d)
        self.assertEqual(r.workload, "clones")
        self.assertEqual(r.machine, ('A "CPU" ? ?more?', "Linux 6.18", 2, 4096))  # for XML
        self.assertEqual((r.size_mib, r.processes, r.rounds), (512, 2, 3))
        self.assertEqual(r.date, "2026-11-21")
        self.assertEqual(r.notes, ["a note"])
        self.assertTrue(r.side["ksmd-user"].incomplete)
        self.assertFalse(r.side["kernel"].incomplete)
        self.assertEqual(r.side["kernel"].knobs, "run=1")
        self.assertEqual(r.side["kernel"].values, {"merge_s": [6, 7, 8], "cpu_s": [4, 4, 4]})
        one, none, two = r.side["ksmd-user"].series("cpu_s")
        self.assertEqual((one, two), (1, 2))
        self.assertTrue(math.isnan(none))
        self.assertEqual(r.side["ksmd-user"].series("merge_s"), [1, 1, 1])
        self.assertEqual(r.side["kernel"].series("cow_ns"), [])

    def test_what_is_measured_is_written(self):
        """What any reader of JSON gets, to the byte."""
        r = results.Result(results.Machine('A "CPU"', "Linux 6.18", 2, 4096), "clones", 512, 2, 3,
                           "2026-11-21", notes=["a note"])
        for merge_s in (6, 7, 8.0000000001):
            r.side["kernel"].add({"merge_s": merge_s})
        for values in ({"cpu_s": 1}, {}, {"cpu_s": 0.1234567891}):
            r.side["ksmd-user"].add(values)
        r.side["ksmd-user"].incomplete = True
        r.side["kernel"].knobs = "run=1"
        text = results.dump(r)
        self.assertEqual(
            text, '{"benchmark":"kernel","machine":{"cpu":"A \\"CPU\\"","kernel":"Linux 6.18",'
            '"cpus":2,"memory_mib":4096},"date":"2026-11-21","workload":"clones","size_mib":512,'
            '"processes":2,"rounds":3,"skipped":"","notes":["a note"],"sides":{'
            '"kernel":{"knobs":"run=1","incomplete":false,"merge_s":{"values":[6,7,8]}},'
            '"ksmd-user":{"knobs":"","incomplete":true,'
            '"cpu_s":{"values":[1,null,0.123456789]}}}}\n')
        (again,) = results.load(text)
        self.assertEqual(results.dump(again), text)

    def test_several_documents(self):
        both = loaded(document(), document(workload="zero"))
        self.assertEqual([r.workload for r in both], ["clones", "zero"])
        text = json.dumps(document())
        self.assertEqual(len(results.load(text + text)), 2)
        with self.assertRaises(results.Refused):
            results.load(text * (results.MAX_RESULTS + 1))

    def test_no_value_is_believed(self):
        (r,) = loaded(document(
            machine={"cpu": 7, "kernel": "é\x01|`\\", "cpus": -1, "memory_mib": 1e300},
            workload="w" * 100, size_mib=-5, processes=1e18, rounds=101, date=None,
            notes=[str(i) for i in range(20)], skipped=["x"]))
        self.assertEqual(r.machine, ("", "????\\", 0, 0))
        self.assertEqual(r.workload, "w" * 31)
        self.assertEqual((r.size_mib, r.processes, r.rounds, r.date, r.skipped), (0, 0, 0, "", ""))
        self.assertEqual(r.notes, [str(i) for i in range(8)])
        (r,) = loaded(with_values("kernel", "cow_ns", [True, "1", [1], {}, None, 2]))
        self.assertEqual([math.isnan(v) for v in r.side["kernel"].series("cow_ns")],
                         [True] * 5 + [False])
        (r,) = loaded(with_values("kernel", "cow_ns", list(range(1000))))
        self.assertEqual(len(r.side["kernel"].series("cow_ns")), 100)
        for sides in (7, [], {"kernel": 7}, {"kernel": {"cow_ns": 7}},
                      {"kernel": {"cow_ns": {"values": {"a": 1}}}}):
            (r,) = loaded(document(sides=sides))
            self.assertFalse(r.measured("cow_ns"))

    def test_hostile_results(self):
        seed = random.randrange(1 << 32)
        print("seed", seed)
        rnd = random.Random(seed)
        whole = json.dumps(document(notes=["a note"])).encode()
        self.assertGreater(len(whole), 100)
        for cut in range(len(whole)):  # no beginning of a document is one
            with self.assertRaises(results.Refused):
                results.load(whole[:cut].decode())
        survived = 0
        for i in range(20000):
            text = bytearray(whole)
            for _ in range(1 + i % 4):
                text[rnd.randrange(len(text))] = rnd.randrange(256)
            try:  # whatever it says, it survives
                found = results.load(text.decode("utf-8", errors="replace"))
            except results.Refused:
                continue
            survived += 1
            self.assertLessEqual(len(found), 2)
            for r in found:
                for key in r.side["kernel"].values:
                    self.assertLessEqual(len(r.side["kernel"].series(key)), 100)
            if survived % 50 == 0:
                self.assertNotIn("&more", tables.everything(found))
                xml.dom.minidom.parseString(plot.svg(found))
        self.assertGreater(survived, 100)
        with self.assertRaises(results.Refused):
            results.load(whole.decode() + "\0x")


class Targets(unittest.TestCase):
    def verdict(self, metric, *documents):
        (r,) = loaded(*documents)
        return targets.check(targets.find(r, metric), r)

    def test_they_name_what_there_is(self):
        for t in targets.TARGETS:
            self.assertIn(t.metric, metrics.BY_KEY)
            self.assertIn(t.workload, {*workloads.BY_NAME, "any"})
        source = (BENCH / "workload.c").read_text()
        for w in workloads.WORKLOADS:
            self.assertIn(f'"{w.contents}"', source)
            self.assertIn(f'"{w.manner}"', source)

    def test_own_one_before_that_for_all(self):
        clones, permuted = loaded(document(), document(workload="permuted"))
        self.assertEqual(targets.find(clones, "cow_ns").workload, "any")
        self.assertEqual(targets.find(permuted, "cow_ns").floor, 0.9)
        self.assertIsNone(targets.find(permuted, "page_bytes"))

    def test_gains(self):
        self.assertEqual(self.verdict("merge_s", document()).holds, True)
        self.assertEqual(self.verdict("cpu_s", document()).holds, False)
        seen = self.verdict("cpu_s", document()).seen
        self.assertEqual((seen.nr, seen.min, seen.max), (2, 2, 4))

    def test_at_most(self):
        for value, holds, floor in ((20, True, True), (24, False, True), (24.1, False, False)):
            d = with_values("ksmd-user", "page_bytes", [value], workload="unique")
            v = self.verdict("page_bytes", d)
            self.assertEqual((v.holds, v.floor), (holds, floor))

    def test_merged_less(self):
        for merged, holds in ((45, False), (90, True), (89.9, False)):
            d = with_values("kernel", "merged_pct", [100])
            d["sides"]["ksmd-user"]["merged_pct"] = {"values": [merged]}
            self.assertEqual(self.verdict("merge_s", d).holds, holds)

    def test_no_end(self):
        d = document()
        d["sides"]["ksmd-user"]["incomplete"] = True
        v = self.verdict("merge_s", d)
        self.assertEqual((v.holds, v.why), (False, "did not end"))
        self.assertEqual(self.verdict("cow_ns", d).holds, None)
        d = document(sides={"kernel": {"incomplete": True}})
        v = self.verdict("merge_s", d)
        self.assertEqual((v.holds, v.why), (None, "the kernel did not end"))
        self.assertEqual(self.verdict("merge_s", document(sides={})).why, "not measured")

    def test_few_probes(self):
        for nr, holds in ((4999, None), (5000, True)):
            d = with_values("kernel", "store_p999_us", [2])
            d["sides"]["ksmd-user"]["store_p999_us"] = {"values": [1]}
            d["sides"]["kernel"]["probes"] = {"values": [10000]}
            d["sides"]["ksmd-user"]["probes"] = {"values": [nr]}
            self.assertEqual(self.verdict("store_p999_us", d).holds, holds)


class Command(unittest.TestCase):
    """`ksm-bench report`, as a user runs it."""

    def setUp(self):
        temp = tempfile.TemporaryDirectory(prefix="ksm-test-bench.")
        self.addCleanup(temp.cleanup)
        self.dir = pathlib.Path(temp.name)
        self.svg = self.dir / "out.svg"
        self.doc = self.dir / "doc.md"

    def file(self, name, *documents):
        path = self.dir / name
        path.write_text("".join(d if isinstance(d, str) else json.dumps(d) + "\n"
                                for d in documents))
        return str(path)

    def report(self, *args, status=0, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        p = subprocess.run([str(KSM_BENCH), "report", *map(str, args)], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, universal_newlines=True, timeout=120, **kwargs)
        self.assertEqual(p.returncode, status, p.stderr)
        self.out, self.err = p.stdout, p.stderr

    def test_refuses_what_is_no_result(self):
        for text in NO_RESULTS:
            with self.subTest(text):
                self.report(self.file("in.json", text), "--svg", self.svg, status=1)
                self.assertEqual(self.out, "")
                self.assertIn("in.json: is ", self.err)
                self.assertFalse(self.svg.exists())

    def test_survives_absurd_values(self):
        self.report(self.file("in.json", (
            '{"benchmark":"kernel","machine":{"cpu":7,"cpus":-1e300,"memory_mib":1e300},'
            '"workload":"a<b>&c|d","size_mib":-5,"processes":1e18,"rounds":"x",'
            '"sides":{"kernel":{"merge_s":{"values":[1e308,1e-308,0,-1]},'
            '"cow_ns":{"values":[1e300]},"saved_net_mib":7},'
            '"ksmd-user":{"merge_s":{"values":[1e-308,0,-5]},'
            '"cow_ns":{"values":[1e-5]}}}}')), "--svg", self.svg)
        self.assertIn("a?b??c?d", self.out)
        text = self.svg.read_text()
        self.assertNotIn("nan", text)
        self.assertNotIn("inf", text)
        xml.dom.minidom.parseString(text)

    def test_tells_what_holds(self):
        permuted = with_values("kernel", "merged_pct", [100], workload="permuted")
        permuted["sides"]["ksmd-user"]["merged_pct"] = {"values": [45]}
        scattered = document(workload="scattered")
        scattered["sides"]["ksmd-user"] = {"incomplete": True}
        real = document(workload="real", skipped="no programs")
        self.report(self.file("in.json", document(), permuted), "--svg", self.svg,
                    self.file("two.json", scattered, real))
        for line in (
                "| clones | time to the last merge | >= 3.2x | >= 6x | 7x (6..8) | yes |",
                "| clones | CPU spent until then | >= 1.8x | >= 5x | 2.67x (2..4) | floor |",
                "| permuted | time to the last merge | >= 1.1x | >= 3x | 7x (6..8) | **no**: "
                "merged only 45 % |",
                "| scattered | time to the last merge | >= 2.3x | >= 4x | - | **no**: "
                "did not end |",
                "| real | all | | | skipped: no programs | ? |",
                "### permuted: 2 x 512 MiB, 3 rounds",
                "| time to the last merge [s] | 7 (6..8) | 1 (1..1) | 7x |",
                "| CPU spent until then [s] | 4 (4..4) | 1.5 (1..2) | 2.67x |",
                "Knobs of kernel: run=1",
                "Skipped: no programs."):
            self.assertIn(line + "\n", self.out)
        self.assertIn("Time to the last merge", self.svg.read_text())
        xml.dom.minidom.parse(str(self.svg))

    def test_parts(self):
        path = self.file("in.json", document())
        self.report(path)
        whole = self.out
        self.report(path, "--summary")
        summary = self.out
        self.report("--figures", path)
        self.assertEqual(whole, summary + self.out)
        with open(path, encoding="utf-8") as f:
            self.report(stdin=f)
        self.assertEqual(self.out, whole)
        self.report(path, "--nosuch", status=2)
        self.assertIn("ksm-bench report", self.err)
        self.report("--svg", status=2)
        self.report(self.dir / "none.json", status=1)
        self.assertIn("none.json: No such file or directory\n", self.err)

    def test_same_name_twice(self):
        self.report(self.file("in.json", document(), document(size_mib=64)), "--summary")
        self.assertIn("| clones 2x512 MiB | time", self.out)
        self.assertIn("| clones 2x64 MiB | time", self.out)

    def test_doubts(self):
        self.report(self.file("in.json", with_values("kernel", "others_pct", [3, 16],
                                                     notes=["round 2: no end"])), "--summary")
        self.assertIn("- clones is not complete: round 2: no end\n", self.out)
        self.assertIn("in one round other programs used 16 % of a CPU\n", self.out)

    def test_updates_a_document(self):
        path = self.file("in.json", document())
        self.doc.write_text("before\n<!-- results: begin -->\nyesterday\n<!-- results: end -->\n"
                            "after\n")
        self.report(path, "--update", self.doc)
        self.assertEqual(self.out, "")
        text = self.doc.read_text()
        self.assertTrue(text.startswith("before\n<!-- results: begin -->\n\nMeasured"))
        self.assertIn("| clones |", text)
        self.assertTrue(text.endswith("\n<!-- results: end -->\nafter\n"))
        self.assertNotIn("yesterday", text)
        self.doc.write_text("no marks\n")
        self.report(path, "--update", self.doc, status=1)
        self.assertEqual(self.doc.read_text(), "no marks\n")
        self.assertIn("doc.md: has no lines <!-- results: begin --> and", self.err)
        os.truncate(self.doc, 64 << 20)
        self.report(path, "--update", self.doc, status=1)
        self.assertIn("doc.md: is too large\n", self.err)
        self.assertEqual(self.doc.stat().st_size, 64 << 20)
        self.report(path, "--update", self.dir, status=1)
        self.assertIn(": Is a directory\n", self.err)
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["doc.md", "in.json"])

    def test_without_python(self):
        self.report(self.file("in.json", document()), status=1, env={"PATH": str(self.dir)})
        self.assertIn("cannot run python3", self.err)


class Documents(unittest.TestCase):
    def test_metrics_are_those_of_ksm_bench(self):
        source = "".join(p.read_text() for p in BENCH.glob("*.c"))
        told = re.findall(r'round_value\([\w>-]+, "(\w+)"|\{ "(\w+)", (?:hist_|\(double\))', source)
        grown = {f"{case}_{what}_us" for case in ("page", "size", "few", "many")
                 for what in ("cpu", "wall")}
        grown |= {f"grow_{case}_{what}" for case in ("size", "many") for what in ("cpu", "wall")}
        self.assertEqual({a or b for a, b in told} | grown, {m.key for m in metrics.METRICS})

    def test_performance_is_up_to_date(self):
        """`make bench-docs` would change nothing."""
        docs = TOP / "docs"
        found = results.load((docs / "performance.json").read_text())
        text = (docs / "performance.md").read_text()
        part = text.split("<!-- results: begin -->\n\n")[1].split("<!-- results: end -->")[0]
        self.assertEqual(part, tables.everything(found))
        self.assertEqual((docs / "performance.svg").read_text(), plot.svg(found))


if __name__ == "__main__":
    checkline.main()
