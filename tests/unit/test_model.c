/* SPDX-License-Identifier: MIT */
/*
 * test_model.c - random steps of everything that can happen, in any order, checked after each one:
 * the engine's invariants, every page's content, exact mapping counts, and that what is counted as
 * merged is what the clients have mapped once all is answered.
 */
#include "model.h"
#include "suites.h"

enum { STEPS = 4000 };

START_TEST(random_steps)
{
	uint64_t rng = fake_seed() + (uint64_t)_i;
	struct fake *w = fake_new(1 + _i % 3, 4096, _i % 4 ? 0 : 60);
	int s;

	fake_set(w, KNOB_MAX_PAGE_SHARING, 2 + (uint32_t)(fake_rand(&rng) % 9));
	w->rng = fake_rand(&rng);
	fake_client(w, MODEL_BASE, MODEL_PAGES);
	fake_client(w, MODEL_BASE + 0x40000000, MODEL_PAGES);
	for (s = 0; s < STEPS; s++) {
		model_step(w, &rng);
		fake_check(w);
		if (s % 400 == 399)
			model_quiet(w);
	}
	model_quiet(w);
	fake_free(w);
}
END_TEST

Suite *suite_model(void)
{
	Suite *s = suite_create("model");
	TCase *tc = engine_case("model");

	tcase_add_loop_test(tc, random_steps, 0, 12);
	suite_add_tcase(s, tc);
	return s;
}
