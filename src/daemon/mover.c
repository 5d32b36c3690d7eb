/* SPDX-License-Identifier: MIT */
/*
 * mover.c - see mover.h.
 *
 * The engines do the work (engine/migrate.c) in steps of a millisecond or less, or what the kernel
 * takes to move 2,048 frames; between two steps this thread waits for clients' answers. It has a
 * thread of its own because `run` may be 0, and because a pass may take long; it gives way to the
 * programs as the scan thread does. The main thread asks, and may not wait for clients, so a store
 * to migrate_to begins a move and returns.
 */
#include "daemon/mover.h"

#include <errno.h>
#include <urcu.h>

#include "base/clock.h"
#include "daemon/client_view.h"
#include "daemon/crew.h"
#include "daemon/daemon.h"
#include "daemon/pace.h"

#define TWINS_PAUSE_MS 1000u

enum { MOVER_WORK = 1, MOVER_STOP = 2, MOVER_WANT = 4, MOVER_REST = 8 };

int mover_init(struct mover *m, struct daemon *d)
{
	int err;

	m->d = d;
	lock_init(&m->lock);
	drains_init(&m->drains, d);
	vacate_init(&m->vacate);
	compacts_init(&m->compacts, d);
	err = bell_init(&m->bell);
	return err ? err : steering_init(&m->steering);
}

/* --- the thread --- */

static void add(struct mover *m, int job, const struct domain *d, const struct engine_migrated *v)
{
	int pid = v->culprit.why ? client_pid_of(m->d->clients, v->culprit.client) : 0;
	struct mover_counts *c = &m->done[job];

	lock_take(&m->lock);
	engine_migrated_add(&c->sum, v);
	if (v->culprit.why) {
		c->domain = d->id;
		c->pid = pid;
	}
	lock_give(&m->lock);
	if (v->culprit.why && job < NUMA_MAX_NODES)
		vacate_blame(&m->vacate, job, d, &v->culprit, pid);
}

/* A step of a job in every domain. *due_ms: when the next is due; unchanged: never. */
static void step_job(struct mover *m, int job, struct domain **v, unsigned int nr, uint64_t *due_ms)
{
	bool active = false;

	for (unsigned int i = 0; i < nr; i++) {
		struct engine_migrated done = { 0 };
		uint64_t now = clock_ms();
		enum engine_migrate ret = engine_migrate_step(v[i]->engine, job, now, &done);

		if (ret == ENGINE_MIGRATE_NONE)
			continue;
		if (pace_next(ret, now, PACE_ANSWERS_MS, due_ms))
			active = true;
		else /* Frames have been retired. */
			bell_ring(&m->d->client_bell, CLIENTS_RETIRED);
		add(m, job, v[i], &done);
	}
	if (!active)
		m->to[job] = 0;
}

/*
 * Where contents stand twice on a node they are merged (engine_migrate_twins()). Each attempt is a
 * second after the one before: who did not answer then has had time to.
 */
static void merge_twins(struct mover *m, struct domain **v, unsigned int nr, uint64_t *due_ms)
{
	uint64_t now = clock_ms();
	bool any = false;

	for (unsigned int i = 0; i < nr; i++)
		any |= engine_wants_twins(v[i]->engine);
	if (!any || m->to[ENGINE_JOB_TWINS])
		return;
	if (now >= m->twins_ms) {
		m->to[ENGINE_JOB_TWINS] = 1;
		for (unsigned int i = 0; i < nr; i++)
			engine_migrate_twins(v[i]->engine); /* no memory: the next time, then */
		m->twins_ms = now + TWINS_PAUSE_MS;
		*due_ms = now;
	}
	*due_ms = u64_min(*due_ms, m->twins_ms);
}

/* Nodes that are to be empty: the next round of moves from each. */
static void empty_nodes(struct mover *m, struct domain **v, unsigned int nr, uint64_t *due_ms)
{
	for (int nid = 0; nid < m->d->topology->nr_nodes; nid++) {
		int to = vacate_step(&m->vacate, m->d->topology, nid, m->to[nid], v, nr, due_ms);

		if (to < 0)
			continue;
		m->to[nid] = to + 1;
		for (unsigned int i = 0; i < nr; i++)
			engine_migrate(v[i]->engine, nid, to); /* or the next round does */
	}
}

/* Are frames being moved for the operator? */
static bool is_busy(const struct mover *m)
{
	bool busy = false;

	for (int job = 0; job < ENGINE_JOBS; job++)
		busy |= m->to[job] && job != ENGINE_JOB_TWINS;
	return busy;
}

static uint64_t step(struct mover *m, uint32_t rung)
{
	uint64_t due_ms = CLOCK_NEVER;
	bool retired = false;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&m->d->domains, &nr);

	due_ms = u64_min(due_ms, node_watch_step(&m->watch, m->d->topology, v, nr, is_busy(m)));
	due_ms = u64_min(due_ms, steering_step(&m->steering, m->d->clients, &m->d->knobs,
					       m->d->topology, v, nr, &retired));
	if (retired)
		bell_ring(&m->d->client_bell, CLIENTS_RETIRED);
	empty_nodes(m, v, nr, &due_ms);
	for (int job = 0; job < ENGINE_JOBS; job++)
		if (m->to[job])
			step_job(m, job, v, nr, &due_ms);
	drains_step(&m->drains, v, nr, &due_ms);
	if (rung & MOVER_WANT)
		compacts_want(&m->compacts, v, nr);
	if (rung & MOVER_REST)
		compacts_rest(&m->compacts, v, nr);
	compacts_step(&m->compacts, v, nr, &due_ms);
	merge_twins(m, v, nr, &due_ms);
	domain_snapshot_free(v, nr);
	return due_ms;
}

static void *mover_main(void *arg)
{
	struct mover *m = arg;
	uint64_t due_ms = CLOCK_NEVER;
	uint32_t rung;

	rcu_register_thread();
	crew_nice();
	while (!((rung = bell_wait(&m->bell, due_ms)) & MOVER_STOP))
		due_ms = step(m, rung);
	rcu_unregister_thread();
	return NULL;
}

static int start(struct mover *m)
{
	int err = 0;

	lock_take(&m->lock);
	if (m->stopped)
		err = ESHUTDOWN;
	else if (!m->started)
		err = pthread_create(&m->thread, NULL, mover_main, m);
	if (!err && !m->started)
		pthread_setname_np(m->thread, "ksmd-move");
	m->started |= !err;
	lock_give(&m->lock);
	return -err;
}

int mover_watch(struct mover *m)
{
	int err = m->d->topology->nr_nodes > 1 ? start(m) : 0;

	if (!err && m->started)
		bell_ring(&m->bell, MOVER_WORK);
	return err;
}

void mover_look(struct mover *m)
{
	bell_ring(&m->bell, MOVER_WORK);
}

void mover_stop(struct mover *m)
{
	bool started;

	lock_take(&m->lock);
	m->stopped = true;
	started = m->started;
	lock_give(&m->lock);
	if (!started)
		return;
	bell_ring(&m->bell, MOVER_STOP);
	pthread_join(m->thread, NULL);
}

void mover_deinit(struct mover *m)
{
	bell_deinit(&m->bell);
	steering_deinit(&m->steering);
	drains_deinit(&m->drains);
	vacate_deinit(&m->vacate);
	compacts_deinit(&m->compacts);
	lock_deinit(&m->lock);
}

/* --- the main thread --- */

static void end_all(int job, struct domain **v, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		engine_migrate_end(v[i]->engine, job);
}

/* Is there such a node, and has it room for us, and a thread? */
static int prepare(struct mover *m, int job, int to)
{
	const struct numa_topology *t = m->d->topology;
	int err;

	if (to < 0 || to >= t->nr_nodes)
		return -ENXIO;
	if (m->to[job])
		return -EALREADY;
	err = t->ops->usable(m->d->topology, to);
	if (!err && !vacate_is_in_use(&m->vacate, to))
		err = -EHOSTDOWN;
	return err ? err : start(m);
}

int mover_begin(struct mover *m, int from, int to)
{
	unsigned int nr, begun = 0;
	struct domain **v;
	int err;

	if (to == from)
		return -ELOOP;
	if (!vacate_is_in_use(&m->vacate, from))
		return -EALREADY;
	err = prepare(m, from, to);
	if (err)
		return err;
	v = domain_table_snapshot(&m->d->domains, &nr);
	while (!err && begun < nr)
		err = engine_migrate(v[begun++]->engine, from, to);
	if (err)
		end_all(from, v, begun - 1);
	m->to[from] = to + 1;
	bell_ring(&m->bell, MOVER_WORK);
	domain_snapshot_free(v, nr);
	return err;
}

void mover_end(struct mover *m, int job)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&m->d->domains, &nr);

	end_all(job, v, nr);
	domain_snapshot_free(v, nr);
	bell_ring(&m->bell, MOVER_WORK);
}

int mover_begin_client(struct mover *m, pid_t pid, struct mm_slot *mm, int to)
{
	int err = prepare(m, ENGINE_JOB_CLIENT, to);

	if (err)
		return err;
	lock_take(&m->lock);
	m->client = pid;
	m->done[ENGINE_JOB_CLIENT] = (struct mover_counts){ 0 };
	lock_give(&m->lock);
	err = engine_migrate_client(mm, to);
	if (err)
		return err;
	m->to[ENGINE_JOB_CLIENT] = to + 1;
	bell_ring(&m->bell, MOVER_WORK);
	return 0;
}

void mover_end_client(struct mover *m, pid_t pid)
{
	if (m->client == pid)
		mover_end(m, ENGINE_JOB_CLIENT);
}

int mover_counts_client(struct mover *m, pid_t pid, struct mover_counts *out)
{
	return m->client == pid ? mover_counts(m, ENGINE_JOB_CLIENT, out) : -ENOENT;
}

int mover_offline(struct mover *m, int nid, uint32_t first, uint32_t end)
{
	int err = m->to[nid] ? -EALREADY : start(m);

	if (!err)
		err = drains_begin(&m->drains, nid, first, end,
				   vacate_nearest(&m->vacate, m->d->topology, nid));
	bell_ring(&m->bell, MOVER_WORK);
	return err;
}

void mover_offline_end(struct mover *m, int nid)
{
	drains_end(&m->drains, nid);
	bell_ring(&m->bell, MOVER_WORK);
}

int mover_claim(struct mover *m, struct domain *d, int nid, const struct engine_claim *c)
{
	int err = m->to[nid] ? -EALREADY : start(m);

	if (!err)
		err = drains_claim(&m->drains, d, nid, c);
	bell_ring(&m->bell, MOVER_WORK);
	return err;
}

void mover_claim_end(struct mover *m, struct domain *d, int nid)
{
	drains_claim_end(&m->drains, d, nid);
	bell_ring(&m->bell, MOVER_WORK);
}

void mover_claimed(struct mover *m, int nid, struct drains_node *out)
{
	drains_look_claim(&m->drains, nid, out);
}

int mover_vacate(struct mover *m, int nid)
{
	int err = m->to[nid] ? -EALREADY : start(m);

	if (!err)
		err = vacate_begin(&m->vacate, m->d->topology, nid);
	bell_ring(&m->bell, MOVER_WORK);
	return err;
}

void mover_vacate_end(struct mover *m, int nid)
{
	if (vacate_end(&m->vacate, nid))
		mover_end(m, nid);
}

int mover_compact(struct mover *m, int nid)
{
	int err = start(m);

	if (!err)
		err = compacts_begin(&m->compacts, nid);
	bell_ring(&m->bell, MOVER_WORK);
	return err;
}

void mover_compact_end(struct mover *m, int nid)
{
	compacts_end(&m->compacts, nid);
	bell_ring(&m->bell, MOVER_WORK);
}

void mover_compacted(struct mover *m, int nid, struct compacts_node *out)
{
	compacts_look(&m->compacts, nid, out);
}

void mover_want(struct mover *m)
{
	if (!start(m))
		bell_ring(&m->bell, MOVER_WANT);
}

void mover_rest(struct mover *m)
{
	if (!start(m))
		bell_ring(&m->bell, MOVER_REST);
}

int mover_online(struct mover *m, int nid, uint32_t first, uint32_t end)
{
	return drains_online(&m->drains, nid, first, end);
}

void mover_vacated(struct mover *m, int nid, struct vacate_node *out)
{
	vacate_look(&m->vacate, nid, out);
}

void mover_drained(struct mover *m, int nid, struct drains_node *out)
{
	drains_look(&m->drains, nid, out);
}

int mover_counts(struct mover *m, int job, struct mover_counts *out)
{
	lock_take(&m->lock);
	*out = m->done[job];
	lock_give(&m->lock);
	return m->to[job] - 1;
}
