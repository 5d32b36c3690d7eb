/* SPDX-License-Identifier: MIT */
/* test_memory.c - what it costs to track a page. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/core.h"
#include "fake.h"
#include "suites.h"

#define BASE 0x7f0000000000ull

/* Budget: 24 bytes per tracked page that is not merged, everything included. */
START_TEST(bytes_per_unmerged_page)
{
	enum { N = 65536 };
	struct fake *w = fake_new(1, N, 0);
	struct fake_client *a = fake_client(w, BASE, N);
	struct engine_counters n;
	uint64_t empty;

	/*
	 * The engine's own size does not grow with memory. The first pass that reads nothing frees
	 * the buffers.
	 */
	empty = fake_counters(w).metadata_bytes;
	fake_fill_unique(a, 0, N, 1);
	fake_passes(w, 2);
	n = fake_counters(w);
	ck_assert_uint_eq(n.pages_unshared, N);
	printf("bytes per tracked page: %.2f\n", (double)(n.metadata_bytes - empty) / N);
	ck_assert_uint_le(n.metadata_bytes - empty, 24ull * N);
	/* All of it comes back. */
	fake_del(a, 0, N);
	ck_assert_uint_le(fake_counters(w).metadata_bytes, empty + 16384);
	fake_free(w);
}
END_TEST

START_TEST(sizes)
{
	ck_assert_uint_eq(sizeof(struct rmap_item), 20);
	ck_assert_uint_le(sizeof(struct rmap_block), 1488);
	ck_assert_uint_le(sizeof(struct stable_node), 72);
}
END_TEST

Suite *suite_memory(void)
{
	Suite *s = suite_create("memory");
	TCase *tc = engine_case("memory");

	tcase_add_test(tc, sizes);
	tcase_add_test(tc, bytes_per_unmerged_page);
	suite_add_tcase(s, tc);
	return s;
}
