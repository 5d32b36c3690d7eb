/* SPDX-License-Identifier: MIT */
/*
 * test_memory.c - merged memory behaves like memory.
 *
 * Every operation on the address space, and every access by system calls and other threads, has the
 * same effect as on plain anonymous memory. This holds for pages that are merged, are being merged,
 * or were merged.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

static const long PG = PUPPET_PAGE;
enum { NR = 150 }; /* more than two blocks of 64, and no multiple */

struct pair {
	struct daemon *d;
	struct puppet *p, *q;
	long a, b;
};

/* Two processes with the same NR pages, all different from each other; merged. */
static struct pair merged_pair(void)
{
	struct pair t = { .d = daemon_start(NULL), .p = puppet_new(), .q = puppet_new() };

	daemon_hasten(t.d);
	t.a = puppet_call(t.p, fn_offer, NR, 1, 1);
	t.b = puppet_call(t.q, fn_offer, NR, 1, 1);
	ck_assert_int_gt(t.a, 0);
	ck_assert_int_gt(t.b, 0);
	wait_counter(t.d, "pages_sharing", NR);
	return t;
}

/* The second process has seen none of this, and all frames are given back. */
static void end_pair(struct pair *t)
{
	ck_assert_int_eq(puppet_call(t->q, fn_check, t->b, NR, 1, 1), 0);
	puppet_end(t->p);
	puppet_end(t->q);
	wait_counter(t->d, "pages_shared", 0);
	wait_counter(t->d, "pages_sharing", 0);
	daemon_stop(t->d);
}

static uint64_t test_seed(void)
{
	const char *env = getenv("KSM_TEST_SEED");
	uint64_t seed = env ? strtoull(env, NULL, 0) : (uint64_t)time(NULL) * 1000003 + getpid();

	printf("seed %llu (set KSM_TEST_SEED to repeat)\n", (unsigned long long)seed);
	fflush(stdout);
	return seed | 1;
}

static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* ---- sharing and writing ---- */

START_TEST(same_frames)
{
	struct pair t;

	if (!pfns_visible())
		return;
	t = merged_pair();
	ck_assert_int_eq(pages_sharing_frames(t.p, t.a, t.q, t.b, NR), NR);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	ck_assert_uint_eq(ctl_get_u64(t.d, "ksm/pages_shared"), NR);
	ck_assert_uint_eq(ctl_client_u64(t.d, t.p->pid, "ksm_merging_pages"), NR);
	end_pair(&t);
}
END_TEST

/* A break of copy-on-write is counted when two more passes are over. */
START_TEST(write_is_private)
{
	struct pair t = merged_pair();

	puppet_call(t.p, fn_fill, t.a + 10 * PG, 7, 5000, 1);
	ck_assert_int_eq(puppet_call(t.q, fn_check, t.b, NR, 1, 1), 0);
	wait_full_scans(t.d, 2, WAIT_MS);
	ck_assert_uint_eq(ctl_get_u64(t.d, "ksm/pages_sharing"), NR - 7);
	ck_assert_uint_eq(ctl_get_u64(t.d, "ksm/pages_shared"), NR);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, 10, 1, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a + 10 * PG, 7, 5000, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a + 17 * PG, NR - 17, 18, 1), 0);
	ck_assert_int_eq(puppet_pages_on_frames(t.p, t.a + 10 * PG, 7), 0);
	end_pair(&t);
}
END_TEST

/* Both write the same new bytes: the pages meet again. */
START_TEST(broken_pages_merge_again)
{
	struct pair t = merged_pair();

	puppet_call(t.p, fn_fill, t.a, NR, 9000, 1);
	puppet_call(t.q, fn_fill, t.b, NR, 9000, 1);
	wait_full_scans(t.d, 2, WAIT_MS);
	wait_counter(t.d, "pages_sharing", NR);
	wait_until(puppet_pages_on_frames(t.p, t.a, NR) == NR, WAIT_MS, "merged again");
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 9000, 1), 0);
	ck_assert_int_eq(puppet_call(t.q, fn_check, t.b, NR, 9000, 1), 0);
	puppet_call(t.q, fn_fill, t.b, NR, 1, 1);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 9000, 1), 0);
	end_pair(&t);
}
END_TEST

/* ---- changes of the address space ---- */

START_TEST(dontneed_gives_zeros)
{
	struct pair t = merged_pair();

	ck_assert_int_eq(puppet_call(t.p, fn_madvise, t.a + 5 * PG, 80 * PG, MADV_DONTNEED), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, 5, 1, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a + 5 * PG, 80, 0, 0), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a + 85 * PG, NR - 85, 86, 1), 0);
	wait_counter(t.d, "pages_sharing", NR - 80);
	/* It is still offered: filled again, it merges again. */
	puppet_call(t.p, fn_fill, t.a + 5 * PG, 80, 6, 1);
	wait_counter(t.d, "pages_sharing", NR);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	end_pair(&t);
}
END_TEST

START_TEST(munmap_part)
{
	struct pair t = merged_pair();

	ck_assert_int_eq(puppet_call(t.p, fn_munmap, t.a + 20 * PG, 70 * PG), 0);
	wait_counter(t.d, "pages_sharing", NR - 70);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, 20, 1, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a + 90 * PG, NR - 90, 91, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_munmap, t.a, NR * PG), 0);
	wait_counter(t.d, "pages_sharing", 0);
	end_pair(&t);
}
END_TEST

static const struct {
	long from, len, new_len;
	int flags;
} moves[] = {
	{ 0, NR, 2 * NR, MREMAP_MAYMOVE },             /* grow: moves or not */
	{ 0, NR, 40, 0 },                              /* shrink */
	{ 30, 70, 70, MREMAP_MAYMOVE | MREMAP_FIXED }, /* move a part elsewhere */
	{ 30, 70, 100, MREMAP_MAYMOVE | MREMAP_FIXED },
	{ 30, 70, 20, MREMAP_MAYMOVE | MREMAP_FIXED },
};

START_TEST(mremap_merged)
{
	struct pair t = merged_pair();
	long from = moves[_i].from, len = moves[_i].len, new_len = moves[_i].new_len, dst = 0, r;
	long kept = len < new_len ? len : new_len;

	if (moves[_i].flags & MREMAP_FIXED)
		dst = puppet_call(t.p, fn_map, 200);
	r = puppet_call(t.p, fn_mremap, t.a + from * PG, len * PG, new_len * PG, moves[_i].flags,
			dst);
	ck_assert_int_gt(r, 0);
	if (dst)
		ck_assert_int_eq(r, dst);
	ck_assert_int_eq(puppet_call(t.p, fn_check, r, kept, 1 + from, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, r + kept * PG, new_len - kept, 0, 0), 0);
	if (from)
		ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, from, 1, 1), 0);
	wait_full_scans(t.d, 3, WAIT_MS);
	ck_assert_int_eq(puppet_call(t.p, fn_check, r, kept, 1 + from, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, r + kept * PG, new_len - kept, 0, 0), 0);
	puppet_call(t.p, fn_fill, r, new_len, 7000, 1);
	ck_assert_int_eq(puppet_call(t.p, fn_check, r, new_len, 7000, 1), 0);
	end_pair(&t);
}
END_TEST

/* (address, pages): to a new place. */
static long fn_move(const long a[6])
{
	size_t len = (size_t)a[1] * PUPPET_PAGE;
	void *to = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (to == MAP_FAILED ||
	    ksm_mremap((void *)a[0], len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return -errno;
	return (long)to;
}

/*
 * Whether the process's agent sleeps. If it has something to send, it sleeps because the daemon
 * does not read.
 */
static bool agent_sleeps(pid_t pid)
{
	char path[300], line[300] = "";
	bool sleeps = false;
	struct dirent *de;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (de = readdir(dir))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/stat", (int)pid, de->d_name);
		f = fopen(path, "re");
		if (f && fgets(line, sizeof(line), f))
			sleeps |= strstr(line, "(ksm-agent) S") != NULL;
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return sleeps;
}

/*
 * Threads write pages while the agent reports that they have moved. The scan may see a write before
 * the daemon hears of the move, and does not see it again. Counters must still be right a few
 * passes later. With scattered frames each page is a mapping and a message of its own; a few
 * hundred messages wait in the socket while the daemon is stopped. Seen to fail, in one round of
 * five and by tens of pages, when adopted pages counted as merged until the next write.
 */
START_TEST(moved_and_written)
{
	enum { MANY = 1000, ROUNDS = 20 };
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b, on_frames;

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set(d, "ksm/sleep_millisecs", "0"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/max_idle_millisecs", "1"), 0);
	puppet_call(p, fn_offer, 1, 0, 0);
	/* So that it is the first to be scanned. */
	wait_until(puppet_call(p, fn_connected) == 1, WAIT_MS, "connected");
	b = puppet_call(q, fn_offer, MANY, 1, 1);
	for (int round = 0; round < ROUNDS; round++) {
		a = puppet_call(p, fn_offer, MANY, MANY, -1); /* the other way round */
		wait_counter(d, "pages_sharing", MANY);
		kill(d->pid, SIGSTOP);
		a = puppet_call(p, fn_move, a, MANY);
		ck_assert_int_gt(a, 0);
		wait_until(agent_sleeps(p->pid), WAIT_MS, "the socket is full");
		puppet_call(p, fn_fill, a, MANY / 2, 100000 + round * MANY, 1);
		kill(d->pid, SIGCONT);
		wait_counter(d, "pages_sharing", MANY / 2);
		wait_full_scans(d, 3, WAIT_MS);
		on_frames = puppet_pages_on_frames(p, a, MANY);
		ck_assert_int_eq(on_frames, MANY / 2);
		ck_assert_uint_eq(ctl_client_u64(d, p->pid, "ksm_merging_pages"), on_frames);
		/* Two readings: between them frames may be gathered, or a node get a twin. */
		on_frames += puppet_pages_on_frames(q, b, MANY);
		wait_until(ctl_get_u64(d, "ksm/pages_shared") +
					   ctl_get_u64(d, "ksm/pages_sharing") ==
				   (uint64_t)on_frames,
			   WAIT_MS, "as many counted as there are");
		ck_assert_int_eq(puppet_call(p, fn_munmap, a, MANY * PG), 0);
	}
	ck_assert_int_eq(puppet_call(q, fn_check, b, MANY, 1, 1), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

START_TEST(mprotect_merged)
{
	struct pair t = merged_pair();

	ck_assert_int_eq(puppet_call(t.p, fn_mprotect, t.a, 100 * PG, PROT_READ), 0);
	wait_full_scans(t.d, 2, WAIT_MS);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	puppet_call(t.p, fn_fill, t.a + 100 * PG, 10, 1, 1);
	ck_assert_int_eq(puppet_call(t.p, fn_mprotect, t.a, 100 * PG, PROT_NONE), 0);
	wait_full_scans(t.d, 2, WAIT_MS);
	ck_assert_int_eq(puppet_call(t.p, fn_mprotect, t.a, 100 * PG, PROT_READ | PROT_WRITE), 0);
	wait_full_scans(t.d, 2, WAIT_MS);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, 100, 1, 1), 0);
	puppet_call(t.p, fn_fill, t.a, NR, 3000, 1);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 3000, 1), 0);
	end_pair(&t);
}
END_TEST

/* Merging must not make read-only memory writable, and its bytes stay. */
static long fn_faults(const long a[6])
{
	int fd[2], wrote;

	if (pipe(fd) || write(fd[1], "x", 1) != 1)
		return -errno;
	errno = 0;
	wrote = (int)read(fd[0], (void *)a[0],
			  1); /* the kernel writes: EFAULT instead of a signal */
	wrote = wrote < 0 ? -errno : wrote;
	close(fd[0]);
	close(fd[1]);
	return wrote;
}

START_TEST(protection_is_kept)
{
	struct pair t = merged_pair();

	ck_assert_int_eq(puppet_call(t.p, fn_mprotect, t.a, NR * PG, PROT_READ), 0);
	wait_full_scans(t.d, 2, WAIT_MS);
	for (long i = 0; i < NR; i++)
		ck_assert_int_eq(puppet_call(t.p, fn_faults, t.a + i * PG), -EFAULT);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	end_pair(&t);
}
END_TEST

/* ---- system calls that write into merged memory ---- */

enum { IO_FILE, IO_PIPE, IO_SOCKET, IO_NR };

/* An end to read `len` bytes of `data` from. */
static int io_source(int kind, const void *data, size_t len)
{
	int fd[2];

	switch (kind) {
	case IO_FILE:
		fd[0] = memfd_create("source", MFD_CLOEXEC);
		if (pwrite(fd[0], data, len, 0) != (ssize_t)len)
			harness_die("pwrite: %s", strerror(errno));
		return fd[0];
	case IO_PIPE:
		if (pipe2(fd, O_CLOEXEC) || write(fd[1], data, len) != (ssize_t)len)
			harness_die("pipe: %s", strerror(errno));
		close(fd[1]);
		return fd[0];
	default:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) ||
		    write(fd[1], data, len) != (ssize_t)len)
			harness_die("socketpair: %s", strerror(errno));
		close(fd[1]);
		return fd[0];
	}
}

static long io_read(int kind, int fd, void *buf, size_t len)
{
	return kind == IO_SOCKET ? recv(fd, buf, len, MSG_WAITALL) : read(fd, buf, len);
}

/* (kind, addr, pages, content): one read over all these pages, at most 16 (what a pipe holds). */
static long fn_read_into(const long a[6])
{
	char data[16 * 4096];
	long len = a[2] * PG, r;
	int fd;

	for (long i = 0; i < a[2]; i++)
		page_fill(data + i * PG, (uint64_t)(a[3] + i));
	fd = io_source((int)a[0], data, (size_t)len);
	r = io_read((int)a[0], fd, (void *)a[1], (size_t)len);
	close(fd);
	return r == len ? 0 : r < 0 ? -errno : r + 1;
}

START_TEST(system_calls_write)
{
	struct pair t = merged_pair();

	for (int i = 0; i + 12 <= NR; i += 12)
		ck_assert_int_eq(puppet_call(t.p, fn_read_into, _i, t.a + i * PG, 12, 4000 + i), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR / 12 * 12, 4000, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a + NR / 12 * 12 * PG, NR % 12,
				     NR / 12 * 12 + 1, 1),
			 0);
	end_pair(&t);
}
END_TEST

/* (kind, addr, pages, seed, ms): read into pages that are being merged all the time, and check. */
static long fn_read_while_merging(const long a[6])
{
	char data[4096] __attribute__((aligned(8)));
	uint64_t rnd = (uint64_t)a[3], end = harness_now_ms() + (uint64_t)a[4];
	long n = 0;

	while (harness_now_ms() < end) {
		char *page = (char *)a[1] + (long)(next(&rnd) % (uint64_t)a[2]) * PG;
		uint64_t content = 1 + next(&rnd) % 3; /* few contents: always something to merge */
		int fd;

		page_fill(data, content);
		fd = io_source((int)a[0], data, sizeof(data));
		if (io_read((int)a[0], fd, page, sizeof(data)) != (long)sizeof(data))
			return -errno;
		close(fd);
		if (!page_holds(page, content))
			return -EILSEQ;
		n++;
		if (n % 64 == 0) /* calm enough for merges */
			harness_nap();
	}
	return n;
}

START_TEST(system_calls_write_while_merging)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new();
	uint64_t merged;
	long addr;

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set(d, "ksm/smart_scan", "0"), 0);
	addr = puppet_call(p, fn_offer, 512, 1, 0);
	merged = ctl_get_u64(d, "ksm/full_scans");
	ck_assert_int_gt(
		puppet_call(p, fn_read_while_merging, _i, addr, 512, (long)test_seed(), 1500), 100);
	ck_assert_uint_gt(ctl_get_u64(d, "ksm/full_scans"), merged);
	/* At rest every page has its equals: three contents at most. */
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= 512 - 2 * 3, WAIT_MS, "merged at rest");
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/* ---- threads ---- */

enum { THREADS = 3, SHADOW_PAGES = 600, WORDS = 512 };
struct writer {
	pthread_t thread;
	uint64_t *mem;
	uint64_t seed;
	int index;
	atomic_bool *stop;
	uint64_t errors, cycles;
	/*
	 * The thread's last store to its word of each page. It uses few values, so pages become
	 * equal again and again.
	 */
	uint64_t shadow[SHADOW_PAGES];
};

static uint64_t *writer_word(struct writer *w, uint64_t page)
{
	return &w->mem[page * WORDS + (uint64_t)w->index * 64 + 5];
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint64_t rnd = w->seed;

	while (!atomic_load(w->stop)) {
		uint64_t page = next(&rnd) % SHADOW_PAGES;
		volatile uint64_t *word = writer_word(w, page);

		w->errors += *word != w->shadow[page];
		if (next(&rnd) % 4 == 0) {
			w->shadow[page] = next(&rnd) % 2;
			*word = w->shadow[page];
			w->errors += *word != w->shadow[page];
		}
		if (++w->cycles % 128 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	for (uint64_t page = 0; page < SHADOW_PAGES; page++)
		w->errors += *writer_word(w, page) != w->shadow[page];
	return NULL;
}

/* (addr, seed, ms): errors, or minus the cycles. */
static long fn_writers(const long a[6])
{
	static struct writer w[THREADS];
	atomic_bool stop = false;
	uint64_t errors = 0, cycles = 0;

	for (int i = 0; i < THREADS; i++) {
		w[i] = (struct writer){ .mem = (uint64_t *)a[0],
					.seed = (uint64_t)a[1] + 2 * (uint64_t)i,
					.index = i,
					.stop = &stop };
		if (pthread_create(&w[i].thread, NULL, writer_main, &w[i]))
			return 1000000;
	}
	usleep((useconds_t)a[2] * 1000); /* the length of the test itself */
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(w[i].thread, NULL);
		errors += w[i].errors;
		cycles += w[i].cycles;
	}
	return errors ? (long)errors : -(long)cycles;
}

START_TEST(threads_write_while_merging)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	uint64_t seed = test_seed();
	long a, b, r;

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set(d, "ksm/smart_scan", "0"), 0);
	a = puppet_call(p, fn_offer, SHADOW_PAGES, 0, 0);
	b = puppet_call(q, fn_offer, SHADOW_PAGES, 0, 0);
	puppet_post(p, fn_writers, a, (long)seed, 3000);
	puppet_post(q, fn_writers, b, (long)seed + 1000, 3000);
	r = puppet_result(p);
	ck_assert_msg(r < -1000, "%ld wrong words", r);
	r = puppet_result(q);
	ck_assert_msg(r < -1000, "%ld wrong words", r);
	/*
	 * There are eight contents and 256 sites to a frame; at rest nearly everything is shared.
	 */
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") > SHADOW_PAGES * 3 / 2, WAIT_MS,
		   "merged at rest");
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* ---- shapes ---- */

enum { REGIONS = 60 };

/* (region addresses out, content): many regions of odd sizes at odd places, gaps between. */
static long fn_offer_many(const long a[6])
{
	long total = 0, base = fn_map((const long[6]){ REGIONS * 40 });

	for (long i = 0; i < REGIONS; i++) {
		long addr = base + i * 40 * PG + i % 7 * PG, pages = 1 + i * 13 % 31;

		fn_fill((const long[6]){ addr, pages, a[0] + i * 100, 1 });
		if (ksm_madvise((void *)addr, (size_t)(pages * PG), MADV_MERGEABLE))
			return -errno;
		total += pages;
	}
	return a[1] ? base : total;
}

static long fn_check_many(const long a[6])
{
	long bad = 0;

	for (long i = 0; i < REGIONS; i++)
		bad += fn_check((const long[6]){ a[1] + i * 40 * PG + i % 7 * PG, 1 + i * 13 % 31,
						 a[0] + i * 100, 1 });
	return bad;
}

START_TEST(many_odd_regions)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long base, total;

	daemon_hasten(d);
	base = puppet_call(p, fn_offer_many, 50, 1);
	total = puppet_call(q, fn_offer_many, 50, 0);
	ck_assert_int_gt(total, 0);
	wait_counter(d, "pages_sharing", total);
	ck_assert_int_eq(puppet_call(p, fn_check_many, 50, base), 0);
	/* Pages between the regions were never offered, never touched and are not there. */
	ck_assert(!page_present(p->pid, base + 39 * PG));
	puppet_end(q);
	wait_counter(d, "pages_sharing", 0);
	ck_assert_int_eq(puppet_call(p, fn_check_many, 50, base), 0);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/* (): memory of kinds that cannot be merged; all with success. */
static long fn_offer_odd_kinds(const long a[6])
{
	long shared = fn_map((const long[6]){ 8, 0, MAP_SHARED });
	long locked = fn_map((const long[6]){ 8 });

	(void)a;
	fn_fill((const long[6]){ shared, 8, 1, 0 });
	fn_fill((const long[6]){ locked, 8, 1, 0 });
	/* Not mlock(): under the address sanitizer that does nothing. */
	if (syscall(SYS_mlock, locked, 8 * PUPPET_PAGE))
		return -errno;
	if (ksm_madvise((void *)shared, 8 * PUPPET_PAGE, MADV_MERGEABLE) ||
	    ksm_madvise((void *)locked, 8 * PUPPET_PAGE, MADV_MERGEABLE))
		return -errno;
	return locked;
}

START_TEST(kinds_left_alone)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new();
	long locked, plain;

	daemon_hasten(d);
	locked = puppet_call(p, fn_offer_odd_kinds);
	ck_assert_int_gt(locked, 0);
	plain = puppet_call(p, fn_offer, 8, 1, 0);
	wait_counter(d, "pages_sharing", 7); /* of the plain memory, and of nothing else */
	wait_full_scans(d, 3, WAIT_MS);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), 7);
	ck_assert_int_eq(puppet_pages_on_frames(p, plain, 8), 8);
	ck_assert_int_eq(puppet_pages_on_frames(p, locked, 8), 0);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/*
 * Programs reserve terabytes and use little of them. With the default knobs a pass that walked over
 * these addresses would take hours; here pages in all of it merge, and so does what is written
 * later.
 */
START_TEST(sparse_memory)
{
	static const long pages = 16l << 28; /* 16 TiB */
	struct daemon *d = daemon_start(NULL);
	struct puppet *p[2] = { puppet_new(), puppet_new() };
	long a[2];

	for (int i = 0; i < 2; i++) {
		a[i] = puppet_call(p[i], fn_map, pages, 0,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
		if (a[i] < 0)
			printf("SKIP: no room for 16 TiB of addresses\n");
		for (long k = 0; k < 16 && a[i] > 0; k++)
			puppet_call(p[i], fn_fill, a[i] + pages / 16 * k * PG, 1, 1 + k, 0);
		if (a[i] > 0)
			puppet_call(p[i], fn_madvise, a[i], pages * PG, MADV_MERGEABLE);
	}
	if (a[0] > 0 && a[1] > 0) {
		wait_counter(d, "pages_sharing", 16);
		for (int i = 0; i < 2; i++)
			puppet_call(p[i], fn_fill, a[i] + (pages - 1) * PG, 1, 100, 0);
		wait_counter(d, "pages_sharing", 17);
		puppet_call(p[0], fn_fill, a[0] + pages / 2 * PG, 1, 200, 0);
		wait_counter(d, "pages_sharing", 16);
		ck_assert_int_eq(puppet_call(p[1], fn_munmap, a[1], pages * PG), 0);
		wait_counter(d, "pages_sharing", 0);
	}
	puppet_end(p[0]);
	puppet_end(p[1]);
	daemon_stop(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memory");
	TCase *t = tcase_create("memory");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 120); /* far above any wait within */
	suite_add_tcase(s, t);
	tcase_add_test(t, same_frames);
	tcase_add_test(t, write_is_private);
	tcase_add_test(t, broken_pages_merge_again);
	tcase_add_test(t, dontneed_gives_zeros);
	tcase_add_test(t, munmap_part);
	tcase_add_loop_test(t, mremap_merged, 0, sizeof(moves) / sizeof(moves[0]));
	tcase_add_test(t, moved_and_written);
	tcase_add_test(t, mprotect_merged);
	tcase_add_test(t, protection_is_kept);
	tcase_add_loop_test(t, system_calls_write, 0, IO_NR);
	tcase_add_loop_test(t, system_calls_write_while_merging, 0, IO_NR);
	tcase_add_test(t, threads_write_while_merging);
	tcase_add_test(t, many_odd_regions);
	tcase_add_test(t, kinds_left_alone);
	tcase_add_test(t, sparse_memory);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
