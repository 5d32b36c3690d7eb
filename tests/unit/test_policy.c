/* SPDX-License-Identifier: MIT */
/* test_policy.c - what each policy wants, from nothing but what it is told. */
#include <string.h>

#include "engine/numa_policy.h"
#include "suites.h"

/* Two sockets with two nodes each: 12 inside of one, 32 between the two. */
static uint8_t sockets[POLICY_NODES][POLICY_NODES] = {
	{ 10, 12, 32, 32 },
	{ 12, 10, 32, 32 },
	{ 32, 32, 10, 12 },
	{ 32, 32, 12, 10 },
};
/* A row of nodes, each near its neighbours alone. */
static uint8_t row[POLICY_NODES][POLICY_NODES] = {
	{ 10, 15, 25, 35 },
	{ 15, 10, 15, 25 },
	{ 25, 15, 10, 15 },
	{ 35, 25, 15, 10 },
};

static struct policy policy(enum policy_kind kind)
{
	return (struct policy){
		.kind = kind, .nr_nodes = 4, .within = 20, .hot = 4, .least = 0, .distance = sockets
	};
}

static const struct policy_room ample = { .copies = 0, .budget = 100 };

static void expect_groups(const struct policy *p, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	uint8_t group[POLICY_NODES], want[4] = { a, b, c, d };

	policy_groups(p, group);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(group[i], want[i]);
}

START_TEST(groups)
{
	struct policy p = policy(POLICY_NODE);

	expect_groups(&p, 0, 1, 2, 3);
	for (int kind = 0; kind < POLICY_NR; kind++) {
		p.kind = (enum policy_kind)kind;
		if (kind != POLICY_NODE && kind != POLICY_DISTANCE)
			expect_groups(&p, 0, 0, 0, 0);
	}
	p.kind = POLICY_DISTANCE;
	expect_groups(&p, 0, 0, 2, 2);
	p.within = 11;
	expect_groups(&p, 0, 1, 2, 3);
	p.within = 32;
	expect_groups(&p, 0, 0, 0, 0);
	/* No two of a group are further apart: 0 and 2 are 25, so 2 begins another. */
	p.distance = row;
	p.within = 15;
	expect_groups(&p, 0, 0, 2, 2);
	p.within = 25;
	expect_groups(&p, 0, 0, 0, 3);
}
END_TEST

/* A distance counts in both directions. */
START_TEST(groups_one_way)
{
	struct policy p = policy(POLICY_DISTANCE);
	uint8_t d[POLICY_NODES][POLICY_NODES];

	memcpy(d, sockets, sizeof(d));
	d[1][0] = 40;
	p.distance = d;
	expect_groups(&p, 0, 1, 2, 2);
}
END_TEST

static void expect_wish(const struct policy *p, const struct policy_frame *f,
			const struct policy_room *room, enum policy_act act, int to)
{
	struct policy_wish w = policy_wish(p, f, room);

	ck_assert_int_eq(w.act, act);
	if (act != POLICY_KEEP)
		ck_assert_int_eq(w.to, to);
}

START_TEST(global_and_node)
{
	struct policy_frame f = { .nid = 0, .sharers = 50, .reader = { 0, 0, 50 } };

	for (int kind = POLICY_GLOBAL; kind <= POLICY_DISTANCE; kind++) {
		struct policy p = policy((enum policy_kind)kind);

		expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	}
}
END_TEST

START_TEST(majority)
{
	struct policy p = policy(POLICY_MAJORITY);
	struct policy_frame f = { .nid = 0, .sharers = 9, .reader = { 4, 5 } };

	/* A quarter more, or it stays. */
	expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	f.reader[1] = 6;
	expect_wish(&p, &f, &ample, POLICY_MOVE, 1);
	/* Where its contents are there already it is given up. */
	f.there[1] = 1;
	f.room = 1u << 1;
	expect_wish(&p, &f, &ample, POLICY_JOIN, 1);
	/* Nobody is known to read it: it stays. */
	f = (struct policy_frame){ .nid = 3, .sharers = 9 };
	expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	/* Of equal ones the one that is nearest to all: 1 has more readers in its socket than 2. */
	f = (struct policy_frame){ .nid = 3, .sharers = 9, .reader = { 2, 3, 3, 0 } };
	expect_wish(&p, &f, &ample, POLICY_MOVE, 1);
}
END_TEST

/* Frames of the same contents on several nodes, which another policy made, become one. */
START_TEST(copies_go)
{
	static const enum policy_kind one[] = { POLICY_GLOBAL, POLICY_MAJORITY, POLICY_INTERLEAVE };
	struct policy p = policy(one[_i]);
	struct policy_frame f = { .nid = 1, .sharers = 3, .reader = { 0, 3 } };

	f.there[0] = 4;
	f.there[2] = 9;
	f.room = 1u << 2 | 1u;
	ck_assert(policy_is_copy(&p, &f));
	expect_wish(&p, &f, &ample, POLICY_JOIN, 0); /* the nearest */
	f.room = 1u << 2;
	expect_wish(&p, &f, &ample, POLICY_JOIN, 2);
	f.room = 0;
	expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	/* Of two alike one stays. */
	f.there[0] = f.there[2] = 0;
	f.there[3] = 3;
	ck_assert(!policy_is_copy(&p, &f));
	f.nid = 3;
	f.there[3] = 0;
	f.there[1] = 3;
	ck_assert(policy_is_copy(&p, &f));
}
END_TEST

START_TEST(interleave)
{
	struct policy p = policy(POLICY_INTERLEAVE);
	uint32_t on[4] = { 0 };

	for (uint64_t i = 0; i < 4000; i++) {
		struct policy_frame f = { .hash = i * 0x9e3779b97f4a7c15ull, .sharers = 4 };
		struct policy_wish w = policy_wish(&p, &f, &ample);

		on[w.act == POLICY_KEEP ? 0 : w.to]++;
		f.sharers = 3;
		expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
		/* Where it lies then it stays. */
		f.sharers = 4;
		f.nid = w.act == POLICY_KEEP ? 0 : w.to;
		expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	}
	for (int i = 0; i < 4; i++)
		ck_assert(on[i] > 900 && on[i] < 1100);
}
END_TEST

START_TEST(replicate)
{
	struct policy p = policy(POLICY_REPLICATE);
	struct policy_frame f = { .nid = 0, .sharers = 6, .reader = { 2, 2, 2 } };
	struct policy_room room = ample;

	/* 2 is further away than 1, so it gains more. */
	expect_wish(&p, &f, &room, POLICY_COPY, 2);
	room.budget = 0;
	expect_wish(&p, &f, &room, POLICY_KEEP, 0);
	/* What is there costs no more. */
	f.there[2] = 1;
	expect_wish(&p, &f, &room, POLICY_COPY, 2);
	room = ample;
	room.pressure = true;
	expect_wish(&p, &f, &room, POLICY_KEEP, 0);
	/* One reader alone gets none, nor a frame with few sharers. */
	f = (struct policy_frame){ .nid = 0, .sharers = 6, .reader = { 5, 0, 1 } };
	expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	f = (struct policy_frame){ .nid = 0, .sharers = 3, .reader = { 1, 2 } };
	expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	/* Nobody reads it where it lies: it follows. */
	f = (struct policy_frame){ .nid = 0, .sharers = 3, .reader = { 0, 2 } };
	expect_wish(&p, &f, &ample, POLICY_MOVE, 1);
}
END_TEST

/*
 * What a copy spares depends on the others that are there. Seen to fail when it is taken to spare
 * the whole way to the frame: then one is wanted on each node of a socket, and neither is later.
 */
START_TEST(replicate_in_sockets)
{
	struct policy p = policy(POLICY_REPLICATE);
	struct policy_frame f = { .nid = 0, .sharers = 8, .reader = { 2, 2, 2, 2 } };
	struct policy_room room = ample;
	struct policy_wish w;
	int to;

	ck_assert_uint_eq(policy_gain(&p, &f, &to), 2 * 22);
	expect_wish(&p, &f, &room, POLICY_COPY, 2);
	f = (struct policy_frame){ .nid = 0, .sharers = 6, .reader = { 2, 2, 0, 2 } };
	f.there[2] = 2;
	f.room = 1u << 2;
	ck_assert_uint_eq(policy_gain(&p, &f, &to), 2 * 2);
	/* None for node 3 is worth the memory. */
	p.least = 3;
	w = policy_wish(&p, &f, &room);
	ck_assert(w.act == POLICY_COPY && w.to == 2 && w.of == 3);
	p.least = 0;
	room.budget = room.copies;
	w = policy_wish(&p, &f, &room);
	ck_assert(w.act == POLICY_COPY && w.to == 2 && w.of == 3);
	/* It has no room for them. */
	f.room = 0;
	expect_wish(&p, &f, &room, POLICY_KEEP, 0);
	f.room = 1u << 2;
	room.pressure = true;
	expect_wish(&p, &f, &room, POLICY_KEEP, 0);
}
END_TEST

START_TEST(replicate_drops)
{
	struct policy p = policy(POLICY_REPLICATE);
	struct policy_frame f = { .nid = 2, .sharers = 2, .reader = { 0, 0, 2 }, .room = 1u };
	struct policy_room room = ample;

	f.there[0] = 4;
	expect_wish(&p, &f, &room, POLICY_KEEP, 0);
	room.pressure = true;
	expect_wish(&p, &f, &room, POLICY_JOIN, 0);
	room = (struct policy_room){ .copies = 11, .budget = 10 };
	expect_wish(&p, &f, &room, POLICY_JOIN, 0);
	room.copies = 10;
	expect_wish(&p, &f, &room, POLICY_KEEP, 0);
	/* It gains 44, class 5: below half of what is wanted it goes. */
	p.least = 6;
	expect_wish(&p, &f, &ample, POLICY_KEEP, 0);
	p.least = 7;
	expect_wish(&p, &f, &ample, POLICY_JOIN, 0);
	/* Its readers have left. */
	p.least = 0;
	f.reader[2] = 0;
	expect_wish(&p, &f, &ample, POLICY_JOIN, 0);
	/* Others are near: it follows them. */
	f.reader[3] = 2;
	expect_wish(&p, &f, &ample, POLICY_MOVE, 3);
}
END_TEST

START_TEST(gains)
{
	struct policy p = policy(POLICY_REPLICATE);
	struct policy_frame f = { .nid = 0, .sharers = 9, .reader = { 1, 5, 3 } };
	uint64_t nr[POLICY_GAINS] = { 0 };
	int to;

	ck_assert_uint_eq(policy_gain(&p, &f, &to), 3 * 22);
	ck_assert_int_eq(to, 2);
	f.there[2] = 10; /* and so it is a copy: what would be lost without it */
	ck_assert_uint_eq(policy_gain(&p, &f, &to), 1 * 22 + 5 * 20);
	ck_assert_int_eq(to, 0);
	for (uint64_t i = 0; i < 40; i++)
		ck_assert_uint_eq(policy_gain_class(i < 32 ? 1ull << i : UINT64_MAX),
				  i < 31 ? i : POLICY_GAINS - 1);
	ck_assert_uint_eq(policy_gain_class(0), 0);
	nr[3] = 10;
	nr[5] = 10;
	nr[9] = 10;
	ck_assert_uint_eq(policy_least(nr, 0), POLICY_GAINS);
	ck_assert_uint_eq(policy_least(nr, 5), 9);
	ck_assert_uint_eq(policy_least(nr, 10), 9);
	ck_assert_uint_eq(policy_least(nr, 11), 5);
	ck_assert_uint_eq(policy_least(nr, 25), 3);
	ck_assert_uint_eq(policy_least(nr, 31), 0);
}
END_TEST

/* Whatever is told, a wish names another node, and nothing is joined that is not there. */
START_TEST(any_frame)
{
	uint64_t rnd = 88172645463325252ull;

	for (int i = 0; i < 200000; i++) {
		struct policy p = policy((enum policy_kind)(i % POLICY_NR));
		struct policy_frame f = { 0 };
		struct policy_room room;
		struct policy_wish w;

		for (int n = 0; n < 4; n++) {
			rnd ^= rnd << 13;
			rnd ^= rnd >> 7;
			rnd ^= rnd << 17;
			f.reader[n] = rnd & 7;
			f.there[n] = (rnd >> 3 & 1) * (rnd >> 4 & 7);
		}
		f.nid = (int)(rnd >> 10 & 3);
		f.there[f.nid] = 0;
		f.hash = rnd;
		f.sharers = f.reader[0] + f.reader[1] + f.reader[2] + f.reader[3] + (rnd >> 12 & 3);
		for (int n = 0; n < 4; n++)
			f.room |= (uint64_t)(f.there[n] && (rnd >> (14 + n) & 1)) << n;
		p.least = rnd >> 18 & 7;
		room = (struct policy_room){ rnd >> 21 & 3, rnd >> 23 & 3, rnd >> 25 & 1 };
		w = policy_wish(&p, &f, &room);
		if (w.act == POLICY_KEEP)
			continue;
		ck_assert_int_ge(w.to, 0);
		ck_assert_int_lt(w.to, 4);
		ck_assert_int_ne(w.to, f.nid);
		if (w.act == POLICY_JOIN)
			ck_assert(f.room >> w.to & 1);
		if (w.act == POLICY_COPY)
			ck_assert_int_eq(p.kind, POLICY_REPLICATE);
	}
}
END_TEST

Suite *suite_policy(void)
{
	Suite *s = suite_create("policy");
	TCase *tc = tcase_create("policy");

	tcase_add_test(tc, groups);
	tcase_add_test(tc, groups_one_way);
	tcase_add_test(tc, global_and_node);
	tcase_add_test(tc, majority);
	tcase_add_loop_test(tc, copies_go, 0, 3);
	tcase_add_test(tc, interleave);
	tcase_add_test(tc, replicate);
	tcase_add_test(tc, replicate_in_sockets);
	tcase_add_test(tc, replicate_drops);
	tcase_add_test(tc, gains);
	tcase_add_test(tc, any_frame);
	suite_add_tcase(s, tc);
	return s;
}
