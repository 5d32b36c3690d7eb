/* SPDX-License-Identifier: MIT */
/*
 * bench_costs.c - what this machine asks for each step of a merge, apart from ksmd-user.
 *
 * Where a figure of docs/performance.md falls short of what is wanted, these say how much of it is
 * the steps themselves. Everything is measured on memory far larger than the caches, in pieces of 64
 * pages as ksmd-user works, and printed per page. The first of two turns is thrown away: it would time the first
 * touch of memory, which in a virtual machine is the host's business.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#endif

enum { PIECE = 64, PAGES = 65536 /* 256 MiB, twice */ };
#define PIECE_BYTES ((size_t)PIECE * BENCH_PAGE)
#define BYTES ((size_t)PAGES * BENCH_PAGE)

struct costs {
	unsigned char *a, *b, *buf, *at;
	int mem, arena;
	uint64_t sink; /* so that nothing is left out as unused */
};

static bool hash_in_place(struct costs *c, size_t off)
{
	for (size_t i = 0; i < PIECE; i++)
		c->sink ^= XXH3_64bits(c->a + off + i * BENCH_PAGE, BENCH_PAGE);
	return true;
}

static bool read_client(struct costs *c, size_t off)
{
	return pread(c->mem, c->buf, PIECE_BYTES, (off_t)((uintptr_t)c->a + off)) ==
	       (ssize_t)PIECE_BYTES;
}

static bool read_and_hash(struct costs *c, size_t off)
{
	if (!read_client(c, off))
		return false;
	for (size_t i = 0; i < PIECE; i++)
		c->sink ^= XXH3_64bits(c->buf + i * BENCH_PAGE, BENCH_PAGE);
	return true;
}

static bool compare(struct costs *c, size_t off)
{
	for (size_t i = 0; i < PIECE; i++)
		c->sink += (uint64_t)memcmp(c->a + off + i * BENCH_PAGE,
					    c->b + off + i * BENCH_PAGE, BENCH_PAGE);
	return true;
}

static bool write_frames(struct costs *c, size_t off)
{
	return pwrite(c->arena, c->buf, PIECE_BYTES, (off_t)off) == (ssize_t)PIECE_BYTES;
}

static bool read_frames(struct costs *c, size_t off)
{
	return pread(c->arena, c->buf, PIECE_BYTES, (off_t)off) == (ssize_t)PIECE_BYTES;
}

static bool map_frames(struct costs *c, size_t off)
{
	void *p = mmap(c->at + off, PIECE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
		       c->arena, (off_t)off);

	return p != MAP_FAILED && madvise(p, PIECE_BYTES, 22 /* MADV_POPULATE_READ */) == 0;
}

static const struct {
	const char *what;
	bool (*fn)(struct costs *c, size_t off);
} steps[] = {
	{ "hash where it lies (XXH3)", hash_in_place },
	{ "read a client (pread of /proc/PID/mem)", read_client },
	{ "read a client and hash", read_and_hash },
	{ "compare with another page", compare },
	{ "write a frame (pwrite to a memfd)", write_frames },
	{ "read a frame (pread)", read_frames },
	{ "map frames, 64 at a time, and populate", map_frames },
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static unsigned char *memory(void)
{
	unsigned char *p =
		mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, BYTES, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < BYTES / 8; i++)
		((uint64_t *)p)[i] = i * 0x9e3779b97f4a7c15ull;
	return p;
}

static int run_steps(struct costs *c, bool print)
{
	for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
		double start = now_us();

		for (size_t off = 0; off < BYTES; off += PIECE_BYTES)
			if (!steps[s].fn(c, off)) {
				fprintf(stderr, "ksm-bench: %s: %s\n", steps[s].what,
					strerror(errno));
				return -EIO;
			}
		if (print)
			printf("| %s | %.2f |\n", steps[s].what, (now_us() - start) / PAGES);
	}
	return 0;
}

int costs_print(void)
{
	struct costs c = { .mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
			   .arena = memfd_create("ksm-bench", MFD_CLOEXEC) };
	int err;

	c.a = memory();
	c.b = memory();
	c.buf = calloc(PIECE, BENCH_PAGE);
	c.at = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c.mem < 0 || c.arena < 0 || !c.a || !c.b || !c.buf || c.at == MAP_FAILED) {
		fprintf(stderr, "ksm-bench: cannot make 1 GiB of memory to measure on: %s\n",
			strerror(errno));
		return -ENOMEM;
	}
	err = run_steps(&c, false);
	if (!err && fallocate(c.arena, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)BYTES))
		err = -errno;
	if (!err)
		printf("| step | us per page |\n|---|---|\n");
	err = err ? err : run_steps(&c, true);
	if (c.sink == 1)
		putchar('\n');
	return err; /* the process ends, and all of it goes */
}
