/* SPDX-License-Identifier: MIT */
/* test_zone.c - a zone: which extent frames come from, and which one is reserved next. */
#include "pool/zone.h"
#include "fake.h"
#include "suites.h"

/* Take any free frame. */
static uint32_t take_any(struct zone *z)
{
	uint32_t f = zone_any_free(z);

	if (f != POOL_NONE)
		ck_assert_int_eq(zone_take(z, f), 0);
	return f;
}

static void check(const struct zone *z, uint64_t wanted)
{
	uint64_t used = 0;

	ck_assert_int_eq(zone_check(z, &used), 0);
	ck_assert_uint_eq(used, wanted);
}

START_TEST(scattered_frames_fill_one_extent)
{
	struct zone z;

	ck_assert_int_eq(zone_init(&z, 2, 3 * EXTENT_FRAMES), 0);
	ck_assert_uint_eq(zone_extent_reserve(&z), 0);
	/* Asked for by number: the zone prefers an unreserved extent to an absent one. */
	ck_assert_int_eq(zone_take(&z, 2 * EXTENT_FRAMES + 1), 0);
	ck_assert_uint_eq(take_any(&z), 2 * EXTENT_FRAMES);
	ck_assert_uint_eq(take_any(&z), 2 * EXTENT_FRAMES + 2);
	ck_assert_uint_eq(z.fill, 2);
	check(&z, 3);
	/* Its last frame goes, and it is no longer the one to fill. */
	for (uint32_t f = 0; f < 3; f++)
		zone_give(&z, 2 * EXTENT_FRAMES + f);
	ck_assert_uint_eq(z.fill, POOL_NONE);
	ck_assert_uint_eq(z.nr_ext, 1);
	ck_assert_uint_eq(take_any(&z), EXTENT_FRAMES); /* absent, not reserved */
	check(&z, 1);
	zone_deinit(&z);
}
END_TEST

START_TEST(reserved_extents_come_last)
{
	struct zone z;

	ck_assert_int_eq(zone_init(&z, 0, EXTENT_FRAMES + 3), 0);
	ck_assert_uint_eq(zone_extent_reserve(&z), 0);
	for (uint32_t f = 0; f < 3; f++)
		ck_assert_uint_eq(take_any(&z), EXTENT_FRAMES + f); /* the short one */
	ck_assert_uint_eq(take_any(&z), 0);
	ck_assert_uint_eq(take_any(&z), 1);
	zone_give(&z, EXTENT_FRAMES + 1);
	ck_assert_uint_eq(take_any(&z), EXTENT_FRAMES + 1); /* as soon as there is a choice */
	check(&z, 5);
	for (uint32_t n = 5; n < EXTENT_FRAMES + 3; n++)
		must(take_any(&z) != POOL_NONE);
	ck_assert_uint_eq(take_any(&z), POOL_NONE);
	check(&z, EXTENT_FRAMES + 3);
	zone_deinit(&z);
}
END_TEST

START_TEST(extents_are_reserved_in_turn)
{
	struct zone z;

	ck_assert_int_eq(zone_init(&z, 0, 3 * EXTENT_FRAMES), 0);
	ck_assert_uint_eq(zone_extent_reserve(&z), 0);
	zone_extent_release(&z, 0);
	ck_assert_uint_eq(zone_extent_reserve(&z), EXTENT_FRAMES); /* not the one just released */
	ck_assert_uint_eq(take_any(&z), 0);
	ck_assert_uint_eq(zone_extent_reserve(&z), 2 * EXTENT_FRAMES);
	ck_assert_uint_eq(zone_extent_reserve(&z), POOL_NONE); /* 0 is being filled */
	/* Released while a frame is used, an extent is there for everybody, and goes with it. */
	ck_assert_int_eq(zone_take(&z, EXTENT_FRAMES + 9), 0);
	zone_extent_release(&z, EXTENT_FRAMES);
	ck_assert_uint_eq(z.nr_ext, 3);
	check(&z, 2);
	zone_give(&z, EXTENT_FRAMES + 9);
	ck_assert_uint_eq(z.nr_ext, 2);
	ck_assert_uint_eq(zone_extent_reserve(&z), EXTENT_FRAMES);
	check(&z, 1);
	zone_deinit(&z);
}
END_TEST

Suite *suite_zone(void)
{
	Suite *s = suite_create("zone");
	TCase *tc = engine_case("zone");

	tcase_add_test(tc, scattered_frames_fill_one_extent);
	tcase_add_test(tc, reserved_extents_come_last);
	tcase_add_test(tc, extents_are_reserved_in_turn);
	suite_add_tcase(s, tc);
	return s;
}
