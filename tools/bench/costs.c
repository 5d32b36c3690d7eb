/* SPDX-License-Identifier: MIT */
/*
 * costs.c - what this machine asks for each step of a merge, apart from ksmd-user.
 *
 * Where a figure of docs/performance.md falls short of its target, these figures say how much of it
 * the steps themselves cost. The memory is far larger than the caches, and is worked on in pieces
 * of 64 pages, as ksmd-user does. All figures are per page.
 *
 * Every step is timed twice: with the other processors idle, and with each of them at the same
 * steps, because scanning threads and agents work side by side and share the memory's bandwidth. A
 * first turn is thrown away: it would time the first touch of memory, which in a virtual machine is
 * the host's business.
 */
#include "costs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#endif

#include "base/clock.h"
#include "config.h"
#include "message.h"

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

	return p != MAP_FAILED && madvise(p, PIECE_BYTES, MADV_POPULATE_READ) == 0;
}

/* Frames in reverse order, so that each page is a mapping of its own. */
static bool map_singly(struct costs *c, size_t off)
{
	for (size_t i = 0; i < PIECE; i++)
		if (mmap(c->at + off + i * BENCH_PAGE, BENCH_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED, c->arena,
			 (off_t)(off + (PIECE - 1 - i) * BENCH_PAGE)) == MAP_FAILED)
			return false;
	return madvise(c->at + off, PIECE_BYTES, MADV_POPULATE_READ) == 0;
}

static const struct {
	const char *what;
	bool (*fn)(struct costs *c, size_t off);
	size_t one_in; /* pieces. A process may not have 65,536 mappings. */
} steps[] = {
	{ "hash where it lies (XXH3)", hash_in_place, 1 },
	{ "read a client (pread of /proc/PID/mem)", read_client, 1 },
	{ "read a client and hash", read_and_hash, 1 },
	{ "compare with another page", compare, 1 },
	{ "write a frame (pwrite to a memfd)", write_frames, 1 },
	{ "read a frame (pread)", read_frames, 1 },
	{ "map frames, 64 at a time, and populate", map_frames, 1 },
	{ "map frames one by one, out of order, and populate", map_singly, 4 },
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]), MAX_OTHERS = 63 };

static double now_us(void)
{
	return (double)clock_ns() / 1e3;
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

/* Microseconds per page of each step. Returns 0 or a negative errno, and says which step failed. */
static int run_steps(struct costs *c, double us[STEPS])
{
	/* Writing a frame includes getting memory for it. */
	if (fallocate(c->arena, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)BYTES))
		return -errno;
	for (size_t s = 0; s < STEPS; s++) {
		size_t skip = PIECE_BYTES * steps[s].one_in;
		size_t pages = BYTES / skip * PIECE;
		double start = now_us();

		for (size_t off = 0; off < BYTES; off += skip)
			if (!steps[s].fn(c, off)) {
				complain("%s: %s", steps[s].what, strerror(errno));
				return -EIO;
			}
		us[s] = (now_us() - start) / (double)pages;
	}
	return 0;
}

static int prepare(struct costs *c)
{
	double us[STEPS];

	*c = (struct costs){ .mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC),
			     .arena = memfd_create("ksm-bench", MFD_CLOEXEC) };
	c->a = memory();
	c->b = memory();
	c->buf = calloc(PIECE, BENCH_PAGE);
	c->at = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->mem < 0 || c->arena < 0 || !c->a || !c->b || !c->buf || c->at == MAP_FAILED) {
		complain("cannot make 1 GiB of memory to measure on: %s", strerror(errno));
		return -ENOMEM;
	}
	return run_steps(c, us);
}

/*
 * A process that keeps one processor at the same steps until it is killed. It writes a byte to
 * `ready` when it begins.
 */
static void other(int ready)
{
	double us[STEPS];
	struct costs c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (prepare(&c) || write(ready, "", 1) != 1)
		_exit(EXIT_FAILURE);
	while (!run_steps(&c, us))
		;
	_exit(EXIT_FAILURE);
}

/* Start at most `nr` of them and wait until they have begun. Returns how many; *err is set. */
static int others_start(pid_t pid[], int nr, int *err)
{
	int made = 0, ready[2];
	char begun;

	*err = pipe2(ready, O_CLOEXEC) ? -errno : 0;
	if (*err)
		return 0;
	while (made < nr && !*err) {
		pid[made] = fork();
		if (!pid[made])
			other(ready[1]);
		if (pid[made] < 0)
			*err = -errno;
		else
			made++;
	}
	close(ready[1]);
	for (int i = 0; i < made && !*err; i++)
		*err = read(ready[0], &begun, 1) == 1 ? 0 : -EIO;
	close(ready[0]);
	return made;
}

static int run_with_others(struct costs *c, double us[STEPS])
{
	int nr = (int)sysconf(_SC_NPROCESSORS_ONLN) - 1, made, err;
	pid_t pid[MAX_OTHERS];

	made = others_start(pid, nr < MAX_OTHERS ? nr : MAX_OTHERS, &err);
	err = err ? err : run_steps(c, us);
	for (int i = 0; i < made; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	return err;
}

int costs_print(void)
{
	double idle[STEPS] = { 0 }, busy[STEPS] = { 0 };
	struct costs c;
	int err = prepare(&c);

	err = err ? err : run_steps(&c, idle);
	err = err ? err : run_with_others(&c, busy);
	if (err)
		return err;
	printf("| us per page | other processors idle | other processors at the same |\n"
	       "|---|---|---|\n");
	for (size_t s = 0; s < STEPS; s++)
		printf("| %s | %.2f | %.2f |\n", steps[s].what, idle[s], busy[s]);
	if (c.sink == 1)
		putchar('\n');
	return 0; /* the process ends, and all of it goes */
}
