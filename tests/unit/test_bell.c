/* SPDX-License-Identifier: MIT */
/* test_bell.c - threads wake each other: no ring is lost, and what came before it is seen. */
#include <pthread.h>

#include "base/clock.h"
#include "base/container.h"
#include "daemon/bell.h"
#include "fake.h"
#include "suites.h"

#define RINGERS 3
#define RINGS 20000u

struct tower {
	struct bell bell;
	struct loop loop;
	/* Plain on purpose: the bell alone orders the two sides. Word n belongs to ringer n, which
	 * waits for `answered` before it writes again. */
	uint64_t said[RINGERS];
	_Atomic uint64_t answered[RINGERS];
	unsigned int nr_answers;
};

struct ringer {
	struct tower *tower;
	unsigned int n;
};

static void *ring(void *arg)
{
	struct ringer *r = arg;
	struct tower *t = r->tower;

	for (uint64_t i = 1; i <= RINGS; i++) {
		t->said[r->n] = i;
		bell_ring(&t->bell, 1u << r->n);
		while (t->answered[r->n] != i)
			sched_yield();
	}
	return NULL;
}

static void answer(struct bell *b, uint32_t bits)
{
	struct tower *t = container_of(b, struct tower, bell);
	bool all = true;

	must(bits && bits < 1u << RINGERS);
	t->nr_answers++;
	for (unsigned int i = 0; i < RINGERS; i++) {
		if (bits >> i & 1) {
			ck_assert_uint_eq(t->said[i], t->answered[i] + 1);
			t->answered[i]++;
		}
		all &= t->answered[i] == RINGS;
	}
	if (all)
		loop_stop(&t->loop);
}

static void start(struct tower *t, struct ringer *r, pthread_t *thread)
{
	for (unsigned int i = 0; i < RINGERS; i++) {
		r[i] = (struct ringer){ t, i };
		must(!pthread_create(&thread[i], NULL, ring, &r[i]));
	}
}

/* A lost ring shows as a test that does not end. */
START_TEST(no_ring_is_lost_in_a_loop)
{
	struct tower t = { 0 };
	struct ringer r[RINGERS];
	pthread_t thread[RINGERS];

	ck_assert_int_eq(loop_init(&t.loop), 0);
	ck_assert_int_eq(bell_init(&t.bell), 0);
	ck_assert_int_eq(bell_hang(&t.bell, &t.loop, answer), 0);
	start(&t, r, thread);
	loop_run(&t.loop);
	for (int i = 0; i < RINGERS; i++)
		pthread_join(thread[i], NULL);
	must(t.nr_answers <= RINGERS * RINGS);
	bell_deinit(&t.bell);
	loop_deinit(&t.loop);
}
END_TEST

START_TEST(no_ring_is_lost_without_a_loop)
{
	struct tower t = { 0 };
	struct ringer r[RINGERS];
	pthread_t thread[RINGERS];

	ck_assert_int_eq(bell_init(&t.bell), 0);
	start(&t, r, thread);
	while (!t.loop.stopped)
		answer(&t.bell, bell_wait(&t.bell, CLOCK_NEVER));
	for (int i = 0; i < RINGERS; i++)
		pthread_join(thread[i], NULL);
	bell_deinit(&t.bell);
}
END_TEST

START_TEST(waits_until_due)
{
	uint64_t begin = clock_ms();
	struct bell b;

	ck_assert_int_eq(bell_init(&b), 0);
	ck_assert_uint_eq(bell_wait(&b, 0), 0);
	ck_assert_uint_eq(bell_wait(&b, begin + 20), 0);
	ck_assert_uint_ge(clock_ms(), begin + 20);
	/* Bits gather; one answer takes all of them. */
	bell_ring(&b, 1);
	bell_ring(&b, 4);
	ck_assert_uint_eq(bell_wait(&b, CLOCK_NEVER), 5);
	ck_assert_uint_eq(bell_wait(&b, 0), 0);
	bell_deinit(&b);
}
END_TEST

Suite *suite_bell(void)
{
	Suite *s = suite_create("bell");
	TCase *tc = tcase_create("bell");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, no_ring_is_lost_in_a_loop);
	tcase_add_test(tc, no_ring_is_lost_without_a_loop);
	tcase_add_test(tc, waits_until_due);
	suite_add_tcase(s, tc);
	return s;
}
