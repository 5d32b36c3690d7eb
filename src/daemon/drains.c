/* SPDX-License-Identifier: MIT */
/* drains.c - see drains.h. */
#include "daemon/drains.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/client_view.h"
#include "daemon/daemon.h"
#include "daemon/pace.h"

void drains_init(struct drains *r, struct daemon *d)
{
	*r = (struct drains){ .d = d };
	lock_init(&r->lock);
}

void drains_deinit(struct drains *r)
{
	lock_deinit(&r->lock);
}

/* --- the main thread --- */

static void fail(struct drains_node *n, int err, const struct domain *d)
{
	n->err = err;
	n->domain = d->id;
}

static bool is_active(struct drains *r, const struct drains_node *n)
{
	bool active;

	lock_take(&r->lock);
	active = n->active;
	lock_give(&r->lock);
	return active;
}

static bool is_claiming(struct drains *r, int nid)
{
	return is_active(r, &r->claim[nid]);
}

int drains_begin(struct drains *r, int nid, uint32_t first, uint32_t end, int other)
{
	struct drains_node begun = { .first = first, .end = end };
	bool all = end - first == r->d->domains.zone_frames;
	int to = all ? other : nid, err = 0;
	unsigned int nr, i = 0;
	struct domain **v;

	if (to < 0)
		return -ENOMEM;
	if (is_claiming(r, nid))
		return -EALREADY;
	v = domain_table_snapshot(&r->d->domains, &nr);
	for (; !err && i < nr; i++) {
		err = engine_offline(v[i]->engine, nid, first, end, to, &begun.what.culprit.frame);
		if (err)
			fail(&begun, err, v[i]);
	}
	/* Those that have begun are put back by the mover. */
	for (unsigned int k = 0; err && k + 1 < i; k++)
		engine_drain_end(v[k]->engine, nid);
	begun.begun = !err;
	begun.active = !err || i > 1;
	if (err == -EBUSY)
		begun.what.why = "out of use or isolated already";
	if (err != -EALREADY) {
		lock_take(&r->lock);
		r->node[nid] = begun;
		lock_give(&r->lock);
	}
	domain_snapshot_free(v, nr);
	return err == -EBUSY ? -EADDRINUSE : err;
}

void drains_end(struct drains *r, int nid)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&r->d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		engine_drain_end(v[i]->engine, nid);
	domain_snapshot_free(v, nr);
}

static int online(struct domain **v, unsigned int nr, int nid, uint32_t first, uint32_t end)
{
	int err = 0;

	for (unsigned int i = 0; i < nr && !err; i++)
		err = engine_online(v[i]->engine, nid, first, end);
	return err;
}

int drains_online(struct drains *r, int nid, uint32_t first, uint32_t end)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&r->d->domains, &nr);
	int err = online(v, nr, nid, first, end);

	domain_snapshot_free(v, nr);
	return err;
}

void drains_look(struct drains *r, int nid, struct drains_node *out)
{
	lock_take(&r->lock);
	*out = r->node[nid];
	lock_give(&r->lock);
}

void drains_look_claim(struct drains *r, int nid, struct drains_node *out)
{
	lock_take(&r->lock);
	*out = r->claim[nid];
	lock_give(&r->lock);
}

int drains_claim(struct drains *r, struct domain *d, int nid, const struct engine_claim *c)
{
	struct drains_node begun = { .first = c->first, .end = c->end, .domain = d->id };
	int err;

	if (is_claiming(r, nid) || is_active(r, &r->node[nid]))
		return -EALREADY;
	err = engine_claim(d->engine, nid, c, &begun.what);
	if (err == -EALREADY || err == -EINVAL)
		return err;
	begun.err = err;
	begun.begun = begun.active = !err;
	lock_take(&r->lock);
	r->claim[nid] = begun;
	lock_give(&r->lock);
	return err == -EBUSY ? -EADDRINUSE : err;
}

void drains_claim_end(struct drains *r, struct domain *d, int nid)
{
	struct drains_node n;

	drains_look_claim(r, nid, &n);
	if (n.active && n.domain == d->id)
		engine_drain_end(d->engine, nid);
}

void drains_text(const struct drains_node *n, const char *done, char *out, size_t size)
{
	static const char *const failed[MOVE_FAILED_NR - 1] = { ENGINE_MOVE_FAILED_NAMES };
	const struct engine_culprit *who = &n->what.culprit;
	const char *why = who->why ? failed[who->why - 1] : n->what.why;

	if (n->active && !n->err)
		snprintf(out, size, "under way");
	else if (!n->err)
		snprintf(out, size, "%s", n->end ? done : "none");
	else
		snprintf(out, size, "%s domain %u frame %u client %d %s", strerrorname_np(-n->err),
			 n->domain, who->frame, n->pid, why ? why : "was put back");
}

/* --- the mover --- */

static int pid_of(const struct drains *r, const struct engine_drained *v)
{
	return v->culprit.client ? client_pid_of(r->d->clients, v->culprit.client) : 0;
}

/* The first failure is kept, and has the other domains put back. */
static void add(struct drains *r, int nid, const struct domain *d, const struct engine_drained *v)
{
	int pid = pid_of(r, v);
	struct drains_node *n = &r->node[nid];

	lock_take(&r->lock);
	if (v->err && !n->err) {
		n->what = *v;
		n->pid = pid;
		fail(n, v->err, d);
	}
	lock_give(&r->lock);
}

static void finish(struct drains *r, int nid, struct domain **v, unsigned int nr)
{
	struct drains_node n;

	drains_look(r, nid, &n);
	if (n.err && n.begun)
		online(v, nr, nid, n.first, n.end);
	lock_take(&r->lock);
	r->node[nid].active = false;
	lock_give(&r->lock);
}

static void step_node(struct drains *r, int nid, struct domain **v, unsigned int nr,
		      uint64_t *due_ms)
{
	bool active = false, failed = false;

	for (unsigned int i = 0; i < nr; i++) {
		struct engine_drained what = { 0 };
		uint64_t now = clock_ms();
		enum engine_migrate ret = engine_drain_step(v[i]->engine, nid, now, &what);

		if (ret == ENGINE_MIGRATE_NONE)
			continue;
		if (what.retired)
			bell_ring(&r->d->client_bell, CLIENTS_RETIRED);
		if (pace_next(ret, now, PACE_FREE_MS, due_ms)) {
			active = true;
			continue;
		}
		failed |= what.err != 0;
		add(r, nid, v[i], &what);
	}
	for (unsigned int i = 0; failed && i < nr; i++)
		engine_drain_end(v[i]->engine, nid);
	if (!active)
		finish(r, nid, v, nr);
}

/* d: its domain; NULL: that has ended. */
static void step_claim(struct drains *r, int nid, struct domain *d, uint64_t *due_ms)
{
	struct engine_drained what = { .err = -ENOENT, .why = "the domain has ended" };
	struct drains_node *n = &r->claim[nid];
	uint64_t now = clock_ms();
	int pid;

	if (d) {
		enum engine_migrate ret = engine_drain_step(d->engine, nid, now, &what);

		if (what.retired)
			bell_ring(&r->d->client_bell, CLIENTS_RETIRED);
		if (pace_next(ret, now, PACE_FREE_MS, due_ms))
			return;
	}
	pid = pid_of(r, &what);
	lock_take(&r->lock);
	n->what = what;
	n->pid = pid;
	n->err = what.err;
	n->first = what.first;
	n->end = what.end;
	n->active = false;
	lock_give(&r->lock);
}

static struct domain *find(struct domain **v, unsigned int nr, uint32_t id)
{
	for (unsigned int i = 0; i < nr; i++)
		if (v[i]->id == id)
			return v[i];
	return NULL;
}

void drains_step(struct drains *r, struct domain **v, unsigned int nr, uint64_t *due_ms)
{
	for (int nid = 0; nid < r->d->topology->nr_nodes; nid++) {
		struct drains_node n;

		drains_look(r, nid, &n);
		if (n.active)
			step_node(r, nid, v, nr, due_ms);
		drains_look_claim(r, nid, &n);
		if (n.active)
			step_claim(r, nid, find(v, nr, n.domain), due_ms);
	}
}
