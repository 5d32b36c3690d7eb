/* SPDX-License-Identifier: MIT */
/*
 * test_ksm_behaviour.c - the counters, step by step, as processes write, merge, part and end.
 *
 * The Linux Test Project checks the kernel's KSM this way in its tests ksm01 to ksm07. These tests
 * look at the same behaviours, each in words of our own (docs/compatibility.md says which is
 * which). A step is a set of stores by the processes, some passes, and a look at all counters that
 * say how pages stand; each step ends with the contents, page by page.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/memgroup.h"
#include "tests/lib/puppet.h"

#define PG ((long)PUPPET_PAGE)
#define PAGES 128    /* of each process on each node */
#define GROUPS_MAX 3 /* groups of processes */
#define MEMBERS 2    /* processes of a group */
#define NODES_MAX 2
#define STRIPE (2l << 20) /* an emulated machine has its nodes in turn, in steps of so much */
#define CONTENTS 64

/* A process. All its pages hold `content`, except the last of each node where `odd` is not 0. */
struct member {
	struct puppet *p;
	long at;
	long content, odd;
};

struct scene {
	struct daemon *d;
	struct member m[GROUPS_MAX * MEMBERS];
	int nr, nodes;
	bool across; /* merge_across_nodes */
	int left;    /* contents of which the last page has stayed on its frame; 0: none */
};

/* (nodes): so many stretches of memory, one on each node, offered. */
static long fn_offer_on_nodes(const long a[6])
{
	size_t len = (size_t)(STRIPE * a[0]);
	char *p = mmap(NULL, len + STRIPE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	long at = ((long)p + STRIPE - 1) & -STRIPE;

	if (p == MAP_FAILED || madvise((void *)at, len, MADV_NOHUGEPAGE))
		return -1;
	return ksm_madvise((void *)at, len, MADV_MERGEABLE) ? -1 : at;
}

/* ---- a step ---- */

static void set(const struct scene *s, int i, long content, long odd)
{
	struct member *m = (struct member *)&s->m[i];

	for (int n = 0; n < s->nodes; n++) {
		long at = m->at + n * STRIPE;

		ck_assert_int_eq(puppet_call(m->p, fn_fill, at, PAGES - !!odd, content, 0), 0);
		if (odd)
			puppet_call(m->p, fn_fill, at + (PAGES - 1) * PG, 1, odd, 0);
	}
	m->content = content;
	m->odd = odd;
}

struct counts {
	uint64_t shared, sharing, unshared;
};

/* What the members hold comes to, with no limit to the sharers of a frame. */
static struct counts expect(const struct scene *s)
{
	uint64_t nr[CONTENTS] = { 0 }, domains = s->across ? 1 : (uint64_t)s->nodes;
	struct counts c = { 0 };

	for (int i = 0; i < s->nr; i++) {
		const struct member *m = &s->m[i];
		uint64_t each = s->across ? (uint64_t)s->nodes : 1;

		nr[m->content] += each * (uint64_t)(PAGES - !!m->odd);
		nr[m->odd] += each;
	}
	for (int i = 1; i < CONTENTS; i++) {
		c.shared += nr[i] > 1 ? domains : 0;
		c.sharing += nr[i] > 1 ? domains * (nr[i] - 1) : 0;
		c.unshared += nr[i] == 1 && i != s->left ? domains : 0;
		c.shared += nr[i] == 1 && i == s->left ? domains : 0;
	}
	return c;
}

static bool stand(const struct scene *s, const struct counts *c)
{
	return ctl_get_u64(s->d, "ksm/pages_shared") == c->shared &&
	       ctl_get_u64(s->d, "ksm/pages_sharing") == c->sharing &&
	       ctl_get_u64(s->d, "ksm/pages_unshared") == c->unshared &&
	       ctl_get_u64(s->d, "ksm/pages_volatile") == 0;
}

static void check_contents(const struct scene *s)
{
	for (int i = 0; i < s->nr * s->nodes; i++) {
		const struct member *m = &s->m[i / s->nodes];
		long at = m->at + i % s->nodes * STRIPE;

		ck_assert_int_eq(puppet_call(m->p, fn_check, at, PAGES - !!m->odd, m->content, 0),
				 0);
		if (m->odd)
			ck_assert_int_eq(puppet_call(m->p, fn_check, at + (PAGES - 1) * PG, 1,
						     m->odd, 0),
					 0);
	}
}

/* Wait until the counters say what the members hold, and see that it stays so. */
static void step(const struct scene *s, const char *what)
{
	struct counts c = expect(s);

	wait_until(stand(s, &c), WAIT_MS, what);
	wait_full_scans(s->d, 2, WAIT_MS);
	ck_assert_msg(stand(s, &c), "%s: it did not stay", what);
	check_contents(s);
}

/* ---- a scene ---- */

static void begin(struct scene *s, int groups, int nodes, bool across, const struct memgroup *g)
{
	char topology[32];
	const char *const args[] = { "--topology", topology, NULL };

	snprintf(topology, sizeof(topology), "emulated:%d", nodes);
	*s = (struct scene){ .d = daemon_start(args), .nodes = nodes, .across = across };
	daemon_hasten(s->d);
	/* The counters are to say where pages stand, not how long written ones are left alone. */
	ck_assert_int_eq(ctl_set(s->d, "ksm/smart_scan", "0"), 0);
	ck_assert_int_eq(ctl_set(s->d, "ksm/max_page_sharing", "1000000"), 0);
	ck_assert_int_eq(ctl_set_u64(s->d, "ksm/merge_across_nodes", across), 0);
	for (; s->nr < groups * MEMBERS; s->nr++) {
		struct member *m = &s->m[s->nr];

		m->p = puppet_new();
		if (g)
			memgroup_enter(g, m->p->pid);
		m->at = puppet_call(m->p, fn_offer_on_nodes, nodes);
		ck_assert_int_gt(m->at, 0);
		set(s, s->nr, 1, 0);
	}
}

static void end(struct scene *s)
{
	while (s->nr)
		puppet_end(s->m[--s->nr].p);
	wait_counter(s->d, "pages_shared", 0);
	wait_counter(s->d, "pages_unshared", 0);
	daemon_stop(s->d);
}

/* All the steps, with `groups` groups of processes. */
static void play(struct scene *s, int groups)
{
	step(s, "all equal");
	for (int i = 0; i < s->nr; i++)
		set(s, i, 1 + i / MEMBERS, 0);
	step(s, "each group has contents of its own");
	set(s, 0, 10, 0);
	set(s, 1, 10, 0);
	step(s, "a group has other contents");
	for (int i = 0; i < s->nr; i++)
		set(s, i, groups + 1, 0);
	step(s, "all equal again");
	set(s, 0, groups + 1, 20);
	step(s, "one page that no other equals");
	set(s, s->nr - 1, groups + 1, 20);
	step(s, "it has found its like");
	/* The other one stays on the frame alone, as in the kernel, when there is one for each. */
	set(s, 0, groups + 1, 21);
	s->left = s->across && s->nodes > 1 ? 0 : 20;
	step(s, "and lost it");
	s->left = 0;
	for (int i = 0; i < s->nr; i++)
		set(s, i, 1 + i, 0);
	step(s, "each process has contents of its own");
	/* Everything private again, and once more. */
	ck_assert_int_eq(ctl_set(s->d, "ksm/run", "2"), 0);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/pages_shared"), 0);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/pages_sharing"), 0);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/pages_unshared"), 0);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/full_scans"), 0);
	check_contents(s);
	ck_assert_int_eq(ctl_set(s->d, "ksm/run", "1"), 0);
	step(s, "merged after run 2");
	puppet_kill(s->m[--s->nr].p);
	step(s, "a process was killed");
}

/* As ksm01: 1, 2 and 3 groups. */
START_TEST(steps_of_groups)
{
	struct scene s;

	begin(&s, _i, 1, true, NULL);
	play(&s, _i);
	end(&s);
}
END_TEST

/* As ksm02 and ksm06: pages of two nodes, which merge with each other or do not. */
START_TEST(steps_on_nodes)
{
	struct scene s;

	begin(&s, 1 + _i / 2, NODES_MAX, _i % 2, NULL);
	play(&s, 1 + _i / 2);
	end(&s);
}
END_TEST

/* As ksm03 and ksm04: the processes are in a memory cgroup with a limit, on one node or two. */
START_TEST(steps_in_a_memory_cgroup)
{
	int nodes = 1 + _i;
	struct memgroup g;
	struct scene s;

	if (!memgroup_make(&g))
		return;
	memgroup_limit(&g, 64ull << 20);
	begin(&s, 2, nodes, true, &g);
	play(&s, 2);
	end(&s);
	memgroup_remove(&g);
}
END_TEST

/* As ksm05: a process ends, in whatever way, while its memory is just being merged. */
START_TEST(processes_end_while_merging)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *stays = puppet_new();
	long at;

	daemon_hasten(d);
	at = puppet_call(stays, fn_offer, 2048, 1, 1);
	for (int i = 0; i < 10; i++) {
		struct puppet *p = puppet_new();
		uint64_t merged = ctl_get_u64(d, "ksm/pages_merged");

		ck_assert_int_gt(puppet_call(p, fn_offer, 2048, 1, 1), 0);
		wait_until(ctl_get_u64(d, "ksm/pages_merged") > merged, WAIT_MS, "merging begins");
		if (i % 2)
			puppet_kill(p);
		else
			puppet_end(p);
	}
	wait_until(ctl_get_u64(d, "ksm/clients") == 1, WAIT_MS, "one is left");
	wait_full_scans(d, 2, WAIT_MS);
	ck_assert_int_eq(puppet_call(stays, fn_check, at, 2048, 1, 1), 0);
	puppet_end(stays);
	daemon_stop(d);
}
END_TEST

/* Write all pages again and again, a pass after each time, and then leave them alone for some. */
static int unrest(struct daemon *d, struct puppet *p, long at, int content)
{
	for (int i = 0; i < 4; i++) {
		content += PAGES;
		ck_assert_int_eq(puppet_call(p, fn_fill, at, PAGES, content, 1), 0);
		wait_full_scans(d, 1, WAIT_MS);
	}
	wait_full_scans(d, 4, WAIT_MS);
	return content;
}

/* As ksm07: pages_skipped grows with smart_scan, and without it does not. */
START_TEST(skipped_pages)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new();
	long at = puppet_call(p, fn_offer, PAGES, 1, 1);
	uint64_t skipped;
	int content = 1000;

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set(d, "ksm/smart_scan", "1"), 0);
	wait_until((content = unrest(d, p, at, content), ctl_get_u64(d, "ksm/pages_skipped") > 0),
		   WAIT_MS, "pages that kept changing are passed over");
	ck_assert_int_eq(ctl_set(d, "ksm/smart_scan", "0"), 0);
	wait_full_scans(d, 2, WAIT_MS);
	skipped = ctl_get_u64(d, "ksm/pages_skipped");
	for (int i = 0; i < 3; i++)
		content = unrest(d, p, at, content);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_skipped"), skipped);
	ck_assert_int_eq(puppet_call(p, fn_check, at, PAGES, content, 1), 0);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/*
 * A child that inherits PR_SET_MEMORY_MERGE is connected when it has mapped something
 * (mailbox_hasten()).
 */
START_TEST(inherited_wish_needs_no_word)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *child;
	char path[64], uid[64];

	ck_assert_int_eq(puppet_call(p, fn_merge_any, 1), 0);
	wait_until(puppet_call(p, fn_connected), WAIT_MS, "the parent is connected");
	child = puppet_fork(p);
	snprintf(path, sizeof(path), "client/%d/uid", child->pid);
	ck_assert_int_gt(puppet_call(child, fn_ksm_map, PAGES), 0);
	ck_assert_int_gt(ctl_get(d, path, uid, sizeof(uid)), 0);
	puppet_end(child);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ksm_behaviour");
	TCase *t = tcase_create("ksm_behaviour");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, steps_of_groups, 1, GROUPS_MAX + 1);
	tcase_add_loop_test(t, steps_on_nodes, 0, 4);
	tcase_add_loop_test(t, steps_in_a_memory_cgroup, 0, NODES_MAX);
	tcase_add_test(t, processes_end_while_merging);
	tcase_add_test(t, skipped_pages);
	tcase_add_test(t, inherited_wish_needs_no_word);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
