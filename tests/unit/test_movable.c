/* SPDX-License-Identifier: MIT */
/* test_movable.c - an owner that neglects a duty towards movers is stopped at once. */
#include "suites.h"

#include <signal.h>
#include <stdbool.h>

#include "engine/movable.h"

/* One thing, whose owner has one fault or none. */
enum fault {
	RIGHT,
	TWICE,      /* isolates what is isolated */
	UNREADY,    /* isolates what is not registered */
	UNMARKED,   /* says that it has, and has not */
	LEFTOVER,   /* refuses, and marks it all the same */
	KEPT,       /* puts it back, and it stays isolated */
	REGISTERED, /* frees it, and it stays movable: the kernel's fault */
	FREED,      /* frees what is isolated */
	FAULTS
};
struct owner {
	struct movable is;
	enum fault fault;
};

static struct movable state(void *owner, uint32_t n)
{
	(void)n;
	return ((struct owner *)owner)->is;
}

static bool isolate(void *owner, uint32_t n)
{
	struct owner *o = owner;

	(void)n;
	if (o->fault == LEFTOVER) {
		o->is.isolated = true;
		return false;
	}
	if ((!o->is.movable && o->fault != UNREADY) || (o->is.isolated && o->fault != TWICE))
		return false;
	o->is.isolated = o->fault != UNMARKED;
	return true;
}

static void putback(void *owner, uint32_t n)
{
	struct owner *o = owner;

	(void)n;
	o->is.isolated = o->fault == KEPT;
}

static const struct movable_ops ops = { .state = state, .isolate = isolate, .putback = putback };

static void release(struct owner *o)
{
	o->is.movable = o->fault == REGISTERED;
	if (o->fault != FREED)
		o->is.isolated = false;
	movable_release(&ops, o, 0);
}

static void life(enum fault fault)
{
	struct owner o = { .fault = fault };

	ck_assert(!movable_isolate(&ops, &o, 0));
	o.is.movable = true;
	ck_assert(movable_isolate(&ops, &o, 0));
	ck_assert(!movable_isolate(&ops, &o, 0));
	if (fault == FREED)
		release(&o);
	movable_putback(&ops, &o, 0);
	ck_assert(!o.is.isolated && o.is.movable);
	release(&o);
}

START_TEST(duties_are_met)
{
	life(RIGHT);
}
END_TEST

START_TEST(duty_is_neglected)
{
	life((enum fault)_i);
}
END_TEST

/* A mover gives back what it does not have. */
START_TEST(putback_of_another)
{
	struct owner o = { .is.movable = true };

	movable_putback(&ops, &o, 0);
}
END_TEST

Suite *suite_movable(void)
{
	Suite *s = suite_create("movable");
	TCase *tc = tcase_create("movable");

	tcase_add_test(tc, duties_are_met);
	tcase_add_loop_test_raise_signal(tc, duty_is_neglected, SIGABRT, RIGHT + 1, FAULTS);
	tcase_add_test_raise_signal(tc, putback_of_another, SIGABRT);
	suite_add_tcase(s, tc);
	return s;
}
