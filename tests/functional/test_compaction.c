/* SPDX-License-Identifier: MIT */
/*
 * test_compaction.c - frames are moved together under processes that stand on them and go on.
 *
 * /proc/PID/maps shows how many mappings they need. Every page's contents are checked afterwards.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"

enum { BLOCK = 512 };

/*
 * The oldest client's windows hold few frames each, and it ends: what is left in them is moved
 * together, and the clients need no mapping more.
 */
START_TEST(compaction)
{
	enum { BLOCKS = 6, PART = 100, ALL = BLOCKS * BLOCK };
	struct daemon *d = daemon_start((const char *const[]){ "--topology", "emulated:1", NULL });
	struct puppet *v[3];
	uint64_t before, vmas[3] = { 0 };
	long a[3];

	daemon_hasten(d);
	for (int i = 0; i < 3; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, ALL, 1, 1);
	}
	wait_counter(d, "pages_sharing", 2 * ALL);
	wait_counter(d, "orders", 0);
	for (int i = 0; i < 3; i++)
		for (long k = 0; k < BLOCKS; k++)
			ck_assert_int_eq(puppet_call(v[i], fn_madvise,
						     a[i] + (k * BLOCK + PART) * (long)PUPPET_PAGE,
						     (BLOCK - PART) * PUPPET_PAGE, MADV_DONTNEED),
					 0);
	puppet_end(v[0]);
	wait_counter(d, "pages_sharing", BLOCKS * PART);
	wait_counter(d, "frames_used", BLOCKS * PART);
	for (int i = 1; i < 3; i++)
		vmas[i] = (uint64_t)mapping_count(v[i]->pid, 0);
	before = ctl_get_u64(d, "zone/0/pageblocks");
	ck_assert_uint_ge(before, BLOCKS);
	ck_assert_int_eq(ctl_set(d, _i ? "ksm/compact_memory" : "node/0/compact", "1"), 0);
	wait_until(ctl_get_u64(d, "node/0/compact") == 0, WAIT_MS, "it ends");
	ck_assert_uint_eq(ctl_get_u64(d, "node/0/compact_success"), 1);
	ck_assert_uint_lt(ctl_get_u64(d, "zone/0/pageblocks"), before);
	ck_assert_uint_gt(ctl_get_u64(d, "node/0/isolated"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/isolated"), 0);
	for (int i = 1; i < 3; i++) {
		ck_assert_uint_le(mapping_count(v[i]->pid, 0), vmas[i]);
		for (long k = 0; k < BLOCKS; k++) {
			long at = a[i] + k * BLOCK * (long)PUPPET_PAGE;

			ck_assert_int_eq(puppet_call(v[i], fn_check, at, PART, 1 + k * BLOCK, 1),
					 0);
			ck_assert_int_eq(pages_on_frames(v[i]->pid, at, PART), PART);
		}
	}
	wait_counter(d, "frames_used", BLOCKS * PART);
	puppet_end(v[1]);
	puppet_end(v[2]);
	daemon_stop(d);
}
END_TEST

/* Mappings of frames that lie in [addr, addr + pages). */
static int mappings_in(pid_t pid, long addr, int pages)
{
	unsigned long start = (unsigned long)addr, end = start + (unsigned long)pages * PUPPET_PAGE;
	FILE *f = mapping_open(pid);
	struct mapping m;
	int nr = 0;

	while (mapping_next(f, &m))
		nr += m.arena && m.start < end && m.end > start;
	return nr;
}

/* Two processes with the same contents. Returns the mappings that the second one has for them. */
static int offer_two(struct daemon *d, int pages, long tag, struct puppet *v[2], long a[2])
{
	uint64_t sharing = ctl_get_u64(d, "ksm/pages_sharing");

	for (int i = 0; i < 2; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, pages, tag, 1);
	}
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 1), 0);
	wait_counter(d, "pages_sharing", sharing + (uint64_t)pages);
	wait_counter(d, "orders", 0);
	return mappings_in(v[1]->pid, a[1], pages);
}

/*
 * All pageblocks of the smallest zone hold a few frames in the middle of gaps, so nobody can have
 * one. Whoever wants one has compaction begin, which ends with a free one; who comes then gets it.
 */
START_TEST(direct_compaction)
{
	enum { BLOCKS = 32, STEP = 32, PART = 4, ALL = BLOCKS * BLOCK, NEW = 400 };
	struct daemon *d = daemon_start((const char *const[]){ "--zone-span", "64", NULL });
	struct puppet *v[3], *w[6];
	long a[3], b[6];
	int nr;

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/compaction_proactiveness", 0), 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/extfrag_threshold", 1000), 0); /* never */
	for (int i = 0; i < 3; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, ALL, 1, 1);
	}
	wait_counter(d, "pages_sharing", 2 * ALL);
	wait_counter(d, "orders", 0);
	for (int i = 0; i < 3; i++)
		for (long k = 0; k < ALL; k += STEP)
			ck_assert_int_eq(puppet_call(v[i], fn_madvise,
						     a[i] + (k + PART) * (long)PUPPET_PAGE,
						     (STEP - PART) * PUPPET_PAGE, MADV_DONTNEED),
					 0);
	puppet_end(v[0]);
	wait_counter(d, "pages_sharing", ALL / STEP * PART);
	wait_counter(d, "frames_used", ALL / STEP * PART);
	nr = offer_two(d, NEW, 1 << 20, w, b);
	ck_assert_int_ge(nr, NEW / STEP); /* in the gaps */
	wait_until(ctl_get_u64(d, "node/0/compact_deferred") > 0, WAIT_MS, "compaction is put off");
	ck_assert_uint_eq(ctl_get_u64(d, "node/0/compact_stall"), 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 0), 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/extfrag_threshold", 500), 0);
	offer_two(d, NEW, 1 << 21, w + 2, b + 2);
	wait_until(ctl_get_u64(d, "node/0/compact_success") > 0, WAIT_MS, "a pageblock is free");
	ck_assert_uint_gt(ctl_get_u64(d, "node/0/compact_stall"), 0);
	nr = offer_two(d, NEW, 1 << 22, w + 4, b + 4);
	ck_assert_int_le(nr, 3);
	for (int i = 1; i < 3; i++)
		for (long k = 0; k < ALL; k += STEP)
			ck_assert_int_eq(puppet_call(v[i], fn_check, a[i] + k * (long)PUPPET_PAGE,
						     PART, 1 + k, 1),
					 0);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(puppet_call(w[i], fn_check, b[i], NEW, 1 << (20 + i / 2), 1), 0);
	wait_until(ctl_get_u64(d, "zone/0/isolated") == 0, WAIT_MS, "nothing stays isolated");
	for (int i = 0; i < 6; i++)
		puppet_end(w[i]);
	puppet_end(v[1]);
	puppet_end(v[2]);
	daemon_stop(d);
}
END_TEST

/*
 * Four clients with the same pages, the last two in the opposite order. The first two, whose order
 * the frames have, have gone; v and a are of the others.
 */
static void order_has_gone(struct daemon *d, long pages, struct puppet *v[2], long a[2])
{
	struct puppet *first[2];

	for (int i = 0; i < 4; i++) {
		struct puppet **p = i < 2 ? &first[i] : &v[i - 2];
		long at;

		*p = puppet_new();
		at = puppet_call(*p, fn_offer, pages, i < 2 ? 1 : pages, i < 2 ? 1 : -1);
		if (i >= 2)
			a[i - 2] = at;
		if (i % 2)
			wait_counter(d, "pages_sharing", (uint64_t)(i * pages));
		wait_counter(d, "orders", 0);
	}
	puppet_end(first[0]);
	puppet_end(first[1]);
	wait_counter(d, "pages_sharing", (uint64_t)pages);
}

/*
 * The order of the clients that came first is nobody's any more, and those that are left have the
 * opposite one in common: a mapping for each page. At rest, or when the operator says so, frames
 * are brought next to each other, and mappings join. Meanwhile one of them may write.
 */
START_TEST(gathering)
{
	enum { ALL = 4000, FEW = 16 };
	struct daemon *d = daemon_start(NULL);
	struct puppet *v[2];
	long a[2], before;
	float per_page[2];
	char text[64];

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/compaction_proactiveness", 0), 0);
	order_has_gone(d, ALL, v, a);
	before = mappings_in(v[0]->pid, a[0], ALL);
	ck_assert_int_ge(before, ALL / 2);
	if (_i == 1)
		ck_assert_int_eq(ctl_set(d, "node/0/compact", "1"), 0);
	else
		ck_assert_int_eq(ctl_set_u64(d, "ksm/compaction_proactiveness", 20), 0);
	for (long k = 0; _i == 2 && k < ALL; k += ALL / 10)
		ck_assert_int_eq(puppet_call(v[0], fn_fill, a[0] + k * (long)PUPPET_PAGE, 1,
					     ALL - k, -1),
				 0);
	for (int i = 0; i < 2; i++) {
		wait_until(mappings_in(v[i]->pid, a[i], ALL) <= FEW, WAIT_MS, "mappings join");
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], ALL, ALL, -1), 0);
	}
	wait_until(ctl_get_u64(d, "node/0/gathering") + ctl_get_u64(d, "node/0/compact") == 0,
		   WAIT_MS, "it ends");
	ck_assert_uint_ge(ctl_get_u64(d, "node/0/gathered"), ALL / 2);
	ck_assert_int_gt(ctl_get(d, "node/0/compact_mappings_per_page", text, sizeof(text)), 0);
	ck_assert_int_eq(sscanf(text, "%f %f", &per_page[0], &per_page[1]), 2);
	ck_assert_msg(per_page[1] < per_page[0], "%s", text);
	wait_counter(d, "pages_sharing", ALL);
	wait_counter(d, "frames_used", ALL);
	puppet_end(v[0]);
	puppet_end(v[1]);
	daemon_stop(d);
}
END_TEST

/* What goes on at rest ends with its knob, wherever it is, and begins again with it. */
START_TEST(gathering_ends)
{
	enum { ALL = 8000, FEW = 32 };
	struct daemon *d = daemon_start(NULL);
	struct puppet *v[2];
	long a[2];

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/compaction_proactiveness", 0), 0);
	order_has_gone(d, ALL, v, a);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/compaction_proactiveness", 20), 0);
	wait_until(ctl_get_u64(d, "node/0/gathering") == 1, WAIT_MS, "it begins");
	ck_assert_int_eq(ctl_set_u64(d, "ksm/compaction_proactiveness", 0), 0);
	wait_until(ctl_get_u64(d, "node/0/gathering") == 0, WAIT_MS, "it ends");
	ck_assert_int_gt(mappings_in(v[0]->pid, a[0], ALL), FEW);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/compaction_proactiveness", 20), 0);
	for (int i = 0; i < 2; i++) {
		wait_until(mappings_in(v[i]->pid, a[i], ALL) <= FEW, WAIT_MS, "mappings join");
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], ALL, ALL, -1), 0);
	}
	puppet_end(v[0]);
	puppet_end(v[1]);
	daemon_stop(d);
}
END_TEST

static Suite *compaction_suite(void)
{
	Suite *s = suite_create("compaction");
	TCase *tc = tcase_create("pageblocks");

	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, compaction, 0, 2);
	tcase_add_test(tc, direct_compaction);
	suite_add_tcase(s, tc);
	tc = tcase_create("gathering");
	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, gathering, 0, 3);
	tcase_add_test(tc, gathering_ends);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(compaction_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
