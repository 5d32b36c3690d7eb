# SPDX-License-Identifier: MIT
"""Code under ksm-run that calls the kernel by instructions of its own, as Go does.

No interposer sees that memory is given back, so memory that such code maps is left out: advice that
throws contents away would show frames in place of zeros. Seen to fail (pages hold what they held)
without the look at objects.
"""

import pathlib
import shutil
import subprocess
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "lib"))
import checkline  # noqa: E402
from rig import BUILD, DAEMON, PATIENCE, Rig  # noqa: E402

MIB = 1 << 20

PROGRAM = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Memory of the program's own merges all the same. */
static char *own(size_t len)
{
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < len; i += 4096)
		memset(p + i, 1 + i / 4096 % 250, 4096), *(size_t *)(p + i) = i;
	return p;
}

int main(int argc, char **argv)
{
	void *so = dlopen(argv[1], RTLD_NOW);
	long (*hold)(void) = so ? (long (*)(void))dlsym(so, "Hold") : NULL;
	long (*drop)(void) = so ? (long (*)(void))dlsym(so, "Drop") : NULL;
	char *p, c;

	if (!drop)
		return fprintf(stderr, "%s\n", dlerror()), 3;
	p = own(4 << 20);
	printf("held %ld\n", hold());
	fflush(stdout);
	if (read(0, &c, 1) != 1)
		return 4;
	printf("wrong %ld\n", drop());
	for (size_t i = 0; i < 4 << 20; i += 4096)
		if (*(size_t *)(p + i) != i)
			return 5;
	return 0;
}
"""

ASSEMBLER = r"""
#include <string.h>
#include <sys/mman.h>

#define LEN (8 << 20)
static char *p;

static long give_back(void *at, long len)
{
	long nr = 28, r;

	__asm__ volatile("mov $28, %%eax\n\tsyscall"
			 : "=a"(r) : "D"(at), "S"(len), "d"(4L) : "rcx", "r11", "memory");
	(void)nr;
	return r;
}

long Hold(void)
{
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (long i = 0; i < LEN; i += 4096)
		memset(p + i, 1 + i / 4096 % 250, 4096), *(long *)(p + i) = ~i;
	return LEN;
}

long Drop(void)
{
	long wrong = give_back(p, LEN) != 0;

	for (long i = 0; i < LEN; i++)
		wrong += p[i] != 0;
	return wrong;
}
"""

GO = r"""
package main

import "C"
import "runtime/debug"

const pages = 4096

var held [][]byte

func fill(seed int) [][]byte {
	v := make([][]byte, pages)
	for i := range v {
		v[i] = make([]byte, 4096)
		for k := range v[i] {
			v[i][k] = byte(seed + i + k*7)
		}
	}
	return v
}

func wrong(v [][]byte, seed int) int {
	n := 0
	for i := range v {
		for k := range v[i] {
			if v[i][k] != byte(seed+i+k*7) {
				n++
			}
		}
	}
	return n
}

//export Hold
func Hold() C.long {
	held = fill(1)
	return pages * 4096
}

//export Drop
func Drop() C.long {
	n := wrong(held, 1)
	for round := 0; round < 4; round++ {
		held = nil
		debug.FreeOSMemory()
		held = make([][]byte, pages)
		for i := range held {
			held[i] = make([]byte, 4096)
			for _, b := range held[i] {
				if b != 0 {
					n++
				}
			}
		}
		held = fill(round)
		n += wrong(held, round)
	}
	return C.long(n)
}

func main() {}
"""


class Unseen(Rig):
    def setUp(self):
        super().setUp()
        self.compile(PROGRAM, "program.c", "gcc", "-O1", "-o", "program", "program.c", "-ldl")
        self.start([DAEMON, "--runtime-dir", self.dir / "run"], stderr=subprocess.DEVNULL)
        self.wait("the daemon", lambda: self.get("ksm/run") == "1")
        self.ctl("set", "ksm/sleep_millisecs", "2")

    def compile(self, text, name, *command):
        (self.dir / name).write_text(text, encoding="utf-8")
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.dir),
               "GOCACHE": str(self.dir / "cache"), "GOFLAGS": "-mod=mod"}
        subprocess.run(command, cwd=self.dir, env=env, check=True, timeout=600)

    def left_out(self, p, size):
        name = f"client/{p.pid}/left_out/excluded"
        self.wait(f"{name} is counted", lambda: int(self.get(name)) * 4096 >= size)

    def give_back(self, so):
        """Two programs hold the same, and give it back once what can merge has merged."""
        run = [BUILD / "ksm-run", "--runtime-dir", self.dir / "run", self.dir / "program", so]
        programs = [self.start(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                    for _ in range(2)]
        held = [int(p.stdout.readline().split()[1]) for p in programs]
        self.wait("merges", lambda: int(self.get("ksm/pages_sharing")) >= 4 * MIB // 4096)
        scans = int(self.get("ksm/full_scans"))
        self.wait("passes", lambda: int(self.get("ksm/full_scans")) >= scans + 4)
        for p, size in zip(programs, held):
            self.left_out(p, size)
            out, _ = p.communicate("x", timeout=PATIENCE)
            self.assertEqual(out, "wrong 0\n")
            self.assertEqual(p.returncode, 0)

    @unittest.skipUnless(shutil.which("gcc"), "there is no gcc")
    def test_assembler(self):
        self.compile(ASSEMBLER, "a.c", "gcc", "-O1", "-fPIC", "-shared", "-o", "a.so", "a.c")
        self.give_back(self.dir / "a.so")

    @unittest.skipUnless(shutil.which("gcc") and shutil.which("go"), "there is no Go")
    def test_go(self):
        self.compile(GO, "g.go", "go", "build", "-buildmode=c-shared", "-o", "g.so", "g.go")
        self.give_back(self.dir / "g.so")


# The preloaded object is not built with a sanitizer, and the assembler is of one architecture.
if not (BUILD / "libksm-preload.so").exists():
    for test in ("test_assembler", "test_go"):
        delattr(Unseen, test)


if __name__ == "__main__":
    checkline.main()
