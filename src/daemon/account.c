/* SPDX-License-Identifier: MIT */
/*
 * account.c - see account.h.
 *
 * An account comes into being with its first unit and goes with its last, so users that are gone
 * cost nothing, and the number of accounts is bounded by the number of connections and domains.
 */
#include "daemon/account.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Invariant: sum is the sum of held[], and above 0 except while charge_set() is at work. */
struct account {
	LIST_ENTRY(account) link;
	uid_t uid;
	uint64_t held[ACCOUNT_NR];
	uint64_t refused[ACCOUNT_NR];
	uint64_t sum;
	struct {
		uint64_t ms, since_ms; /* in calls since then; one began at that time */
		unsigned int calls;
	} waited;
	_Atomic uint64_t alone_until_ms;
};

void account_table_init(struct account_table *t)
{
	memset(t, 0, sizeof(*t));
	lock_init(&t->lock);
	for (unsigned int i = 0; i < ACCOUNT_BUCKETS; i++)
		LIST_INIT(&t->bucket[i]);
	t->share = ACCOUNT_SHARE_DEFAULT;
	for (int u = 0; u < ACCOUNT_NR; u++)
		t->most[u] = ACCOUNT_NO_LIMIT;
}

void account_table_deinit(struct account_table *t)
{
	assert(t->nr == 0);
	lock_deinit(&t->lock);
}

static struct account *find(struct account_table *t, uid_t uid) NEEDS(t->lock);
static struct account *find(struct account_table *t, uid_t uid)
{
	struct account *a;

	LIST_FOREACH(a, &t->bucket[uid % ACCOUNT_BUCKETS], link)
	if (a->uid == uid)
		break;
	return a;
}

static struct account *find_or_make(struct account_table *t, uid_t uid) NEEDS(t->lock);
static struct account *find_or_make(struct account_table *t, uid_t uid)
{
	struct account *a = find(t, uid);

	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->uid = uid;
	LIST_INSERT_HEAD(&t->bucket[uid % ACCOUNT_BUCKETS], a, link);
	t->nr++;
	return a;
}

static void drop_if_empty(struct account_table *t, struct account *a) NEEDS(t->lock);
static void drop_if_empty(struct account_table *t, struct account *a)
{
	if (a->sum)
		return;
	LIST_REMOVE(a, link);
	t->nr--;
	free(a);
}

/* How much more the account may hold. Limits are numbers of bytes at most, far below 2^57. */
static uint64_t room(const struct account_table *t, const struct account *a, bool common,
		     enum account_unit unit) NEEDS(t->lock);
static uint64_t room(const struct account_table *t, const struct account *a, bool common,
		     enum account_unit unit)
{
	uint64_t left = t->most[unit] > t->total[unit] ? t->most[unit] - t->total[unit] : 0;
	uint64_t others = 100 - t->share, taken = a->held[unit];

	if (t->most[unit] == ACCOUNT_NO_LIMIT || common)
		return left;
	/* With n more: (taken + n) * others <= (left - n) * share. */
	return left * t->share > taken * others ? (left * t->share - taken * others) / 100 : 0;
}

static void hold(struct account_table *t, struct charge *c, enum account_unit unit, uint64_t n)
	NEEDS(t->lock);
static void hold(struct account_table *t, struct charge *c, enum account_unit unit, uint64_t n)
{
	uint64_t more = n - c->held[unit]; /* wraps when it gives back */

	t->total[unit] += more;
	c->account->held[unit] += more;
	c->account->sum += more;
	c->held[unit] = n;
}

/* One step of a charge; it holds an account, which stays even if it is empty now. */
static int move(struct account_table *t, struct charge *c, enum account_unit unit, uint64_t least,
		uint64_t wish, bool noted) NEEDS(t->lock);
static int move(struct account_table *t, struct charge *c, enum account_unit unit, uint64_t least,
		uint64_t wish, bool noted)
{
	uint64_t now = c->held[unit], most;

	if (wish > now && !noted) {
		most = room(t, c->account, c->common, unit);
		most = most > wish - now ? wish : now + most;
		if (most < least) {
			t->refused[unit]++;
			c->account->refused[unit]++;
			return -EDQUOT;
		}
		wish = most;
	}
	hold(t, c, unit, wish);
	return 0;
}

static uint64_t held(const struct charge *c)
{
	uint64_t sum = 0;

	for (int u = 0; u < ACCOUNT_NR; u++)
		sum += c->held[u];
	return sum;
}

static int charge(struct account_table *t, struct charge *c, uid_t uid, enum account_unit unit,
		  uint64_t least, uint64_t wish, bool noted)
{
	struct account *a;
	int err = -ENOMEM;

	lock_take(&t->lock);
	a = c->account ? c->account : find_or_make(t, uid);
	if (a) {
		c->table = t;
		c->account = a;
		err = move(t, c, unit, least, wish, noted);
		if (!held(c))
			c->account = NULL;
		drop_if_empty(t, a);
	}
	lock_give(&t->lock);
	return err;
}

int charge_some(struct account_table *t, struct charge *c, uid_t uid, enum account_unit unit,
		uint64_t least, uint64_t wish)
{
	return charge(t, c, uid, unit, least, wish, false);
}

int charge_note(struct account_table *t, struct charge *c, uid_t uid, enum account_unit unit,
		uint64_t n)
{
	return charge(t, c, uid, unit, n, n, true);
}

void charge_drop(struct charge *c)
{
	struct account_table *t = c->table;

	if (!c->account)
		return;
	lock_take(&t->lock);
	for (int u = 0; u < ACCOUNT_NR; u++)
		hold(t, c, (enum account_unit)u, 0);
	drop_if_empty(t, c->account);
	c->account = NULL;
	lock_give(&t->lock);
}

struct account *charge_account(const struct charge *c)
{
	return c->account;
}

void account_waited(struct account_table *t, struct account *a, uint64_t ms, uint64_t now_ms)
{
	lock_take(&t->lock);
	/* Before this call it was less than a fifth of the time: begin with this one. */
	if (!a->waited.calls || now_ms - ms - a->waited.since_ms > 5 * a->waited.ms) {
		a->waited.since_ms = now_ms - ms;
		a->waited.ms = a->waited.calls = 0;
	}
	a->waited.ms += ms;
	if (++a->waited.calls >= WAITED_CALLS && a->waited.ms >= WAITED_ENOUGH_MS) {
		a->alone_until_ms = now_ms + 4 * a->waited.ms;
		a->waited.calls = 0;
	}
	lock_give(&t->lock);
}

bool account_left_alone(const struct account *a, uint64_t now_ms)
{
	return atomic_load_explicit(&a->alone_until_ms, memory_order_relaxed) > now_ms;
}

static void copy_view(const struct account *a, struct account_view *v)
{
	v->uid = a->uid;
	memcpy(v->held, a->held, sizeof(v->held));
	memcpy(v->refused, a->refused, sizeof(v->refused));
}

void account_read(struct account_table *t, uid_t uid, struct account_view *v)
{
	struct account *a;

	*v = (struct account_view){ .uid = uid };
	lock_take(&t->lock);
	a = find(t, uid);
	if (a)
		copy_view(a, v);
	lock_give(&t->lock);
}

uint64_t account_total(struct account_table *t, enum account_unit unit)
{
	uint64_t total;

	lock_take(&t->lock);
	total = t->total[unit];
	lock_give(&t->lock);
	return total;
}

void account_limits(struct account_table *t, struct account_limits *l)
{
	lock_take(&t->lock);
	memcpy(l->most, t->most, sizeof(l->most));
	memcpy(l->refused, t->refused, sizeof(l->refused));
	l->share = t->share;
	lock_give(&t->lock);
}

void account_limit(struct account_table *t, enum account_unit unit, uint64_t most)
{
	lock_take(&t->lock);
	t->most[unit] = most;
	lock_give(&t->lock);
}

void account_share(struct account_table *t, unsigned int percent)
{
	lock_take(&t->lock);
	t->share = percent;
	lock_give(&t->lock);
}

static int compare_uids(const void *a, const void *b)
{
	uid_t x = ((const struct account_view *)a)->uid, y = ((const struct account_view *)b)->uid;

	return x < y ? -1 : x > y;
}

struct account_view *account_each(struct account_table *t, unsigned int *nr)
{
	struct account_view *v;
	struct account *a;

	*nr = 0;
	lock_take(&t->lock);
	v = t->nr ? malloc(t->nr * sizeof(*v)) : NULL;
	for (unsigned int i = 0; v && i < ACCOUNT_BUCKETS; i++)
		LIST_FOREACH(a, &t->bucket[i], link)
	copy_view(a, &v[(*nr)++]);
	lock_give(&t->lock);
	if (v)
		qsort(v, *nr, sizeof(*v), compare_uids);
	return v;
}
