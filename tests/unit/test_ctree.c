/* SPDX-License-Identifier: MIT */
/* test_ctree.c - the red-black tree against a sorted model, invariants after every operation. */
#include <stdlib.h>
#include <string.h>

#include "engine/ctree.h"
#include "fake.h"
#include "suites.h"

#define NR 600
#define SPARE NR /* index used by replace */

struct tree {
	uint64_t key[NR + 1];
	struct ctree_links links[NR + 1];
};

#define CTREE_NAME tt
#define CTREE_CTX struct tree *
#define CTREE_LINKS(t, i) (&(t)->links[i])
#define CTREE_KEY(t, i) ((t)->key[i])
#include "engine/ctree.h"

static void check(struct tree *t, uint32_t root, uint64_t want)
{
	uint64_t nr;

	must(tt_check(t, root, &nr) == 0);
	must(nr == want);
}

START_TEST(random_operations)
{
	static struct tree t;
	bool in[NR] = { false };
	uint32_t root = CTREE_NIL, i, other;
	uint64_t rng = fake_seed(), nr = 0;
	int step, grow = 1;

	/* Keys in disorder, the extremes among them. */
	for (i = 0; i < NR; i++)
		t.key[i] = fake_rand(&rng) | 1;
	t.key[0] = 0;
	t.key[1] = UINT64_MAX;
	for (step = 0; step < 60000; step++) {
		i = (uint32_t)(fake_rand(&rng) % NR);
		if (nr > NR - 5)
			grow = 0;
		if (nr == 0)
			grow = 1;
		if (!in[i] && (grow || fake_rand(&rng) % 3 == 0)) {
			must(tt_insert(&t, &root, i) == CTREE_NIL);
			in[i] = true;
			nr++;
		} else if (in[i] && (!grow || fake_rand(&rng) % 3 == 0)) {
			tt_erase(&t, &root, i);
			in[i] = false;
			nr--;
		} else if (in[i]) {
			/* A second node of the same key is refused, and can take the place. */
			t.key[SPARE] = t.key[i];
			ck_assert_uint_eq(tt_insert(&t, &root, SPARE), i);
			tt_replace(&t, &root, i, SPARE);
			ck_assert_uint_eq(tt_find(&t, root, t.key[i]), SPARE);
			check(&t, root, nr);
			tt_replace(&t, &root, SPARE, i);
		}
		check(&t, root, nr);
		other = (uint32_t)(fake_rand(&rng) % NR);
		must(tt_find(&t, root, t.key[other]) == (in[other] ? other : CTREE_NIL));
		if (in[other])
			must(tt_root_of(&t, other) == root);
	}
}
END_TEST

START_TEST(ordered_insert_and_erase)
{
	static struct tree t;
	uint32_t root = CTREE_NIL, i;
	int dir, out;

	for (dir = 0; dir < 2; dir++)
		for (out = 0; out < 2; out++) {
			for (i = 0; i < NR; i++) {
				t.key[i] = dir ? NR - i : i;
				must(tt_insert(&t, &root, i) == CTREE_NIL);
				check(&t, root, i + 1);
			}
			for (i = 0; i < NR; i++) {
				tt_erase(&t, &root, out ? NR - 1 - i : i);
				check(&t, root, NR - 1 - i);
			}
			ck_assert_uint_eq(root, CTREE_NIL);
		}
}
END_TEST

START_TEST(check_finds_damage)
{
	static struct tree t;
	uint32_t root = CTREE_NIL, i;
	uint64_t nr;

	for (i = 0; i < 64; i++) {
		t.key[i] = i * 2;
		tt_insert(&t, &root, i);
	}
	t.key[17] = 1;
	ck_assert_int_eq(tt_check(&t, root, &nr), -1);
	t.key[17] = 34;
	ck_assert_int_eq(tt_check(&t, root, &nr), 0);
	t.links[root].parent |= CTREE_RED;
	ck_assert_int_eq(tt_check(&t, root, &nr), -1);
}
END_TEST

Suite *suite_ctree(void)
{
	Suite *s = suite_create("ctree");
	TCase *tc = engine_case("ctree");

	tcase_add_test(tc, random_operations);
	tcase_add_test(tc, ordered_insert_and_erase);
	tcase_add_test(tc, check_finds_damage);
	suite_add_tcase(s, tc);
	return s;
}
