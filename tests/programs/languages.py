# SPDX-License-Identifier: MIT
"""Languages' runtimes: two workers each, which keep records, change them on demand, and print them.

Every language has the same small program. It keeps `count` records; "set FIRST STEP TAG" gives
every STEPth from FIRST on new contents, "dump" prints all, "end" ends it. What it has to print is
computed here. The text of a record is its tag and number, repeated, so that no two records are
equal, and those of two workers are.
"""

import subprocess

import tier

PYTHON = """
import sys, gc
n = %(count)d
make = lambda i, tag: f"{tag}:{i};" * %(repeat)d
d = {i: make(i, 0) for i in range(n)}
for line in sys.stdin:
    w = line.split()
    if w[0] == "set":
        for i in range(int(w[1]), n, int(w[2])):
            d[i] = make(i, w[3])
        gc.collect()
        print("done", flush=True)
    elif w[0] == "dump":
        print("\\n".join(d.values()), flush=True)
    else:
        break
"""

NODE = """
const n = %(count)d, make = (i, tag) => Buffer.from(`${tag}:${i};`.repeat(%(repeat)d)).toString();
let d = new Map();
for (let i = 0; i < n; i++) d.set(i, make(i, 0));
require("readline").createInterface({input: process.stdin}).on("line", line => {
    const w = line.split(" ");
    if (w[0] == "set") {
        for (let i = +w[1]; i < n; i += +w[2]) d.set(i, make(i, w[3]));
        if (global.gc) global.gc();
        process.stdout.write("done\\n");
    } else if (w[0] == "dump") {
        process.stdout.write([...d.values()].join("\\n") + "\\n");
    } else process.exit(0);
});
"""

JAVA = """
import java.io.*;
import java.util.*;

public class Worker {
    static String make(int i, String tag) { return (tag + ":" + i + ";").repeat(%(repeat)d); }

    public static void main(String[] args) throws IOException {
        int n = %(count)d;
        String[] d = new String[n];
        for (int i = 0; i < n; i++) d[i] = make(i, "0");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16), false);
        for (String line; (line = in.readLine()) != null; out.flush()) {
            String[] w = line.split(" ");
            if (w[0].equals("set")) {
                for (int i = Integer.parseInt(w[1]); i < n; i += Integer.parseInt(w[2]))
                    d[i] = make(i, w[3]);
                System.gc();
                out.println("done");
            } else if (w[0].equals("dump")) {
                for (String s : d) out.println(s);
            } else break;
        }
    }
}
"""

PHP = """<?php
ini_set("memory_limit", "-1");
$n = %(count)d;
function make($i, $tag) { return str_repeat("$tag:$i;", %(repeat)d); }
$d = [];
for ($i = 0; $i < $n; $i++) $d[$i] = make($i, 0);
while (($line = fgets(STDIN)) !== false) {
    $w = explode(" ", trim($line));
    if ($w[0] == "set") {
        for ($i = (int)$w[1]; $i < $n; $i += (int)$w[2]) $d[$i] = make($i, $w[3]);
        gc_collect_cycles();
        echo "done\\n";
    } else if ($w[0] == "dump") {
        foreach ($d as $s) echo $s, "\\n";
    } else break;
}
"""

RUBY = """
n = %(count)d
make = ->(i, tag) { "#{tag}:#{i};" * %(repeat)d }
d = Array.new(n) { |i| make.(i, 0) }
$stdout.sync = false
while line = $stdin.gets
  w = line.split
  if w[0] == "set"
    (w[1].to_i...n).step(w[2].to_i) { |i| d[i] = make.(i, w[3]) }
    GC.start
    GC.compact if GC.respond_to?(:compact)
    puts "done"
  elsif w[0] == "dump"
    puts d
  else
    break
  end
  $stdout.flush
end
"""

PERL = """
use strict;
my $n = %(count)d;
sub make { my ($i, $tag) = @_; return "$tag:$i;" x %(repeat)d; }
my @d = map { make($_, 0) } 0 .. $n - 1;
while (my $line = <STDIN>) {
    my @w = split(' ', $line);
    if ($w[0] eq "set") {
        for (my $i = $w[1]; $i < $n; $i += $w[2]) { $d[$i] = make($i, $w[3]); }
        print "done\\n";
    } elsif ($w[0] eq "dump") {
        print "$_\\n" for @d;
    } else { last; }
    $| = 1; print ""; $| = 0;
}
"""

LUA = """
local n = %(count)d
local function make(i, tag) return (tag .. ":" .. i .. ";"):rep(%(repeat)d) end
local d = {}
for i = 0, n - 1 do d[i] = make(i, "0") end
for line in io.lines() do
    local c, first, step, tag = line:match("(%%a+) ?(%%d*) ?(%%d*) ?(%%w*)")
    if c == "set" then
        for i = tonumber(first), n - 1, tonumber(step) do d[i] = make(i, tag) end
        collectgarbage()
        print("done")
    elseif c == "dump" then
        for i = 0, n - 1 do print(d[i]) end
    else break end
    io.flush()
end
"""

ERLANG = """
-module(worker).
-export([main/0]).
make(I, Tag) -> binary:copy(iolist_to_binary([Tag, ":", integer_to_list(I), ";"]), %(repeat)d).
main() ->
    T = ets:new(records, [ordered_set]),
    [ets:insert(T, {I, make(I, "0")}) || I <- lists:seq(0, %(count)d - 1)],
    io:setopts([binary, {encoding, latin1}]),
    loop(T).
loop(T) ->
    case io:get_line("") of
        eof -> halt(0);
        Line -> command(T, string:lexemes(string:trim(Line), " "))
    end.
command(T, [<<"set">>, First, Step, Tag]) ->
    [ets:insert(T, {I, make(I, Tag)})
     || I <- lists:seq(binary_to_integer(First), %(count)d - 1, binary_to_integer(Step))],
    [erlang:garbage_collect(P) || P <- erlang:processes()],
    io:put_chars("done\\n"),
    loop(T);
command(T, [<<"dump">>]) ->
    io:put_chars([[S, "\\n"] || {_, S} <- ets:tab2list(T)]),
    loop(T);
command(_, _) -> halt(0).
"""

GUILE = """
(use-modules (ice-9 rdelim) (srfi srfi-13))
(define n %(count)d)
(define (make i tag)
  (string-concatenate (make-list %(repeat)d (string-append tag ":" (number->string i) ";"))))
(define d (make-vector n))
(do ((i 0 (+ i 1))) ((= i n)) (vector-set! d i (make i "0")))
(let loop ((line (read-line)))
  (unless (eof-object? line)
    (let ((w (string-tokenize line)))
      (cond
       ((string=? (car w) "set")
        (do ((i (string->number (cadr w)) (+ i (string->number (caddr w))))) ((>= i n))
          (vector-set! d i (make i (cadddr w))))
        (gc)
        (display "done\\n"))
       ((string=? (car w) "dump")
        (do ((i 0 (+ i 1))) ((= i n))
          (display (vector-ref d i))
          (newline)))
       (else (exit 0)))
      (force-output)
      (loop (read-line)))))
"""


class Language(tier.Program):
    """Two workers of `source`, which `argv()` runs."""

    source, suffix = "", ""
    options = ("--fixed-layout",)
    merges = 300
    env = {}
    count, repeat = 16000, 24

    def record(self, i, tag):
        return f"{tag}:{i};" * self.repeat

    def text(self):
        return self.source % {"count": self.count, "repeat": self.repeat}

    def argv(self, path):
        return [self.needs[0], path]

    def write(self):
        path = self.r.dir / ("Worker" + self.suffix)
        path.write_text(self.text(), encoding="ascii")
        return path

    def start(self):
        path = self.write()
        self.records = [self.record(i, 0) for i in range(self.count)]
        self.workers = [self.r.start(f"{self.name}-{i}", self.argv(path), stdin=subprocess.PIPE,
                                     env={**tier.os.environ, **self.env},
                                     stdout=subprocess.PIPE) for i in range(2)]
        self.work(0)

    def ask(self, command, lines):
        """All at once, so that they work side by side."""
        for p in self.workers:
            p.stdin.write(command.encode() + b"\n")
            p.stdin.flush()
        for p in self.workers:
            for i, line in enumerate(lines):
                # A line of erl's shell ends with \\r\\n on some terminals; there is none here.
                got = p.stdout.readline().decode()
                if got != line + "\n":
                    p.poll()
                    raise tier.Wrong(f"{p.name}, {command}, line {i}: {got[:80]!r}, not "
                                     f"{line[:80]!r}{tier.tail(p.log)}")

    def work(self, n):
        first, step = n % 7, (5, 3, 11)[n % 3]
        self.ask(f"set {first} {step} t{n}", ["done"])
        for i in range(first, self.count, step):
            self.records[i] = self.record(i, f"t{n}")
        self.check()

    def check(self):
        self.ask("dump", self.records)

    def stop(self):
        for p in self.workers:
            p.stdin.write(b"end\n")
            p.stdin.close()
        for p in self.workers:
            self.r.ended(p)


class Python(Language):
    name, packages, needs = "python3", ("python3",), ("/usr/bin/python3",)
    source, suffix, env = PYTHON, ".py", {"PYTHONHASHSEED": "0"}


class Node(Language):
    name, packages, needs = "node", ("nodejs",), ("node",)
    source, suffix = NODE, ".js"

    def argv(self, path):
        return ["node", "--expose-gc", path]


class Java(Language):
    name, packages, needs = "java", ("openjdk-17-jre-headless",), ("java",)
    source, suffix = JAVA, ".java"

    @classmethod
    def missing(cls):
        # The launcher of single source files takes the compiler, which a headless JRE lacks.
        return super().missing() or ([] if tier.shutil.which("javac") else ["javac"])

    def write(self):
        path = super().write()
        self.r.do(["javac", path], plain=True)
        return path

    def argv(self, path):
        return ["java", "-Xmx128m", "-cp", self.r.dir, "Worker"]


class Php(Language):
    name, packages, needs = "php", ("php-cli",), ("php",)
    source, suffix = PHP, ".php"


class Ruby(Language):
    name, packages, needs = "ruby", ("ruby",), ("ruby",)
    source, suffix = RUBY, ".rb"


class Perl(Language):
    name, packages, needs = "perl", ("perl",), ("perl",)
    source, suffix = PERL, ".pl"
    env = {"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}


class Lua(Language):
    name, packages, needs = "lua", ("lua5.4",), ("lua5.4",)
    source, suffix = LUA, ".lua"


class Guile(Language):
    name, packages, needs = "guile", ("guile-3.0",), ("guile",)
    source, suffix = GUILE, ".scm"
    # Guile's collector lays small objects out in an order that differs from process to process, so
    # that pages of several records are equal by chance only. A record that is larger than a page
    # has pages of its own, and they are equal wherever it lies.
    count, repeat = 800, 960

    def argv(self, path):
        return ["guile", "--no-auto-compile", path]


class Erlang(Language):
    name, packages, needs = "erlang", ("erlang-base",), ("erl", "erlc")
    source, suffix = ERLANG, ".erl"

    def write(self):
        path = self.r.dir / "worker.erl"
        path.write_text(self.text(), encoding="ascii")
        self.r.do(["erlc", path.name], plain=True)
        return path

    def argv(self, path):
        return ["erl", "-noshell", "-s", "worker", "main"]


PREFORK = """
import os, sys
d = {i: [str(i) * 40, i] for i in range(60000)}
def look(n):
    for i, (s, k) in d.items():
        assert k == n + i and s == str(i) * 40, (i, k, n)
def step():
    for x in d.values():
        x[1] += 1
def child(read, write):
    n = 0
    while os.read(read, 1) == b"s":
        step()
        n += 1
        look(n)
        os.write(write, b"+")
    os._exit(7)
pipes = []
for _ in range(4):
    to, back = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        child(to[0], back[1])
    os.close(to[0]); os.close(back[1])
    pipes.append((pid, to[1], back[0]))
print("ready", flush=True)
for line in sys.stdin:
    for _, write, _ in pipes:
        os.write(write, b"s")
    for _, _, read in pipes:
        assert os.read(read, 1) == b"+"
    look(0)
    print("done", flush=True)
for pid, write, _ in pipes:
    os.write(write, b"e")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""


class Prefork(tier.Program):
    """A parent and workers that walk what they inherited, as application servers do."""

    name, packages, needs = "prefork", ("python3",), ("/usr/bin/python3",)
    merges = 4000
    rests = True

    def start(self):
        self.p = self.r.start("prefork", ["/usr/bin/python3", "-c", PREFORK],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        tier.expect("prefork", self.p.stdout.readline(), b"ready\n")
        self.work(0)

    def work(self, n):
        self.p.stdin.write(b"\n")
        self.p.stdin.flush()
        if self.p.stdout.readline() != b"done\n":
            raise tier.Wrong("prefork: wrong data" + tier.tail(self.p.log))

    def check(self):
        self.work(0)

    def stop(self):
        self.p.stdin.close()
        self.r.ended(self.p)


ALL = [Python, Prefork, Node, Java, Php, Ruby, Perl, Lua, Guile, Erlang]
