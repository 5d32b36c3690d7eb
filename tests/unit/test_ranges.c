/* SPDX-License-Identifier: MIT */
/*
 * test_ranges.c - the client's table of ranges, against an array with an entry for each page.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "client/as_names.h"
#include "client/as_ranges.h"
#include "suites.h"

enum { PAGES = 40000, STEPS = 60000, CHECK_EVERY = 997, KINDS = 5, LEAF = 170 };
#define BASE (1ull << 40)

/* Check's own assertions cost a system call each. */
#define must(x) ((x) ? (void)0 : ck_abort_msg("%s", #x))

/* What is known of each page: 0: nothing, else a number that every attribute follows from. */
static uint8_t model[PAGES];

static uint64_t addr(unsigned int page)
{
	return BASE + page * KSM_PAGE_SIZE;
}

static bool is(const struct as_range *r, uint8_t kind)
{
	return r->prot == kind % 3 && r->flags == kind && r->left_out == 0;
}

static void change(struct as_range *r, long kind)
{
	r->flags = (uint16_t)kind;
	r->prot = (uint8_t)(kind % 3);
}

/*
 * A leaf is a page of ranges. Two neighbours have more than half a leaf's together: otherwise the
 * table would need more of them than as_reserve() reckons with.
 */
static void check_leaves(void) UNCHECKED_LOCKING
{
	const struct as_range *r = as_first(0);
	uintptr_t leaf = 0;
	size_t before = PAGES, nr = PAGES, leaves = 0;

	for (; r; r = as_next(r), nr++) {
		if (page_down((uintptr_t)r) == leaf)
			continue;
		must(before + nr > (LEAF / 2));
		before = nr;
		nr = 0;
		leaf = page_down((uintptr_t)r);
		leaves++;
	}
	must(before + nr > (leaves > 1 ? LEAF / 2 : 0));
	must(as.ranges.nr == leaves);
}

/* The table says what the model says, in as few ranges as can be. */
static void check_all(void) UNCHECKED_LOCKING
{
	const struct as_range *r = as_first(0);
	size_t nr = 0;

	for (unsigned int from = 0, to; from < PAGES; from = to) {
		for (to = from + 1; to < PAGES && model[to] == model[from]; to++)
			;
		if (!model[from]) {
			must(!as_knows(addr(from), addr(to)));
			must(as_range_at(addr(to) - 1) == NULL);
			continue;
		}
		must(r);
		must(r->start == addr(from));
		must(r->end == addr(to));
		must(is(r, model[from]));
		must(as_range_at(addr(to) - 1) == r);
		must(as_covers(addr(from), addr(to)));
		r = as_next(r);
		nr++;
	}
	must(r == NULL);
	must(as.nr == nr);
	check_leaves();
}

static void step(unsigned int op, unsigned int from, unsigned int to,
		 uint8_t kind) UNCHECKED_LOCKING
{
	int err = 0;

	switch (op) {
	case 0:
		err = as_set(addr(from), addr(to), kind % 3, kind, 0);
		break;
	case 1:
		err = as_fill(addr(from), addr(to), kind % 3, kind, 0);
		break;
	case 2:
		err = as_edit(addr(from), addr(to), change, kind);
		break;
	default:
		as_clear(addr(from), addr(to));
	}
	must(err == 0);
	for (; from < to; from++)
		if (op == 0 || (op == 1 && !model[from]) || (op == 2 && model[from]))
			model[from] = kind;
		else if (op > 2)
			model[from] = 0;
}

/*
 * Small edits make thousands of ranges, large ones throw most of them away again, and then single
 * pages go until few are left. Seen to fail without each of the calls of join_leaves(), and with a
 * leaf that is not dropped when it is empty.
 */
START_TEST(random_edits)
{
	unsigned int seed = (unsigned int)clock_ns();
	size_t most = 0;

	printf("ranges: seed %u\n", seed);
	ck_assert_int_eq(as_ranges_init(), 0);
	for (unsigned int i = 0; i < STEPS; i++) {
		bool large = i / 8192 % 2 && rand_r(&seed) % 512 == 0;
		unsigned int from = (unsigned int)rand_r(&seed) % PAGES;
		unsigned int len = 1 + (unsigned int)rand_r(&seed) % (large ? PAGES : 4);
		unsigned int to = from + len < PAGES ? from + len : PAGES;

		step((unsigned int)rand_r(&seed) % 4, from, to,
		     (uint8_t)(1 + rand_r(&seed) % KINDS));
		most = as.nr > most ? as.nr : most;
		if (i % CHECK_EVERY == 0)
			check_all();
	}
	check_all();
	ck_assert_uint_gt(most, 3000);
	/* Leaves get thinner everywhere. */
	for (unsigned int i = 0; i < PAGES; i++)
		step(0, i, i + 1, 1 + i % KINDS);
	for (unsigned int i = 0; as.nr > 2000; i++) {
		unsigned int page = (unsigned int)rand_r(&seed) % PAGES;

		step(3, page, page + 1, 0);
		if (i % CHECK_EVERY == 0)
			check_leaves();
	}
	check_all();
	step(3, 0, PAGES, 0);
	check_all();
	ck_assert_uint_eq(as.ranges.nr, 0);
}
END_TEST

static int reserve(size_t nr) UNCHECKED_LOCKING
{
	return as_reserve(nr);
}

/* What as_reserve() has made room for never grows the table. */
START_TEST(reserved)
{
	enum { NR = 20000 };
	uint32_t cap;

	ck_assert_int_eq(as_ranges_init(), 0);
	ck_assert_int_eq(reserve(NR), 0);
	cap = as.ranges.cap;
	for (unsigned int i = 0; i < NR; i++) /* from both ends to the middle */
		step(0, i % 2 ? PAGES - 1 - i : i, i % 2 ? PAGES - i : i + 1, 1 + i % KINDS);
	ck_assert_uint_eq(as.ranges.cap, cap);
	check_all();
}
END_TEST

static uint8_t named_at(unsigned int page) UNCHECKED_LOCKING
{
	const struct as_range *r = as_range_at(addr(page));

	return r ? r->name : 0;
}

/* Give page `page` the n-th of many names. */
static void give_name(unsigned int page, unsigned int n) UNCHECKED_LOCKING
{
	char name[AS_NAME_SIZE];

	snprintf(name, sizeof(name), "n%u", n);
	as_name_set(addr(page), addr(page + 1), name);
}

/* Ranges keep names as they keep everything else, and a number that no range has is used again. */
START_TEST(names)
{
	char longest[AS_NAME_SIZE + 8];
	uint8_t first;

	ck_assert_int_eq(as_ranges_init(), 0);
	step(0, 0, 1000, 1);
	as_name_set(addr(10), addr(20), "a name");
	first = named_at(10);
	ck_assert_uint_ne(first, 0);
	ck_assert_uint_eq(named_at(19), first);
	ck_assert_uint_eq(named_at(9) | named_at(20), 0);
	as_name_learn(addr(30), addr(40), "[anon:a name]");
	ck_assert_uint_eq(named_at(30), first);
	as_name_learn(addr(40), addr(50), "[heap]");
	ck_assert_uint_eq(named_at(40), 0);
	as_put(addr(50), addr(51), *as_range_at(addr(10)));
	ck_assert_uint_eq(named_at(50), first);
	as_name_set(addr(0), addr(1000), NULL);
	ck_assert_uint_eq(named_at(10), 0);
	ck_assert_uint_eq(as.nr, 1);

	memset(longest, 'x', sizeof(longest));
	memcpy(longest, "[anon:", 6);
	strcpy(longest + 6 + AS_NAME_SIZE - 1, "]");
	as_name_learn(addr(0), addr(1), longest);
	ck_assert_uint_eq(strlen(as.name[named_at(0) - 1]), AS_NAME_SIZE - 1);

	for (unsigned int i = 1; i <= AS_NAMES; i++)
		give_name(i, i);
	ck_assert_uint_eq(named_at(AS_NAMES), AS_NAMELESS); /* the longest has a range, too */
	as_name_set(addr(5), addr(6), NULL);
	give_name(AS_NAMES, AS_NAMES);
	ck_assert_uint_ne(named_at(AS_NAMES), AS_NAMELESS);
	ck_assert_str_eq(as.name[named_at(AS_NAMES) - 1], "n254");
	ck_assert_str_eq(as.name[named_at(6) - 1], "n6");
}
END_TEST

Suite *suite_ranges(void)
{
	Suite *s = suite_create("ranges");
	TCase *tc = tcase_create("ranges");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, random_edits);
	tcase_add_test(tc, reserved);
	tcase_add_test(tc, names);
	suite_add_tcase(s, tc);
	return s;
}
