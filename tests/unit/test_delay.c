/* SPDX-License-Identifier: MIT */
/* test_delay.c - a thread knows for how long it had no processor, and sleep is none of it. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/delay.h"
#include "fake.h"
#include "suites.h"

static atomic_bool over;

static void *spin(void *arg)
{
	(void)arg;
	while (!over)
		;
	return NULL;
}

/* This thread and those that it makes share one processor from now on. */
static void share_a_processor(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)sched_getcpu(), &set);
	must(!sched_setaffinity(0, sizeof(set), &set));
}

/* Seen to fail when the delay is not taken from the kernel. */
START_TEST(another_has_the_processor)
{
	pthread_t thread;
	uint64_t before;

	delay_begin();
	share_a_processor();
	before = delay_ns();
	must(!pthread_create(&thread, NULL, spin, NULL));
	while (delay_ns() < before + 20000000)
		;
	over = true;
	pthread_join(thread, NULL);
	delay_end();
}
END_TEST

START_TEST(sleep_is_no_delay)
{
	uint64_t before, begun, delay;

	delay_begin();
	before = delay_ns();
	begun = clock_ns();
	usleep(100000);
	delay = delay_ns() - before;
	/* Two clocks of the kernel, which do not agree to a hundredth: a tenth of the sleep. */
	ck_assert_uint_le(delay, clock_ns() - begun - 90000000);
	delay_end();
}
END_TEST

/* A thread that has not begun to ask is told nothing. */
START_TEST(not_known)
{
	ck_assert_uint_eq(delay_ns(), 0);
	delay_end();
	ck_assert_uint_eq(delay_ns(), 0);
}
END_TEST

Suite *suite_delay(void)
{
	Suite *s = suite_create("delay");
	TCase *tc = tcase_create("delay");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, another_has_the_processor);
	tcase_add_test(tc, sleep_is_no_delay);
	tcase_add_test(tc, not_known);
	suite_add_tcase(s, tc);
	return s;
}
