# SPDX-License-Identifier: MIT
"""Programs that run for a moment: what they make is compared with what they make without us."""

import hashlib
import os
import pathlib
import subprocess

import tier


class Sqlite(tier.Program):
    """Two databases in memory, which stay."""

    name, packages, needs = "sqlite", ("sqlite3",), ("sqlite3",)
    options = ("--fixed-layout",)
    merges = 1000

    def start(self):
        self.shells = [self.r.start(f"sqlite-{i}", ["sqlite3", "-batch", ":memory:"],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                       for i in range(2)]
        self.sql("create table t (id integer primary key, tag int, s text);"
                 "with recursive n(x) as (select 1 union all select x + 1 from n where x < 20000) "
                 "insert into t select x, 0, hex(x * 7919) || printf('%.400d', x) from n;"
                 "create index i on t (s); select count(*) from t;", "20000")
        self.tags = 0

    def sql(self, text, *wanted):
        for p in self.shells:
            p.stdin.write(text.encode() + b"\n.print end\n")
            p.stdin.flush()
        for p in self.shells:
            for line in (*wanted, "end"):
                got = p.stdout.readline().decode().rstrip("\n")
                if got != line:
                    raise tier.Wrong(f"{p.name}: {got!r}, not {line!r}{tier.tail(p.log)}")

    def work(self, n):
        self.sql(f"begin; update t set tag = tag + 1 where id % 11 = {n % 11}; "
                 "delete from t where id % 13 = 0; rollback; "
                 f"update t set tag = tag + 1 where id % 2000 = {n};", )
        self.tags += 10
        self.check()

    def check(self):
        self.sql("pragma integrity_check; select count(*), sum(tag), "
                 "sum(s = hex(id * 7919) || printf('%.400d', id)) from t;",
                 "ok", f"20000|{self.tags}|20000")

    def stop(self):
        for p in self.shells:
            p.stdin.close()
        for p in self.shells:
            self.r.ended(p)


class Git(tier.Program):
    """Packs of threads, mapped files, children; fsck looks at every object."""

    name, packages, needs = "git", ("git",), ("git",)

    def start(self):
        self.env = {**os.environ, "HOME": str(self.r.dir), "GIT_CONFIG_NOSYSTEM": "1",
                    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
                       for what, value in (("NAME", "n"), ("EMAIL", "n@example.org"),
                                           ("DATE", "2000-01-01T00:00:00Z"))}}
        self.repo = self.r.directory("repo")
        self.git("init", "-q", ".")
        self.heads = []

    def git(self, *args, plain=False, cwd=None):
        return self.r.do(["git", *args], plain=plain, env=self.env, cwd=cwd or self.repo)

    def work(self, n):
        for i in range(60):
            text = hashlib.shake_128(f"{n} {i % 20}".encode()).hexdigest(4000)
            (self.repo / f"f{i}").write_text(text + f"\n{i}\n", encoding="ascii")
        self.git("add", ".")
        self.git("commit", "-q", "-m", f"round {n}")
        self.heads.append(self.git("rev-parse", "HEAD").strip())
        self.git("repack", "-adfq", "--threads=2")
        self.git("fsck", "--full", "--strict")
        tier.expect("a commit's name", self.git("rev-parse", "HEAD", plain=True).strip(),
                    self.heads[-1])

    def check(self):
        self.git("clone", "-q", "--no-local", self.repo, self.r.dir / "clone", cwd=self.r.dir)
        tier.expect("the clone's commits", self.git("rev-list", "HEAD", plain=True,
                                                    cwd=self.r.dir / "clone").split()[::-1],
                    self.heads)
        tier.shutil.rmtree(self.r.dir / "clone")


class Gcc(tier.Program):
    """An object is the same, byte for byte."""

    name, packages, needs = "gcc", ("gcc",), ("gcc",)

    def start(self):
        parts = [f"static int f{i}(int *a, int n) {{ int s = {i}; for (int k = 0; k < n; k++) "
                 f"s += a[k] * {i} + (a[k] >> {i % 13}); return s; }}" for i in range(100)]
        calls = " + ".join(f"f{i}(a, n)" for i in range(100))
        source = "\n".join(["#include <stdio.h>", *parts,
                            f"int all(int *a, int n) {{ return {calls}; }}"])
        (self.r.dir / "x.c").write_text(source, encoding="ascii")
        self.wanted = self.compiled(True)

    def compiled(self, plain):
        self.r.do(["gcc", "-O1", "-c", "-o", "x.o", "x.c"], plain=plain)
        return (self.r.dir / "x.o").read_bytes()

    def work(self, n):
        tier.expect("an object", self.compiled(False), self.wanted)

    def check(self):
        self.work(0)


class StressNg(tier.Program):
    """Stressors of memory that verify what they wrote."""

    name, packages, needs = "stress_ng", ("stress-ng",), ("stress-ng",)

    def stressors(self):
        return ["--vm", "2", "--vm-bytes", "24M", "--vm-keep", "--mmap", "1", "--mmap-bytes", "8M",
                "--mremap", "1", "--mremap-bytes", "4M", "--malloc", "1", "--malloc-bytes", "8M",
                "--fork", "1", "--vm-splice", "1", "--brk", "1",
                "--madvise", "1"]

    def start(self):
        self.p = self.again()

    def again(self):
        return self.r.start("stress-ng", ["stress-ng", "--verify", "--no-rand-seed", "--temp-path",
                                          self.r.dir, "--timeout", "2s", *self.stressors()])

    def work(self, n):
        self.r.ended(self.p)
        self.p = self.again()

    def check(self):
        """It ends by itself, and with an error if anything is wrong."""

    def stop(self):
        self.r.ended(self.p)


class Restic(tier.Program):
    """A program in Go: backups of the same files, read back in full."""

    name, packages, needs = "restic", ("restic",), ("restic",)

    def start(self):
        files = self.r.directory("files")
        self.files = {f"f{i}": hashlib.shake_128(b"%d" % (i // 2)).digest(300000)
                      for i in range(24)}
        for name, data in self.files.items():
            (files / name).write_bytes(data)
        self.restic("init")

    def restic(self, *args):
        return self.r.do(["restic", "-q", "-r", self.r.dir / "repo", "--no-cache", *args],
                         env={**os.environ, "RESTIC_PASSWORD": "x", "HOME": str(self.r.dir)})

    def work(self, n):
        self.restic("backup", self.r.dir / "files")
        self.restic("check", "--read-data")

    def check(self):
        back = self.r.dir / "back"
        self.restic("restore", "latest", "--target", back)
        for name, data in self.files.items():
            path = pathlib.Path(f"{back}{self.r.dir}/files/{name}")
            tier.expect(name, path.read_bytes(), data)
        tier.shutil.rmtree(back)


class Chromium(tier.Program):
    """A browser with its sandbox, whose zygote ends if it has more than one thread."""

    name, packages, needs = "chromium", ("chromium", "chromium-sandbox"), ("chromium",)

    def start(self):
        self.home = self.r.directory("home", "nobody")
        (self.r.dir / "page.html").write_text(
            "<html><body><div></div><script>let s = 0; for (let i = 0; i < 1e6; i++) "
            "s = (s * 31 + i) % 1000003; document.querySelector('div').textContent = "
            "'the sum is ' + s;</script></body></html>", encoding="ascii")
        s = 0
        for i in range(1000000):
            s = (s * 31 + i) % 1000003
        self.wanted = f"<div>the sum is {s}</div>"

    def work(self, n):
        page = self.r.do(["chromium", "--headless", "--disable-gpu", "--dump-dom",
                          f"--user-data-dir={self.home}/data{n}",
                          f"file://{self.r.dir}/page.html"], user="nobody", timeout=150,
                         env={**os.environ, "HOME": str(self.home)}).decode()
        if self.wanted not in page:
            raise tier.Wrong(f"chromium shows {page!r}")

    def check(self):
        self.work(0)


ALL = [Sqlite, Git, Gcc, StressNg, Restic, Chromium]
