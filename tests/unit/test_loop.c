/* SPDX-License-Identifier: MIT */
/* test_loop.c - the event loop: order within a turn, and objects that go while events wait. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/loop.h"
#include "fake.h"
#include "suites.h"

struct source {
	struct loop_watch watch;
	struct source *victim; /* unwatched when this one is ready */
	struct loop_timer *timer;
	int nr;
};

static void ready(struct loop_watch *w, uint32_t events)
{
	struct source *s = container_of(w, struct source, watch);

	must(events & EPOLLIN);
	s->nr++;
	if (s->victim)
		loop_unwatch(&s->victim->watch);
	if (s->timer)
		loop_timer_set(s->timer, 0);
}

static void watch_new(struct loop *l, struct source *s)
{
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	must(fd >= 0);
	ck_assert_int_eq(loop_watch(l, &s->watch, fd, EPOLLIN, ready), 0);
}

struct alarm {
	struct loop_timer timer;
	int nr;
	int *order, place; /* *order counts the alarms that fired; place: which one this was */
	uint64_t again_ms;
	struct loop *stop;
};

static void fire(struct loop_timer *t, uint64_t now_ms)
{
	struct alarm *a = container_of(t, struct alarm, timer);

	must(now_ms <= clock_ms());
	ck_assert_uint_eq(t->due_ms, CLOCK_NEVER);
	a->nr++;
	if (a->order)
		a->place = ++*a->order;
	loop_timer_set(t, a->again_ms ? a->again_ms : CLOCK_NEVER);
	if (a->stop)
		loop_stop(a->stop);
}

START_TEST(removed_watch_gets_no_event)
{
	struct source v[2] = { 0 };
	struct loop l;

	/* Whichever comes first takes the other away: both are ready in the same batch. */
	ck_assert_int_eq(loop_init(&l), 0);
	watch_new(&l, &v[0]);
	watch_new(&l, &v[1]);
	v[0].victim = &v[1];
	v[1].victim = &v[0];
	loop_turn(&l);
	ck_assert_int_eq(v[0].nr + v[1].nr, 1);
	loop_turn(&l);
	ck_assert_int_eq(v[0].nr + v[1].nr, 2);
	for (int i = 0; i < 2; i++) {
		must(v[i].nr == 2 || !v[i].watch.loop);
		loop_unwatch(&v[i].watch);
		loop_unwatch(&v[i].watch);
		close(v[i].watch.fd);
	}
	loop_deinit(&l);
}
END_TEST

START_TEST(asks_for_other_events)
{
	struct source s = { 0 };
	struct alarm end = { .again_ms = 0 };
	struct loop l;

	ck_assert_int_eq(loop_init(&l), 0);
	loop_timer_add(&l, &end.timer, fire);
	watch_new(&l, &s);
	ck_assert_int_eq(loop_watch_set(&s.watch, 0), 0);
	loop_timer_set(&end.timer, 0);
	loop_turn(&l);
	ck_assert_int_eq(s.nr, 0);
	ck_assert_int_eq(loop_watch_set(&s.watch, EPOLLIN), 0);
	loop_turn(&l);
	ck_assert_int_eq(s.nr, 1);
	loop_unwatch(&s.watch);
	close(s.watch.fd);
	/* A descriptor that epoll does not take: the watch stays unused. */
	must(loop_watch(&l, &s.watch, -1, EPOLLIN, ready) < 0 && !s.watch.loop);
	loop_unwatch(&s.watch);
	loop_deinit(&l);
}
END_TEST

START_TEST(timers_fire_after_events_in_order)
{
	int order = 0;
	struct source s = { 0 };
	struct alarm a = { .order = &order }, b = { .order = &order }, c = { .order = &order };
	struct loop l;

	ck_assert_int_eq(loop_init(&l), 0);
	loop_timer_add(&l, &a.timer, fire);
	loop_timer_add(&l, &b.timer, fire);
	loop_timer_add(&l, &c.timer, fire);
	watch_new(&l, &s);
	s.timer = &c.timer; /* set by an event: fires in the same turn */
	loop_timer_set(&b.timer, 1);
	loop_timer_set(&a.timer, 2);
	loop_turn(&l);
	ck_assert_int_eq(a.place, 1);
	ck_assert_int_eq(b.place, 2);
	ck_assert_int_eq(c.place, 3);
	loop_unwatch(&s.watch);
	close(s.watch.fd);
	loop_deinit(&l);
}
END_TEST

START_TEST(waits_for_the_earliest)
{
	struct alarm a = { 0 }, b = { 0 };
	struct loop l;
	uint64_t begin = clock_ms();

	ck_assert_int_eq(loop_init(&l), 0);
	loop_timer_add(&l, &a.timer, fire);
	loop_timer_add(&l, &b.timer, fire);
	loop_timer_set(&a.timer, begin + 3600000);
	loop_timer_set(&b.timer, begin + 3600000);
	loop_timer_hasten(&b.timer, begin + 20);
	loop_timer_hasten(&b.timer, begin + 40);
	b.stop = &l;
	loop_run(&l);
	ck_assert_uint_ge(clock_ms(), begin + 20);
	ck_assert_int_eq(a.nr, 0);
	ck_assert_int_eq(b.nr, 1);
	loop_deinit(&l);
}
END_TEST

/* A timer that is always due must not keep the loop from its descriptors. */
START_TEST(timer_fires_once_a_turn)
{
	struct alarm a = { .again_ms = 1 };
	struct loop l;

	ck_assert_int_eq(loop_init(&l), 0);
	loop_timer_add(&l, &a.timer, fire);
	loop_timer_set(&a.timer, 1);
	for (int i = 1; i <= 3; i++) {
		loop_turn(&l);
		ck_assert_int_eq(a.nr, i);
	}
	loop_deinit(&l);
}
END_TEST

Suite *suite_loop(void)
{
	Suite *s = suite_create("loop");
	TCase *tc = tcase_create("loop");

	tcase_add_test(tc, removed_watch_gets_no_event);
	tcase_add_test(tc, asks_for_other_events);
	tcase_add_test(tc, timers_fire_after_events_in_order);
	tcase_add_test(tc, waits_for_the_earliest);
	tcase_add_test(tc, timer_fires_once_a_turn);
	suite_add_tcase(s, tc);
	return s;
}
