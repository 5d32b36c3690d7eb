/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c - several threads add clients, change their memory and remove them while another
 * thread scans. It is worth most under ThreadSanitizer and AddressSanitizer: they see a use after
 * free.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "engine/core.h"
#include "fake.h"
#include "suites.h"

enum { PAGES = 256, THREADS = 3, SCANNERS = 2, ROUNDS = 150 };
#define BASE 0x7f0000000000ull

struct world {
	struct engine *e;
	struct ksm_knobs knobs;
	int clients, released;   /* atomic */
	unsigned int nr_workers; /* atomic */
	int stop;                /* atomic */
};

struct client {
	struct world *w;
	struct mm_slot *mm;
	pthread_mutex_t lock;
	uint32_t order[64];
	int nr_orders;
};

/* Every page was written at some time; its content says which of 8 pages it is. */
static int op_track(void *client, uint64_t start, uint64_t end, bool dense, struct track_range *v,
		    int max, uint64_t *walk_end)
{
	(void)client;
	(void)max;
	(void)dense;
	*walk_end = end;
	v[0] = (struct track_range){ { start, end }, start / PAGE % 3 ? TRACK_ANON : TRACK_FILE };
	return 1;
}

static int op_look(void *client, uint64_t start, uint64_t end, struct track_range *v, int max)
{
	uint64_t walk_end;

	return op_track(client, start, end, false, v, max, &walk_end);
}

static int op_clean(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		    uint64_t *walk_end)
{
	return op_track(client, start, end, false, v, max, walk_end);
}

static ssize_t op_read(void *client, uint64_t addr, void *buf, size_t len)
{
	size_t i;

	(void)client;
	for (i = 0; i < len / PAGE; i++)
		memset((char *)buf + i * PAGE, (int)((addr / PAGE + i) % 8), PAGE);
	return (ssize_t)len;
}

static int op_send(void *client, struct ksm_msg_order *order)
{
	struct client *c = client;
	int r = -EAGAIN;

	pthread_mutex_lock(&c->lock);
	if (c->nr_orders < 64) {
		c->order[c->nr_orders++] = order->id;
		r = 0;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static int op_write(void *arena, uint32_t frame, const void *buf, uint32_t nr)
{
	(void)arena;
	(void)frame;
	(void)buf;
	(void)nr;
	return 0;
}

static uint32_t op_allow(void *arena, uint32_t least, uint32_t wish)
{
	(void)arena;
	return wish < 100 ? wish : least < 100 ? least : 100;
}

static void op_free(void *arena, uint32_t frame, uint32_t nr)
{
	(void)arena;
	(void)frame;
	(void)nr;
}

static void op_release(void *client)
{
	struct client *c = client;

	__atomic_fetch_add(&c->w->released, 1, __ATOMIC_RELAXED);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static uint64_t op_memory_allow(void *client, uint64_t least, uint64_t wish)
{
	(void)client;
	(void)least;
	return wish;
}

static uint64_t op_debt_allow(void *arena, uint64_t in_use, uint64_t least, uint64_t wish)
{
	(void)arena;
	(void)in_use;
	(void)least;
	return wish;
}

static const struct engine_ops ops = {
	.track = op_track,
	.look = op_look,
	.clean = op_clean,
	.read = op_read,
	.send_order = op_send,
	.frame_write = op_write,
	.frames_allow = op_allow,
	.debt_allow = op_debt_allow,
	.memory_allow = op_memory_allow,
	.frame_free = op_free,
	.client_release = op_release,
};

static void answer(struct client *c, uint64_t *rng)
{
	uint8_t res[KSM_ORDER_PAGES];
	uint32_t id;
	int i;

	for (;;) {
		pthread_mutex_lock(&c->lock);
		id = c->nr_orders ? c->order[--c->nr_orders] : 0;
		pthread_mutex_unlock(&c->lock);
		if (!id)
			return;
		for (i = 0; i < (int)KSM_ORDER_PAGES; i++)
			res[i] = fake_rand(rng) % 4 ? KSM_RES_MERGED :
						      (uint8_t)(fake_rand(rng) % KSM_RES_NR);
		must(engine_order_done(c->mm, id, res) == 0);
	}
}

static void live(struct world *w, uint64_t *rng)
{
	struct client *c = calloc(1, sizeof(*c));
	uint64_t a, b;
	int i;

	c->w = w;
	pthread_mutex_init(&c->lock, NULL);
	__atomic_fetch_add(&w->clients, 1, __ATOMIC_RELAXED);
	c->mm = engine_mm_new(w->e, c, 7);
	must(engine_region_add(c->mm, BASE, BASE + PAGES * PAGE) == 0);
	for (i = 0; i < 40; i++) {
		a = fake_rand(rng) % PAGES;
		b = a + 1 + fake_rand(rng) % (PAGES - a);
		switch (fake_rand(rng) % 8) {
		case 0:
			must(!engine_region_del(c->mm, BASE + a * PAGE, BASE + b * PAGE));
			break;
		case 1:
			must(!engine_region_add(c->mm, BASE + a * PAGE, BASE + b * PAGE));
			break;
		case 2:
			must(!engine_region_forget(c->mm, BASE + a * PAGE, BASE + b * PAGE));
			break;
		case 3:
			engine_adopt(c->mm, BASE + a * PAGE, 1, (uint32_t)a);
			break;
		case 4:
			engine_flush(w->e, ENGINE_FLUSH_ALL);
			break;
		case 5:
			engine_epoch_free(w->e, engine_epoch_advance(w->e) - 1);
			break;
		default:
			answer(c, rng);
		}
	}
	engine_mm_exit(c->mm);
	mm_put(c->mm);
}

static void *clients_main(void *arg)
{
	struct world *w = arg;
	uint64_t rng = (uint64_t)(uintptr_t)&rng;
	int i;

	rcu_register_thread();
	for (i = 0; i < ROUNDS; i++)
		live(w, &rng);
	rcu_unregister_thread();
	return NULL;
}

static void *scan_main(void *arg)
{
	struct world *w = arg;
	unsigned int worker = __atomic_fetch_add(&w->nr_workers, 1, __ATOMIC_RELAXED);
	char msg[128];
	int64_t budget;

	rcu_register_thread();
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		struct engine_counters n = { 0 };

		budget = 500;
		engine_scan(w->e, worker, &budget);
		engine_flush(w->e, ENGINE_FLUSH_RIPE);
		engine_counters(w->e, &n);
		must_msg(!engine_check(w->e, msg, sizeof(msg)), "%s", msg);
	}
	rcu_unregister_thread();
	return NULL;
}

START_TEST(clients_come_and_go)
{
	static struct world w;
	struct engine_config cfg = {
		.ops = &ops, .knobs = &w.knobs, .nr_nodes = 1, .zone_frames = 4096, .hash_seed = 1
	};
	pthread_t t[THREADS], scan[SCANNERS];
	int i;

	knobs_init(&w.knobs);
	w.e = engine_new(&cfg);
	ck_assert_ptr_nonnull(w.e);
	for (i = 0; i < SCANNERS; i++)
		ck_assert_int_eq(pthread_create(&scan[i], NULL, scan_main, &w), 0);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, clients_main, &w), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	__atomic_store_n(&w.stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < SCANNERS; i++)
		pthread_join(scan[i], NULL);
	engine_epoch_free(w.e, engine_epoch(w.e));
	engine_free(w.e);
	ck_assert_int_eq(w.released, THREADS * ROUNDS);
}
END_TEST

Suite *suite_threads(void)
{
	Suite *s = suite_create("threads");
	TCase *tc = engine_case("threads");

	tcase_add_test(tc, clients_come_and_go);
	suite_add_tcase(s, tc);
	return s;
}
