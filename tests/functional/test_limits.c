/* SPDX-License-Identifier: MIT */
/*
 * test_limits.c - large numbers of everything: mappings, clients, address space, repetitions; and a
 * daemon that is killed under load.
 *
 * The tests assert memory and counts, never time: the machine may be slow.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"

static const long PG = PUPPET_PAGE;

static struct daemon *start(void)
{
	struct daemon *d = daemon_start(NULL);

	daemon_hasten(d);
	return d;
}

/* The inode of the arena on whose frames a process has pages. */
static ino_t arena_of(pid_t pid)
{
	FILE *f = mapping_open(pid);
	struct mapping m;
	ino_t inode = 0;

	while (mapping_next(f, &m))
		if (m.arena && !inode)
			inode = m.inode;
	return inode;
}

/* ---- mappings ---- */

enum { SCATTERED = 80000 };

/* (pages, salt): every second page is the same in every process; the others are unique. */
static long fn_offer_scattered(const long a[6])
{
	long addr = fn_map((const long[6]){ a[0] });

	for (long i = 0; i < a[0]; i++)
		*(long *)(addr + i * PG) = i % 2 ? a[1] + i : i + 1;
	return ksm_madvise((void *)addr, (size_t)(a[0] * PG), MADV_MERGEABLE) ? -errno : addr;
}

static long fn_check_scattered(const long a[6])
{
	long bad = 0;

	for (long i = 0; i < a[1]; i++)
		bad += *(long *)(a[0] + i * PG) != (i % 2 ? a[2] + i : i + 1);
	return bad;
}

/* (nr): make `nr` mappings of its own. */
static long fn_use_mappings(const long a[6])
{
	for (long i = 0; i < a[0]; i++) {
		int prot = i % 2 ? PROT_READ : PROT_NONE;

		if (mmap(NULL, PUPPET_PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			return -errno;
	}
	return 0;
}

/* Lock a page. A process that may have pages pinned has none inlaid (inlay.c). */
static long fn_lock(const long a[6])
{
	void *page =
		mmap(NULL, PUPPET_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)a;
	return page == MAP_FAILED || mlock(page, PUPPET_PAGE) ? -errno : 0;
}

static long max_map_count(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	long v = 0;

	if (!f || fscanf(f, "%ld", &v) != 1)
		harness_die("no max_map_count");
	fclose(f);
	return v;
}

/*
 * A client whose equal pages lie scattered may use half of its mappings for them, and no more. It
 * is told why, and has the other half to itself. Seen to fail (53,380 mappings) with budget_limit()
 * a hundred times as high.
 */
START_TEST(mappings_stay_in_budget)
{
	const long max = max_map_count();
	struct puppet *p[2];
	struct daemon *d;
	uint64_t left_out = 0;
	long at[2];

	if (max > SCATTERED) {
		printf("SKIP: vm.max_map_count is %ld, which %d pages do not use up\n", max,
		       SCATTERED);
		return;
	}
	d = start();
	for (int i = 0; i < 2; i++)
		p[i] = puppet_new();
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(puppet_call(p[i], fn_lock), 0);
		at[i] = puppet_call(p[i], fn_offer_scattered, SCATTERED, (i + 1) * 1000000l);
	}
	wait_until(ctl_get_u64(d, "ksm/left_out/vma_budget") > 0, WAIT_MS, "the budget is used up");
	wait_full_scans(d, 3, WAIT_MS);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_gt(mapping_count(p[i]->pid, 0), max / 8);
		/*
		 * Its own mappings, and those that one order may add before they are counted again.
		 */
		ck_assert_int_lt(mapping_count(p[i]->pid, 0), max / 2 + 500);
		left_out += ctl_client_u64(d, p[i]->pid, "left_out/vma_budget");
		ck_assert_int_eq(puppet_call(p[i], fn_use_mappings, max / 2 - 1000), 0);
		ck_assert_int_eq(puppet_call(p[i], fn_check_scattered, at[i], SCATTERED,
					     (i + 1) * 1000000l),
				 0);
	}
	/* One refusal of two equal pages is enough. */
	ck_assert_uint_gt(left_out, 0);
	for (int i = 0; i < 2; i++)
		puppet_end(p[i]);
	wait_counter(d, "frames_used", 0);
	daemon_stop(d);
}
END_TEST

/*
 * With the pages between inlaid, the same clients merge everything, and need a mapping for each
 * stretch of an order. Seen to fail without inlay_end().
 */
START_TEST(scattered_pages_need_few_mappings)
{
	struct puppet *p[2];
	struct daemon *d = start();
	long at[2];

	for (int i = 0; i < 2; i++)
		p[i] = puppet_new();
	for (int i = 0; i < 2; i++)
		at[i] = puppet_call(p[i], fn_offer_scattered, SCATTERED, (i + 1) * 1000000l);
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= SCATTERED / 2 * 95 / 100, WAIT_MS,
		   "nearly all have merged");
	wait_full_scans(d, 3, WAIT_MS);
	for (int i = 0; i < 2; i++) {
		if (max_map_count() < SCATTERED)
			ck_assert_int_lt(mapping_count(p[i]->pid, 0), max_map_count() / 2 + 500);
		ck_assert_int_eq(puppet_call(p[i], fn_check_scattered, at[i], SCATTERED,
					     (i + 1) * 1000000l),
				 0);
	}
	/* Un-merged they are whole again. */
	ck_assert_int_eq(ctl_set(d, "ksm/run", "2"), 0);
	for (int i = 0; i < 2; i++) {
		if (max_map_count() < SCATTERED)
			ck_assert_int_lt(mapping_count(p[i]->pid, 0), 5000);
		ck_assert_int_eq(puppet_call(p[i], fn_check_scattered, at[i], SCATTERED,
					     (i + 1) * 1000000l),
				 0);
		puppet_end(p[i]);
	}
	daemon_stop(d);
}
END_TEST

/* ---- clients ---- */

enum { CLIENTS = 1000, ACTIVE = 200, EACH = 128 };

START_TEST(a_thousand_clients)
{
	static struct puppet *p[CLIENTS];
	static long at[CLIENTS];
	struct rlimit lim;
	struct daemon *d;
	int fds;

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	d = start();
	fds = harness_nr_fds(d->pid);
	for (int i = 0; i < CLIENTS; i++) {
		p[i] = puppet_new();
		at[i] = i < ACTIVE ? puppet_call(p[i], fn_offer, EACH, 1, 1) :
				     puppet_call(p[i], fn_offer, 1, 1000000 + i, 0);
		ck_assert_int_gt(at[i], 0);
	}
	wait_until(ctl_get_u64(d, "ksm/clients") == CLIENTS, WAIT_MS, "everybody is served");
	/* EACH contents; ACTIVE clients show each, which is below max_page_sharing. */
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") == (uint64_t)EACH * (ACTIVE - 1), WAIT_MS,
		   "everything is merged");
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), EACH);
	for (int i = 0; i < ACTIVE; i++)
		ck_assert_int_eq(puppet_call(p[i], fn_check, at[i], EACH, 1, 1), 0);
	/* Half of the clients go at once, and the daemon forgets them. */
	for (int i = 0; i < CLIENTS; i += 2)
		puppet_kill(p[i]);
	wait_until(ctl_get_u64(d, "ksm/clients") == CLIENTS / 2, WAIT_MS, "the dead are forgotten");
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") == (uint64_t)EACH * (ACTIVE / 2 - 1),
		   WAIT_MS, "counters follow");
	for (int i = 1; i < CLIENTS; i += 2)
		puppet_kill(p[i]);
	wait_until(ctl_get_u64(d, "ksm/frames_used") == 0, WAIT_MS, "all frames come back");
	wait_until(harness_nr_fds(d->pid) <= fds, WAIT_MS, "no descriptor is left behind");
	daemon_stop(d);
}
END_TEST

/* ---- address space ---- */

enum { SPARSE_PAGES = 1000 };
#define SPARSE_BYTES (100l << 30)
#define SPARSE_STEP (SPARSE_BYTES / SPARSE_PAGES / 4096 * 4096)

static long fn_offer_sparse(const long a[6])
{
	char *p = mmap(NULL, SPARSE_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)a;
	if (p == MAP_FAILED)
		return -errno;
	for (long i = 0; i < SPARSE_PAGES; i++)
		page_fill(p + i * SPARSE_STEP, (uint64_t)i + 1);
	return ksm_madvise(p, SPARSE_BYTES, MADV_MERGEABLE) ? -errno : (long)p;
}

static long fn_check_sparse(const long a[6])
{
	long bad = 0;

	for (long i = 0; i < SPARSE_PAGES; i++)
		bad += !page_holds((char *)a[0] + i * SPARSE_STEP, (uint64_t)i + 1);
	return bad;
}

/*
 * A region of 100 GiB, of which 4 MiB are there. A word for each page would take 100 MiB, a record
 * 600.
 */
START_TEST(sparse_memory_costs_what_is_there)
{
	struct daemon *d = start();
	struct puppet *p[2];
	long at[2], rss = harness_status(d->pid, "VmRSS"), own[2];

	for (int i = 0; i < 2; i++) {
		p[i] = puppet_new();
		at[i] = puppet_call(p[i], fn_offer_sparse);
		ck_assert_int_gt(at[i], 0);
		own[i] = harness_status(p[i]->pid, "VmRSS") + harness_status(p[i]->pid, "VmPTE");
	}
	wait_counter(d, "pages_sharing", SPARSE_PAGES);
	wait_full_scans(d, 3, WAIT_MS);
	for (int i = 0; i < 2; i++) {
		long now = harness_status(p[i]->pid, "VmRSS") + harness_status(p[i]->pid, "VmPTE");

		ck_assert_int_eq(puppet_call(p[i], fn_check_sparse, at[i]), 0);
		/*
		 * The agent may take its buffers, and a page of frame bits for every 128 MiB at
		 * worst.
		 */
		ck_assert_msg(now - own[i] < 8 << 10, "client: %ld KiB, then %ld", own[i], now);
	}
	ck_assert_msg(harness_status(d->pid, "VmRSS") - rss < 16 << 10, "daemon: %ld KiB, then %ld",
		      rss, harness_status(d->pid, "VmRSS"));
	for (int i = 0; i < 2; i++)
		puppet_end(p[i]);
	wait_counter(d, "frames_used", 0);
	daemon_stop(d);
}
END_TEST

/* ---- repetition ---- */

enum { WARM = 20, ROUNDS = 160, LOOP_PAGES = 256 };

/* One life of some memory, which ends in a different way each time. */
static void one_round(struct daemon *d, struct puppet *p[2], int round)
{
	const long len = LOOP_PAGES * PG;
	long at[2];

	for (int i = 0; i < 2; i++)
		at[i] = puppet_call(p[i], fn_offer, LOOP_PAGES, 1 + round, 1);
	wait_counter(d, "pages_sharing", LOOP_PAGES);
	for (int i = 0; i < 2; i++) {
		if (round % 3 == 0) /* some are written before */
			puppet_call(p[i], fn_fill, at[i], LOOP_PAGES / 4, 5000 + i * 1000, 1);
		if (round % 2)
			ck_assert_int_eq(
				puppet_call(p[i], fn_madvise, at[i], len, MADV_UNMERGEABLE), 0);
		ck_assert_int_eq(puppet_call(p[i], fn_munmap, at[i], len), 0);
	}
	wait_counter(d, "pages_sharing", 0);
	if (round % 10 == 9) /* a grace period takes longer than the rest together */
		wait_counter(d, "frames_used", 0);
}

START_TEST(repetition_leaves_nothing)
{
	struct daemon *d = start();
	struct puppet *p[2] = { puppet_new(), puppet_new() };
	pid_t who[3] = { d->pid, p[0]->pid, p[1]->pid };
	long rss[3], pte[3], maps[3];

	for (int round = 0; round < WARM; round++)
		one_round(d, p, round);
	for (int i = 0; i < 3; i++) {
		rss[i] = harness_status(who[i], "VmRSS");
		pte[i] = harness_status(who[i], "VmPTE");
		maps[i] = mapping_count(who[i], 0);
	}
	for (int round = WARM; round < WARM + ROUNDS; round++)
		one_round(d, p, round);
	for (int i = 0; i < 3; i++) {
		/* Less than 16 bytes for a page that came and went, and no mapping for a round. */
		ck_assert_msg(harness_status(who[i], "VmRSS") - rss[i] <
				      ROUNDS * LOOP_PAGES * 16 / 1024,
			      "process %d: %ld KiB, then %ld", i, rss[i],
			      harness_status(who[i], "VmRSS"));
		ck_assert_int_lt(harness_status(who[i], "VmPTE") - pte[i], 256);
		ck_assert_int_lt(mapping_count(who[i], 0) - maps[i], 10);
	}
	wait_counter(d, "frames_retired", 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), 0);
	puppet_end(p[0]);
	puppet_end(p[1]);
	daemon_stop(d);
}
END_TEST

/* ---- recovery ---- */

enum { LOAD_PUPPETS = 4, LOAD_PAGES = 2000, DIRTY = 100 };

/*
 * (addr, ms): store the same bytes as ever into the first pages all the time, and look at the rest.
 */
static long fn_load(const long a[6])
{
	uint64_t end = harness_now_ms() + (uint64_t)a[1];
	long bad = 0;

	while (harness_now_ms() < end) {
		fn_fill((const long[6]){ a[0], DIRTY, 1, 1 });
		bad += fn_check((const long[6]){ a[0], LOAD_PAGES, 1, 1 });
	}
	return bad;
}

static uint64_t old_mappings(struct puppet *const p[], ino_t ino)
{
	uint64_t nr = 0;

	for (int i = 0; i < LOAD_PUPPETS; i++)
		nr += (uint64_t)mapping_count(p[i]->pid, ino);
	return nr;
}

/*
 * The daemon is killed while every client writes, and starts again while they do. It drops no
 * client, and merges again what was merged. Then no client maps the arena of the first daemon any
 * more, and so its memory is free.
 */
START_TEST(killed_under_load_and_back)
{
	const uint64_t saved = (uint64_t)(LOAD_PAGES - DIRTY) * (LOAD_PUPPETS - 1);
	struct puppet *p[LOAD_PUPPETS];
	struct daemon *d = start();
	long at[LOAD_PUPPETS];
	uint64_t scans;
	ino_t old;

	for (int i = 0; i < LOAD_PUPPETS; i++) {
		p[i] = puppet_new();
		at[i] = puppet_call(p[i], fn_offer, LOAD_PAGES, 1, 1);
	}
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= saved, WAIT_MS, "merged");
	old = arena_of(p[0]->pid);
	ck_assert_uint_ne(old, 0);
	for (int i = 0; i < LOAD_PUPPETS; i++)
		puppet_post(p[i], fn_load, at[i], 3000);
	daemon_kill(d);
	daemon_restart(d, NULL);
	daemon_hasten(d);
	wait_until(ctl_get_u64(d, "ksm/clients") == LOAD_PUPPETS, WAIT_MS, "they are back");
	scans = ctl_get_u64(d, "ksm/full_scans");
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= saved, WAIT_MS, "saved again");
	printf("saved again after %llu passes\n",
	       (unsigned long long)(ctl_get_u64(d, "ksm/full_scans") - scans));
	for (int i = 0; i < LOAD_PUPPETS; i++)
		ck_assert_int_eq(puppet_result(p[i]), 0);
	/* Pages that were written right after their merge once made liars of clients. */
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/protocol_errors"), 0);
	wait_until(old_mappings(p, old) == 0, WAIT_MS, "the first arena is given up");
	for (int i = 0; i < LOAD_PUPPETS; i++)
		ck_assert_int_eq(puppet_call(p[i], fn_check, at[i], LOAD_PAGES, 1, 1), 0);
	for (int i = 0; i < LOAD_PUPPETS; i++)
		puppet_end(p[i]);
	wait_counter(d, "frames_used", 0);
	daemon_stop(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("limits");
	TCase *t = tcase_create("limits");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 250);
	suite_add_tcase(s, t);
	tcase_add_test(t, mappings_stay_in_budget);
	tcase_add_test(t, scattered_pages_need_few_mappings);
	tcase_add_test(t, a_thousand_clients);
	tcase_add_test(t, sparse_memory_costs_what_is_there);
	tcase_add_test(t, repetition_leaves_nothing);
	tcase_add_test(t, killed_under_load_and_back);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
