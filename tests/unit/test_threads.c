/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c - several threads add clients, change their memory, fork and remove them while
 * others scan, move frames between nodes, drain and compact, and look where pages lie. It is worth
 * most under ThreadSanitizer and AddressSanitizer: they see a use after free.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <urcu.h>

#include "engine/core.h"
#include "fake.h"
#include "suites.h"

enum { PAGES = 256, THREADS = 3, SCANNERS = 2, ROUNDS = 150, RESIDENTS = 2, FRAMES = 60, FEW = 30 };
enum { CALM = 32 }; /* of 256 looks at written pages so many show all as written */
enum { NODES = 2, ZONE = 8 * PAGEBLOCK_FRAMES };
#define BASE 0x7f0000000000ull

struct world {
	struct engine *e;
	struct ksm_knobs knobs;
	int clients, released;   /* atomic */
	unsigned int nr_workers; /* atomic */
	bool calm;               /* pages are seldom written */
	int stop;                /* atomic */
	/* The mover's: what moves on each node, and how many have ended. */
	enum job { NOTHING, MIGRATION, DRAIN, COMPACTION, JOBS } job[NODES];
	unsigned int ended[JOBS];
	uint64_t frames; /* that have moved */
	int enough;      /* atomic: it has seen some of everything */
};

struct client {
	struct world *w;
	struct mm_slot *mm;
	unsigned int tracked; /* calls of op_track(); atomic */
	pthread_mutex_t lock;
	uint32_t order[64];
	int nr_orders;
};

/* Every page was written, or (calm) was at some time; its content says which of 8 pages it is. */
static int op_track(void *client, uint64_t start, uint64_t end, enum track_how how,
		    struct track_range *v, int max, uint64_t *walk_end)
{
	struct client *c = client;

	(void)max;
	(void)how;
	*walk_end = end;
	if (c->w->calm && __atomic_fetch_add(&c->tracked, 1, __ATOMIC_RELAXED) % 256 >= CALM)
		return 0;
	v[0] = (struct track_range){ { start, end }, start / PAGE % 3 ? TRACK_ANON : TRACK_FILE };
	return 1;
}

static int op_look(void *client, uint64_t start, uint64_t end, struct track_range *v, int max)
{
	uint64_t walk_end;

	return op_track(client, start, end, TRACK_MIXED, v, max, &walk_end);
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

static int op_give_back(void *client, uint64_t addr, uint64_t mask)
{
	(void)client;
	(void)addr;
	(void)mask;
	return -EAGAIN;
}

static int op_write(void *arena, uint32_t frame, const void *buf, uint32_t nr)
{
	(void)arena;
	(void)frame;
	(void)buf;
	(void)nr;
	return 0;
}

static int op_copy(void *arena, uint32_t from, uint32_t to, uint32_t nr, int nid)
{
	(void)from;
	(void)nid;
	return op_write(arena, to, NULL, nr);
}

static void op_nid(void *client, const uint64_t *addr, int nr, int *nids)
{
	(void)client;
	for (int i = 0; i < nr; i++)
		nids[i] = addr[i] / PAGE % 16 == 5;
}

static void op_frame_nids(void *arena, const uint32_t *frame, uint32_t nr, int *nids)
{
	(void)arena;
	for (uint32_t i = 0; i < nr; i++)
		nids[i] = (int)(frame[i] / ZONE) ^ (frame[i] % 16 == 5);
}

static int op_frame_move(void *arena, const uint32_t *frame, uint32_t nr, int to, int *nids)
{
	(void)to;
	for (uint32_t i = 0; i < nr; i++)
		op_frame_nids(arena, frame + i, 1, nids + i);
	return 0;
}

static uint32_t op_allow(void *arena, uint32_t least, uint32_t wish)
{
	(void)arena;
	return wish < 300 ? wish : least < 300 ? least : 300;
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
	.give_back = op_give_back,
	.frame_write = op_write,
	.frame_copy = op_copy,
	.nid = op_nid,
	.frame_nids = op_frame_nids,
	.frame_move = op_frame_move,
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

static struct client *client_new(struct world *w)
{
	struct client *c = calloc(1, sizeof(*c));

	c->w = w;
	pthread_mutex_init(&c->lock, NULL);
	__atomic_fetch_add(&w->clients, 1, __ATOMIC_RELAXED);
	c->mm = engine_mm_new(w->e, c, 7);
	must(engine_region_add(c->mm, BASE, BASE + PAGES * PAGE) == 0);
	return c;
}

static void client_end(struct client *c)
{
	struct mm_slot *mm = c->mm;

	engine_mm_exit(mm);
	mm_put(mm);
}

/* A child is there with some of the frames, while its parent goes. */
static struct client *forked(struct client *parent, uint64_t *rng)
{
	struct client *c = client_new(parent->w);

	engine_mm_set_family(c->mm, parent->mm->family);
	for (uint64_t page = 0; page < PAGES; page += 3)
		engine_adopt(c->mm, BASE + page * PAGE, 1,
			     (uint32_t)(fake_rand(rng) % (NODES * ZONE)));
	client_end(parent);
	return c;
}

static void live(struct world *w, uint64_t *rng)
{
	struct client *c = client_new(w);
	uint64_t a, b;
	int i;

	for (i = 0; i < 40; i++) {
		a = fake_rand(rng) % PAGES;
		b = a + 1 + fake_rand(rng) % (PAGES - a);
		switch (fake_rand(rng) % 9) {
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
		case 6:
			if (i % 8 == 0)
				c = forked(c, rng);
			break;
		default:
			answer(c, rng);
		}
	}
	client_end(c);
}

static void *clients_main(void *arg)
{
	struct world *w = arg;
	uint64_t rng = (uint64_t)(uintptr_t)&rng;
	int i;

	rcu_register_thread();
	/* Each life leaves hundreds of objects to call_rcu(), which sanitizers slow down. */
	for (i = 0; i < (w->calm ? FEW : ROUNDS) || !__atomic_load_n(&w->enough, __ATOMIC_RELAXED);
	     i++) {
		if (w->calm)
			usleep(i < FEW ? 500 : 20000);
		if (!w->calm || i < FEW || i % 8 == 0)
			live(w, &rng);
	}
	rcu_unregister_thread();
	return NULL;
}

/*
 * A client that stays, with orders all the while, so there is something to move. Now and then it
 * runs on another node.
 */
static void *resident_main(void *arg)
{
	struct world *w = arg;
	uint64_t rng = (uint64_t)(uintptr_t)&rng;
	struct client *c;

	rcu_register_thread();
	c = client_new(w);
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		answer(c, &rng);
		if (fake_rand(&rng) % 16 == 0)
			engine_mm_set_reader(c->mm, (int)(fake_rand(&rng) % NODES));
		engine_flush(w->e, ENGINE_FLUSH_RIPE);
		sched_yield();
	}
	client_end(c);
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

/* Have a node begin with something, if nothing moves there. */
static void begin(struct world *w, int nid, uint64_t *rng)
{
	enum job what = 1 + fake_rand(rng) % (JOBS - 1);
	uint32_t first = (uint32_t)nid * ZONE, frame;
	uint32_t part =
		first + (uint32_t)(fake_rand(rng) % (ZONE / PAGEBLOCK_FRAMES)) * PAGEBLOCK_FRAMES;
	int err;

	engine_online(w->e, nid, first, first + ZONE);
	if (what == MIGRATION)
		err = engine_migrate(w->e, nid, !nid);
	else if (what == COMPACTION)
		err = engine_compact(w->e, nid, false);
	else if (fake_rand(rng) % 2)
		err = engine_offline(w->e, nid, first, first + ZONE, !nid, &frame);
	else
		err = engine_offline(w->e, nid, part, part + PAGEBLOCK_FRAMES, nid, &frame);
	if (!err)
		w->job[nid] = what;
}

static enum engine_migrate move_on(struct world *w, int nid, uint64_t now)
{
	struct engine_compacted compacted = { 0 };
	struct engine_migrated moved = { 0 };
	struct engine_drained drained = { 0 };
	enum engine_migrate ret = ENGINE_MIGRATE_NONE;

	if (w->job[nid] == MIGRATION)
		ret = engine_migrate_step(w->e, nid, now, &moved);
	else if (w->job[nid] == DRAIN)
		ret = engine_drain_step(w->e, nid, now, &drained);
	else if (w->job[nid] == COMPACTION)
		ret = engine_compact_step(w->e, nid, now, &compacted);
	w->frames += moved.frames + drained.moved.frames + compacted.isolated;
	return ret;
}

static void *mover_main(void *arg)
{
	struct world *w = arg;
	uint64_t rng = 4711, now = 1, placed = 0;

	rcu_register_thread();
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE))
		for (int nid = 0; nid < NODES; nid++) {
			now += 1 + fake_rand(&rng) % 100;
			if (move_on(w, nid, now) <= ENGINE_MIGRATE_DONE) {
				w->ended[w->job[nid]]++;
				w->job[nid] = NOTHING;
				begin(w, nid, &rng);
			}
			engine_bring_back(w->e, nid, &placed);
			if (w->frames >= FRAMES && w->ended[MIGRATION] && w->ended[DRAIN] &&
			    w->ended[COMPACTION])
				__atomic_store_n(&w->enough, 1, __ATOMIC_RELAXED);
		}
	rcu_unregister_thread();
	return NULL;
}

/* It looks where pages lie, and sometimes has everything that moves end. */
static void *looker_main(void *arg)
{
	struct world *w = arg;
	uint64_t rng = 815;

	rcu_register_thread();
	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		int nid = (int)(fake_rand(&rng) % NODES);

		engine_survey(w->e, 1000);
		switch (fake_rand(&rng) % 300) {
		case 0:
			engine_migrate_end(w->e, nid);
			break;
		case 1:
			engine_drain_end(w->e, nid);
			break;
		case 2:
			engine_compact_end(w->e, nid);
			break;
		default:
			sched_yield();
		}
	}
	rcu_unregister_thread();
	return NULL;
}

static void *memory_get(void *arg, size_t bytes, unsigned int place)
{
	(void)arg;
	(void)place;
	return malloc(bytes);
}

static void memory_put(void *arg, void *p, size_t bytes)
{
	(void)arg;
	(void)bytes;
	free(p);
}

/*
 * Movers: beside it frames move, pages are looked for on other nodes, and records are copied there.
 */
static void clients_beside(bool movers)
{
	static struct world w;
	static const struct slab_memory memory = { memory_get, memory_put, NULL };
	struct engine_config cfg = { .ops = &ops,
				     .memory = movers ? &memory : NULL,
				     .knobs = &w.knobs,
				     .nr_nodes = movers ? NODES : 1,
				     .zone_frames = ZONE,
				     .hash_seed = 1 };
	pthread_t t[THREADS], scan[SCANNERS], resident[RESIDENTS], mover, looker;
	int i;

	w.enough = !movers;
	w.calm = movers;
	knobs_init(&w.knobs);
	w.e = engine_new(&cfg);
	ck_assert_ptr_nonnull(w.e);
	for (i = 0; i < SCANNERS; i++)
		ck_assert_int_eq(pthread_create(&scan[i], NULL, scan_main, &w), 0);
	for (i = 0; movers && i < RESIDENTS; i++)
		ck_assert_int_eq(pthread_create(&resident[i], NULL, resident_main, &w), 0);
	if (movers) {
		ck_assert_int_eq(pthread_create(&mover, NULL, mover_main, &w), 0);
		ck_assert_int_eq(pthread_create(&looker, NULL, looker_main, &w), 0);
	}
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, clients_main, &w), 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	__atomic_store_n(&w.stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < SCANNERS; i++)
		pthread_join(scan[i], NULL);
	if (movers) {
		pthread_join(mover, NULL);
		pthread_join(looker, NULL);
		for (i = 0; i < RESIDENTS; i++)
			pthread_join(resident[i], NULL);
		printf("%u migrations, %u drains, %u compactions; %llu frames moved\n",
		       w.ended[MIGRATION], w.ended[DRAIN], w.ended[COMPACTION],
		       (unsigned long long)w.frames);
	}
	engine_epoch_free(w.e, engine_epoch(w.e));
	engine_free(w.e);
	ck_assert_int_eq(w.released, w.clients);
	ck_assert_int_ge(w.released, THREADS * (movers ? FEW : ROUNDS));
}

START_TEST(clients_come_and_go)
{
	clients_beside(false);
}
END_TEST

START_TEST(clients_beside_movers)
{
	clients_beside(true);
}
END_TEST

Suite *suite_threads(void)
{
	Suite *s = suite_create("threads");
	TCase *tc = engine_case("threads");

	tcase_add_test(tc, clients_come_and_go);
	tcase_add_test(tc, clients_beside_movers);
	suite_add_tcase(s, tc);
	return s;
}
