/* SPDX-License-Identifier: MIT */
/*
 * test_workers.c - several threads scan at a time, and frames are written with the lock released.
 *
 * The test forces each interleaving: a hook in the unlocked part of one worker's step runs the
 * other worker, or whatever else may come between.
 */
#include "engine/core.h"
#include "fake.h"
#include "suites.h"

#define BASE 0x7f0000000000ull

static void flush_all(struct fake *w)
{
	engine_flush(w->e, ENGINE_FLUSH_ALL);
	must_msg(!w->sent, "an order was sent for a frame that has no bytes yet");
}

/* Seen to fail when sendable() does not ask whether the frame is being filled. */
START_TEST(orders_wait_for_the_bytes)
{
	struct fake *w = fake_new(1, 4096, 0);
	struct fake_client *a = fake_client(w, BASE, 64), *b = fake_client(w, BASE, 64);

	fake_fill_unique(a, 0, 64, 1);
	fake_fill_unique(b, 0, 64, 1);
	w->in_write = flush_all;
	fake_scan(w);
	ck_assert_ptr_null(w->in_write); /* it ran */
	engine_flush(w->e, ENGINE_FLUSH_RIPE);
	ck_assert_uint_eq(w->sent, 2); /* and it is not forgotten */
	fake_orders(w);
	fake_check(w);
	ck_assert_uint_eq(fake_counters(w).pages_sharing, 64);
	fake_free(w);
}
END_TEST

static void scan_the_rest(struct fake *w)
{
	int64_t budget = 100000;

	must_msg(engine_scan(w->e, 1, &budget) == ENGINE_SCAN_NO_WORK,
		 "the first worker is not at its client any more");
	must_msg(fake_counters(w).pages_unshared == 0, "the third client was not scanned");
}

/* A page of a third client is bound to a frame that is being written; then writing fails. */
START_TEST(bound_while_written)
{
	struct fake *w = fake_new(1, 4096, 0);
	struct fake_client *c[3];
	struct engine_counters n;
	int i;

	for (i = 0; i < 3; i++)
		c[i] = fake_client(w, BASE, 64);
	for (i = 0; i < 3; i++)
		fake_fill_unique(c[i], 0, 64, 1);
	w->in_write = scan_the_rest;
	w->write_fails = _i;
	fake_scan(w);
	ck_assert_ptr_null(w->in_write);
	fake_check(w);
	n = fake_counters(w);
	ck_assert_uint_eq(n.frames_used, _i ? 0 : 64);
	ck_assert_uint_eq(engine_nr_orders(w->e), _i ? 0 : 192); /* pages that wait to be ordered */
	fake_passes(w, 3);
	fake_check(w);
	n = fake_counters(w);
	ck_assert_uint_eq(n.pages_shared, 64);
	ck_assert_uint_eq(n.pages_sharing, 128);
	fake_free(w);
}
END_TEST

static void all_go(struct fake *w)
{
	for (int i = 0; i < w->nr_clients; i++)
		fake_exit(w->client[i]);
}

static void adopt_it(struct fake *w)
{
	/* No client knows frame 0 yet: a client that says it has mapped it lies. */
	engine_adopt(w->client[0]->mm, BASE + 200 * PAGE, 1, 0);
	must_msg(fake_counters(w).pages_shared == 0, "a frame without bytes was adopted");
}

START_TEST(gone_while_written)
{
	struct fake *w = fake_new(1, 4096, 0);
	struct fake_client *a = fake_client(w, BASE, 256), *b = fake_client(w, BASE, 64);

	fake_fill_unique(a, 0, 64, 1);
	fake_fill_unique(b, 0, 64, 1);
	w->in_write = _i ? adopt_it : all_go;
	fake_scan(w);
	ck_assert_ptr_null(w->in_write);
	if (!_i) {
		ck_assert_uint_eq(fake_counters(w).frames_used, 0);
		ck_assert_uint_eq(w->frames_freed, 64);
	}
	fake_free(w);
}
END_TEST

static enum engine_scan other;

static void other_worker(struct fake_client *c)
{
	int64_t budget = 100000;

	other = engine_scan(c->w->e, 1, &budget);
}

/* One worker or another scans each client once in a pass; the last one to finish ends the pass. */
START_TEST(two_workers_share_a_pass)
{
	struct fake *w = fake_new(1, 4096, 0);
	struct fake_client *a = fake_client(w, BASE, 64), *b = fake_client(w, BASE, 64);
	int64_t budget = 100000;

	fake_fill_unique(a, 0, 64, 1);
	fake_fill_unique(b, 0, 64, 1000);
	w->in_read = other_worker;
	ck_assert_int_eq(engine_scan(w->e, 0, &budget), ENGINE_SCAN_PASS);
	ck_assert_int_eq(other, ENGINE_SCAN_NO_WORK);
	ck_assert_uint_eq(fake_counters(w).total.pages_scanned, 128);
	ck_assert_uint_eq(fake_counters(w).pages_unshared, 128);
	fake_free(w);
}
END_TEST

/* Another worker finishes what the first could not, from where it stopped. */
START_TEST(another_worker_goes_on)
{
	struct fake *w = fake_new(1, 8192, 0);
	struct fake_client *a = fake_client(w, BASE, 4000);
	unsigned int worker = 0;
	enum engine_scan r;
	int64_t budget;

	fake_fill_unique(a, 0, 4000, 1);
	do {
		budget = 600;
		r = engine_scan(w->e, worker++ % 3, &budget);
		ck_assert_uint_lt(worker, 20);
	} while (r == ENGINE_SCAN_BUDGET);
	ck_assert_int_eq(r, ENGINE_SCAN_PASS);
	ck_assert_uint_ge(worker, 3);
	ck_assert_uint_eq(fake_counters(w).total.pages_scanned, 4000);
	fake_free(w);
}
END_TEST

/* A client that exits while its cursor is parked does not delay the end of the pass. */
START_TEST(parked_client_exits)
{
	struct fake *w = fake_new(1, 8192, 0);
	struct fake_client *a = fake_client(w, BASE, 4000);
	int64_t budget = 100;

	fake_fill_unique(a, 0, 4000, 1);
	ck_assert_int_eq(engine_scan(w->e, 0, &budget), ENGINE_SCAN_BUDGET);
	fake_exit(a);
	budget = 100;
	ck_assert_int_eq(engine_scan(w->e, 2, &budget), ENGINE_SCAN_PASS);
	fake_free(w);
}
END_TEST

static int first; /* number of the client that was tracked first */

static void note_first(struct fake_client *c)
{
	first = (int)((c->base - BASE) >> 30);
}

static struct fake_client *client_on(struct fake *w, int i, int nid)
{
	struct fake_client *c = fake_client(w, BASE + ((uint64_t)i << 30), 64);

	fake_fill_unique(c, 0, 64, 1 + 1000 * (uint64_t)i);
	engine_mm_set_reader(c->mm, nid);
	return c;
}

/*
 * A worker takes up clients of its own node before others, and each of them once in a pass. Seen to
 * fail without take_ahead(), and when take_next() does not ask for `ahead`.
 */
START_TEST(clients_of_the_node_first)
{
	struct fake *w = fake_new(2, 4096, 0);
	uint64_t tracks;

	for (int i = 0; i < 4; i++)
		client_on(w, i, i % 2);
	fake_scan(w);
	tracks = w->tracks;
	fake_scan(w);
	tracks = w->tracks - tracks;
	for (int nid = -1; nid < 2; nid++) {
		int64_t budget = 100000;
		uint64_t before = w->tracks;

		engine_set_worker_nid(w->e, 2, nid);
		w->in_track = note_first;
		ck_assert_int_eq(engine_scan(w->e, 2, &budget), ENGINE_SCAN_PASS);
		ck_assert_int_eq(first, nid == 1);
		ck_assert_uint_eq(w->tracks - before, tracks);
	}
	fake_check(w);
	fake_free(w);
}
END_TEST

/*
 * What is left for want of budget goes on, by whichever worker, and no more of it is kept than
 * there are workers. Seen to fail when take_any() does not look how many are parked.
 */
START_TEST(parked_of_many_nodes)
{
	enum { CLIENTS = 4 * ENGINE_WORKERS };
	struct fake *w = fake_new(CLIENTS, 4096, 0);
	enum engine_scan ret = ENGINE_SCAN_BUDGET;
	uint32_t most = 0;

	for (int i = 0; i < CLIENTS; i++)
		client_on(w, i, i);
	for (int i = 0; ret != ENGINE_SCAN_PASS; i++) {
		int64_t budget = 1;

		ck_assert_int_lt(i, 100 * CLIENTS);
		engine_set_worker_nid(w->e, 0, i % CLIENTS);
		ret = engine_scan(w->e, 0, &budget);
		most = w->e->nr_parked > most ? w->e->nr_parked : most;
		ck_assert_uint_le(most, ENGINE_WORKERS);
	}
	ck_assert_uint_eq(most, ENGINE_WORKERS);
	ck_assert_uint_eq(fake_counters(w).pages_unshared, CLIENTS * 64);
	fake_check(w);
	fake_free(w);
}
END_TEST

Suite *suite_workers(void)
{
	Suite *s = suite_create("workers");
	TCase *tc = engine_case("workers");

	tcase_add_test(tc, orders_wait_for_the_bytes);
	tcase_add_loop_test(tc, bound_while_written, 0, 2);
	tcase_add_loop_test(tc, gone_while_written, 0, 2);
	tcase_add_test(tc, two_workers_share_a_pass);
	tcase_add_test(tc, another_worker_goes_on);
	tcase_add_test(tc, parked_client_exits);
	tcase_add_test(tc, clients_of_the_node_first);
	tcase_add_test(tc, parked_of_many_nodes);
	suite_add_tcase(s, tc);
	return s;
}
