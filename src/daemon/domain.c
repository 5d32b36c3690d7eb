/* SPDX-License-Identifier: MIT */
/* domain.c - see domain.h. */
#include "daemon/domain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/container.h"
#include "base/log.h"

/* Pages more than frames have before a sweep begins: 4 MiB, which nobody misses. */
#define STRAYS 1024u

/* Nobody knows it, and all callbacks of its clients have run. */
static void domain_free(struct domain *d)
{
	grace_deinit(&d->grace);
	if (d->engine)
		engine_free_quiet(d->engine);
	arena_free(d->arena);
	for (int i = 0; i < NS_NR; i++)
		if (d->ns[i] >= 0)
			close(d->ns[i]);
	charge_drop(&d->charge);
	free(d);
}

/* Of its arena, its namespaces and its sentinels, and as many more of these. */
static unsigned int nr_fds(const struct domain *d, unsigned int more)
{
	return (d->ns[NS_USER] >= 0 ? NS_NR : 0) + vault_file_fds(&d->arena->file) +
	       vault_file_fds(&d->grace.current->file) * (1 + d->grace.nr_old + more);
}

static void bury(struct undertaking *u)
{
	struct domain *d = container_of(u, struct domain, end);

	log_msg(LOG_DEBUG, "domain %u is gone", d->id);
	domain_free(d);
}

/*
 * What a domain costs its user: itself, and descriptors of its arena and sentinels, and of `more`
 * sentinels that are about to be made.
 */
static int charge_domain(struct account_table *t, struct domain *d, unsigned int more)
{
	int err = charge_set(t, &d->charge, d->uid, ACCOUNT_DOMAINS, 1);

	if (!err)
		err = charge_set(t, &d->charge, d->uid, ACCOUNT_DESCRIPTORS, nr_fds(d, more));
	if (!err)
		err = charge_set(t, &d->charge, d->uid, ACCOUNT_BYTES,
				 sizeof(*d) + sizeof(*d->arena));
	return err;
}

/* If the key names namespaces, keep them. Returns 0 or -errno. */
static int keep_namespaces(struct domain *d, const struct identity *id)
{
	for (int i = 0; i < NS_NR && d->key.ns_id[NS_USER]; i++) {
		d->ns[i] = fcntl(id->ns[i], F_DUPFD_CLOEXEC, 0);
		if (d->ns[i] < 0)
			return -errno;
	}
	return 0;
}

static struct domain *domain_new(struct domain_table *t, const struct domain_key *key,
				 const struct identity *id)
{
	/* A domain that the operator gave to several users is the daemon's own. */
	bool common = domain_key_is_ours(key);
	uid_t uid = common ? geteuid() : id->cred.uid;
	struct engine_config cfg = {
		.ops = t->ops,
		.knobs = t->knobs,
		.nr_nodes = t->topology->nr_nodes,
		.distance = t->topology->distance,
		.memory = node_memory_slab(t->memory),
		.one_client = key->kind == KIND_ALONE,
		.hash_seed = t->hash_seed,
	};
	struct domain *d = calloc(1, sizeof(*d));
	int err;

	if (!d)
		return NULL;
	TAILQ_INIT(&d->grace.old);
	TAILQ_INIT(&d->members);
	d->undertaker = &t->undertaker;
	d->end.bury = bury;
	d->key = *key;
	d->ns[NS_USER] = d->ns[NS_PID] = -1;
	d->uid = uid;
	d->refs = 1;
	d->charge.common = common;
	err = keep_namespaces(d, id);
	if (err) {
		errno = -err;
		goto fail;
	}
	d->arena = arena_new(t->topology, t->vault, t->accounts, uid, common, t->zone_frames);
	if (!d->arena)
		goto fail;
	d->arena->pagemap = t->pagemap;
	cfg.arena = d->arena;
	cfg.zone_frames = d->arena->zone_frames;
	cfg.guard_frames = t->guard_frames;
	cfg.reserve_frames = t->reserve_frames;
	errno = ENOMEM; /* engine_new() fails for no other reason */
	d->engine = engine_new(&cfg);
	if (!d->engine)
		goto fail;
	err = grace_init(&d->grace, t->vault, engine_epoch(d->engine));
	if (!err)
		err = charge_domain(t->accounts, d, 0);
	if (!err)
		return d;
	errno = -err;
fail:
	err = errno;
	domain_free(d);
	errno = err;
	return NULL;
}

void domain_table_init(struct domain_table *t)
{
	lock_init(&t->lock);
	TAILQ_INIT(&t->list);
	t->nr = 0;
	t->past = (struct engine_totals){ 0 };
	t->next_id = 1;
	t->pagemap = -1;
	undertaker_init(&t->undertaker);
}

int domain_table_start(struct domain_table *t)
{
	int err;

	t->memory = node_memory_new(t->topology);
	if (!t->memory && errno)
		return -errno;
	err = undertaker_start(&t->undertaker);
	if (err) {
		node_memory_free(t->memory);
		t->memory = NULL;
	}
	return err;
}

void domain_table_deinit(struct domain_table *t)
{
	struct domain *d;

	while ((d = TAILQ_FIRST(&t->list))) {
		TAILQ_REMOVE(&t->list, d, link);
		domain_put(d);
	}
	undertaker_stop(&t->undertaker);
	node_memory_free(t->memory);
	lock_deinit(&t->lock);
}

struct domain *domain_join(struct domain_table *t, const struct domain_key *key,
			   const struct identity *id)
{
	char text[DOMAIN_KEY_TEXT];
	struct domain *d;

	lock_take(&t->lock);
	TAILQ_FOREACH(d, &t->list, link)
	if (domain_key_equal(&d->key, key))
		break;
	if (!d) {
		d = domain_new(t, key, id);
		if (d) {
			d->id = t->next_id++;
			t->nr++;
			TAILQ_INSERT_TAIL(&t->list, d, link);
			domain_key_text(key, text);
			log_msg(LOG_DEBUG, "domain %u is that of %s", d->id, text);
		}
	}
	if (d && id->cred.uid != d->uid)
		d->mixed = true;
	if (d)
		d->nr_clients++;
	lock_give(&t->lock);
	return d;
}

bool domain_is_of(const struct domain *d, uid_t uid)
{
	return !d->mixed && d->uid == uid;
}

void domain_leave(struct domain *d)
{
	d->nr_clients--;
}

int domain_epoch_advance(struct domain *d)
{
	int err = charge_domain(d->charge.table, d, 1);

	if (!err)
		err = grace_advance(&d->grace, engine_epoch_advance(d->engine));
	charge_domain(d->charge.table, d, 0);
	return err;
}

void domain_epochs_free(struct domain *d, uint64_t now_ms)
{
	uint64_t upto = grace_poll(&d->grace, now_ms);

	if (!upto)
		return;
	charge_domain(d->charge.table, d, 0);
	engine_epoch_free(d->engine, upto);
}

void domain_sweep(struct domain *d)
{
	if (arena_nr_pages(d->arena) <= engine_nr_in_memory(d->engine) + STRAYS)
		return;
	for (uint32_t f = 0; f != KSM_FRAME_NONE; f = engine_sweep(d->engine, f))
		;
}

int domain_open_sentinel(struct domain *d)
{
	int fd = grace_open_shared(&d->grace), err;

	if (fd != -EWOULDBLOCK)
		return fd;
	err = domain_epoch_advance(d);
	return err ? err : grace_open_shared(&d->grace);
}

struct domain **domain_table_snapshot(struct domain_table *t, unsigned int *nr)
{
	struct domain **v = NULL, *d;

	*nr = 0;
	lock_take(&t->lock);
	if (t->nr)
		v = malloc(t->nr * sizeof(*v));
	if (v) {
		TAILQ_FOREACH(d, &t->list, link)
		{
			d->refs++;
			v[(*nr)++] = d;
		}
	}
	lock_give(&t->lock);
	return v;
}

void domain_snapshot_free(struct domain **v, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		domain_put(v[i]);
	free(v);
}

struct domain *domain_find(struct domain_table *t, uint32_t id)
{
	struct domain *d;

	lock_take(&t->lock);
	TAILQ_FOREACH(d, &t->list, link)
	if (d->id == id)
		break;
	if (d)
		d->refs++;
	lock_give(&t->lock);
	return d;
}

void domain_put(struct domain *d)
{
	if (!--d->refs)
		undertaker_take(d->undertaker, &d->end);
}

/* *c: its counters, if it is. */
static bool domain_empty(struct domain *d, struct engine_counters *c)
{
	*c = (struct engine_counters){ 0 };
	if (d->nr_clients)
		return false;
	engine_counters(d->engine, c);
	return c->frames_used == 0 && c->frames_retired == 0;
}

void domain_table_reap(struct domain_table *t)
{
	TAILQ_HEAD(, domain) gone = TAILQ_HEAD_INITIALIZER(gone);
	struct engine_counters last;
	struct domain *d, *next;

	lock_take(&t->lock);
	for (d = TAILQ_FIRST(&t->list); d; d = next) {
		next = TAILQ_NEXT(d, link);
		if (domain_empty(d, &last)) {
			engine_totals_add(&t->past, &last.total);
			TAILQ_REMOVE(&t->list, d, link);
			t->nr--;
			TAILQ_INSERT_TAIL(&gone, d, link);
		}
	}
	lock_give(&t->lock);
	while ((d = TAILQ_FIRST(&gone))) {
		TAILQ_REMOVE(&gone, d, link);
		domain_put(d);
	}
}

uint64_t domain_table_orders(struct domain_table *t)
{
	uint64_t orders = 0;
	struct domain *d;

	lock_take(&t->lock);
	TAILQ_FOREACH(d, &t->list, link)
	orders += engine_nr_orders(d->engine);
	lock_give(&t->lock);
	return orders;
}

void domain_table_counters(struct domain_table *t, struct engine_counters *sum)
{
	struct domain *d;

	lock_take(&t->lock);
	engine_totals_add(&sum->total, &t->past);
	TAILQ_FOREACH(d, &t->list, link)
	engine_counters(d->engine, sum);
	lock_give(&t->lock);
}
