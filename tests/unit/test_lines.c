/* SPDX-License-Identifier: MIT */
/* test_lines.c - connections of lines: everybody has a turn, and nothing is lost over it. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/account.h"
#include "daemon/closer.h"
#include "daemon/lines.h"
#include "suites.h"

#define NR 100

static struct account_table accounts;
static struct closer closer;
static struct loop loop;
static struct loop_timer tick; /* so that no turn waits */
static struct lines lines[2];
static int peer[2];
static unsigned int taken[2];
static bool over[2];

static void heard(struct lines *l)
{
	(void)l;
}

static void line(struct lines *l, const char *text, size_t len)
{
	ck_assert_uint_eq(len, 1);
	ck_assert_int_eq(text[0], 'a' + (int)(taken[l - lines] % 26));
	taken[l - lines]++;
	text_printf(&l->out, "%s\n", text);
}

static void closed(struct lines *l)
{
	over[l - lines] = true;
}

static const struct lines_ops ops = { heard, line, heard, closed };

static void fire(struct loop_timer *t, uint64_t now_ms)
{
	loop_timer_set(t, now_ms);
}

static void turn(void)
{
	loop_timer_set(&tick, 0);
	loop_turn(&loop);
}

static void setup(void)
{
	account_table_init(&accounts);
	closer_init(&closer, &accounts);
	ck_assert_int_eq(loop_init(&loop), 0);
	loop_timer_add(&loop, &tick, fire);
	for (int i = 0; i < 2; i++) {
		int sv[2];

		ck_assert_int_eq(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv), 0);
		peer[i] = sv[0];
		lines[i] = (struct lines){ .closer = &closer };
		ck_assert_int_eq(lines_open(&lines[i], &loop, sv[1], &ops), 0);
	}
}

static void say_many(int who)
{
	for (int i = 0; i < NR; i++) {
		char text[2] = { (char)('a' + i % 26), '\n' };

		ck_assert_int_eq(send(peer[who], text, 2, MSG_NOSIGNAL), 2);
	}
}

static void expect_answers(int who, size_t nr)
{
	char buf[2 * NR + 1];

	ck_assert_int_eq(recv(peer[who], buf, sizeof(buf), 0), (ssize_t)(2 * nr));
}

/* Seen to fail (100 lines in the first turn) without the bound in take_lines(). */
START_TEST(everybody_has_a_turn)
{
	setup();
	say_many(0);
	ck_assert_int_eq(send(peer[1], "a\n", 2, MSG_NOSIGNAL), 2);
	turn();
	ck_assert_uint_eq(taken[0], LINES_TURN);
	ck_assert_uint_eq(taken[1], 1);
	expect_answers(0, LINES_TURN);
	expect_answers(1, 1);
	/* The rest needs nothing further from the peer. */
	for (int i = 1; i <= NR / LINES_TURN; i++)
		turn();
	ck_assert_uint_eq(taken[0], NR);
	expect_answers(0, NR - LINES_TURN);
	ck_assert(!over[0]);
}
END_TEST

/* Seen to fail (84 lines are lost) when the end is read, and ends it, with lines left. */
START_TEST(the_end_comes_after_the_last_line)
{
	setup();
	say_many(0);
	ck_assert_int_eq(shutdown(peer[0], SHUT_WR), 0);
	for (int i = 0; i < 3 * NR && !over[0]; i++)
		turn();
	ck_assert(over[0]);
	ck_assert_uint_eq(taken[0], NR);
	expect_answers(0, NR);
}
END_TEST

/* A held answer leaves no turn that does nothing but come again. */
START_TEST(held_lines_wait)
{
	setup();
	say_many(0);
	lines_hold(&lines[0]);
	turn();
	lines[0].held = false;
	ck_assert_uint_eq(taken[0], 0);
	lines_answered(&lines[0]);
	for (int i = 0; i <= NR / LINES_TURN; i++)
		turn();
	ck_assert_uint_eq(taken[0], NR);
}
END_TEST

Suite *suite_lines(void)
{
	Suite *s = suite_create("lines");
	TCase *tc = tcase_create("lines");

	tcase_add_test(tc, everybody_has_a_turn);
	tcase_add_test(tc, the_end_comes_after_the_last_line);
	tcase_add_test(tc, held_lines_wait);
	suite_add_tcase(s, tc);
	return s;
}
