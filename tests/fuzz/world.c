/* SPDX-License-Identifier: MIT */
/*
 * world.c - see world.h. It takes the place of main.c, scan_thread.c and mover.c, whose threads it
 * plays in turn.
 */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>
#include <urcu/rculfhash.h>

#include "base/container.h"
#include "daemon/control.h"
#include "daemon/mover.h"
#include "daemon/scan_thread.h"
#include "base/log.h"
#include "daemon/client_ops.h"
#include "daemon/client_thread.h"
#include "engine/engine.h"
#include "numa/numa_emulated.h"

int os_close(int fd);

#define ARENA_SPAN (1ull << 26) /* of each zone: more frames than a run can fill */

static struct cds_lfht *keep;

uint8_t take8(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

uint16_t take16(struct input *in)
{
	uint16_t v = take8(in);

	return (uint16_t)(v | take8(in) << 8);
}

uint32_t take32(struct input *in)
{
	uint32_t v = take8(in);

	v |= (uint32_t)take8(in) << 8;
	v |= (uint32_t)take8(in) << 16;
	return v | (uint32_t)take8(in) << 24;
}

/* ---- what the rest of the daemon calls ---- */

void scan_stats(struct scan *s, struct scan_stats *out)
{
	struct daemon *d = (struct daemon *)(void *)s;

	*out = (struct scan_stats){ .full_scans = d->full_scans };
}

unsigned int scan_threads_on(const struct scan *s, int nid)
{
	(void)s;
	(void)nid;
	return 0;
}

int mover_begin(struct mover *m, int from, int to)
{
	struct daemon *d = (struct daemon *)(void *)m;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);
	int err = 0;

	for (unsigned int i = 0; i < nr && !err; i++)
		err = engine_migrate(v[i]->engine, from, to);
	domain_snapshot_free(v, nr);
	return err;
}

void mover_end(struct mover *m, int from)
{
	struct daemon *d = (struct daemon *)(void *)m;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		engine_migrate_end(v[i]->engine, from);
	domain_snapshot_free(v, nr);
}

int mover_begin_client(struct mover *m, pid_t pid, struct mm_slot *mm, int to)
{
	(void)m;
	(void)pid;
	return engine_migrate_client(mm, to);
}

void mover_end_client(struct mover *m, pid_t pid)
{
	(void)pid;
	mover_end(m, ENGINE_JOB_CLIENT);
}

int mover_counts_client(struct mover *m, pid_t pid, struct mover_counts *out)
{
	(void)m;
	(void)pid;
	(void)out;
	return -ENOENT;
}

int mover_vacate(struct mover *m, int nid)
{
	struct daemon *d = (struct daemon *)(void *)m;

	return mover_begin(m, nid, (nid + 1) % d->topology->nr_nodes);
}

void mover_vacate_end(struct mover *m, int nid)
{
	mover_end(m, nid);
}

void mover_vacated(struct mover *m, int nid, struct vacate_node *out)
{
	(void)m;
	(void)nid;
	*out = (struct vacate_node){ 0 };
}

/* The world looks after every input. */
void mover_look(struct mover *m)
{
	(void)m;
}

int mover_offline(struct mover *m, int nid, uint32_t first, uint32_t end)
{
	struct daemon *d = (struct daemon *)(void *)m;
	bool all = end - first == d->domains.zone_frames;
	uint32_t frame;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);
	int err = 0, to = all ? (nid + 1) % d->topology->nr_nodes : nid;

	for (unsigned int i = 0; i < nr && !err; i++)
		err = engine_offline(v[i]->engine, nid, first, end, to, &frame);
	domain_snapshot_free(v, nr);
	return err;
}

void mover_offline_end(struct mover *m, int nid)
{
	struct daemon *d = (struct daemon *)(void *)m;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		engine_drain_end(v[i]->engine, nid);
	domain_snapshot_free(v, nr);
}

int mover_online(struct mover *m, int nid, uint32_t first, uint32_t end)
{
	struct daemon *d = (struct daemon *)(void *)m;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);
	int err = 0;

	for (unsigned int i = 0; i < nr && !err; i++)
		err = engine_online(v[i]->engine, nid, first, end);
	domain_snapshot_free(v, nr);
	return err;
}

int mover_claim(struct mover *m, struct domain *d, int nid, const struct engine_claim *c)
{
	struct engine_drained what;

	(void)m;
	return engine_claim(d->engine, nid, c, &what);
}

void mover_claim_end(struct mover *m, struct domain *d, int nid)
{
	(void)m;
	engine_drain_end(d->engine, nid);
}

void mover_claimed(struct mover *m, int nid, struct drains_node *out)
{
	(void)m;
	(void)nid;
	*out = (struct drains_node){ 0 };
}

int mover_compact(struct mover *m, int nid)
{
	struct daemon *d = (struct daemon *)(void *)m;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);
	int err = 0;

	for (unsigned int i = 0; i < nr && !err; i++)
		err = engine_compact(v[i]->engine, nid,
				     engine_wants_compaction(v[i]->engine, nid) ? COMPACT_DIRECT :
										  COMPACT_ALL);
	domain_snapshot_free(v, nr);
	return err;
}

void mover_compact_end(struct mover *m, int nid)
{
	struct daemon *d = (struct daemon *)(void *)m;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		engine_compact_end(v[i]->engine, nid);
	domain_snapshot_free(v, nr);
}

void mover_compacted(struct mover *m, int nid, struct compacts_node *out)
{
	(void)m;
	(void)nid;
	*out = (struct compacts_node){ 0 };
}

void mover_drained(struct mover *m, int nid, struct drains_node *out)
{
	(void)m;
	(void)nid;
	*out = (struct drains_node){ 0 };
}

int mover_counts(struct mover *m, int nid, struct mover_counts *out)
{
	(void)m;
	(void)nid;
	memset(out, 0, sizeof(*out));
	return -1;
}

/* ---- life ---- */

void world_init(void)
{
	rcu_register_thread();
	log_set_level("error");
	/* Otherwise every run would start and end liburcu's worker thread. */
	keep = cds_lfht_new(1, 1, 0, CDS_LFHT_AUTO_RESIZE, NULL);
	os_must(keep);
}

static struct os_file *listener(int *fd)
{
	struct os_file *f = os_file_new(OS_LISTEN);

	*fd = os_fd_new(f);
	return f;
}

static void on_bell(struct bell *b, uint32_t bits)
{
	struct world *w = container_of(b, struct world, d.main_bell);

	(void)bits;
	control_finish(w->control);
}

static bool start(struct world *w)
{
	int fd;

	if (loop_init(&w->loop) || bell_init(&w->d.main_bell) || bell_init(&w->d.scan_bell) ||
	    bell_hang(&w->d.main_bell, &w->loop, on_bell))
		return false;
	w->client_listen = listener(&fd);
	w->d.clients = client_thread_new(&w->d, fd);
	if (!w->d.clients)
		return false;
	w->control_listen = listener(&fd);
	groups_register(&w->groups, &w->d);
	w->control = control_new(&w->groups.tree, &w->d.operators, &w->loop, &w->d.closer, fd);
	return w->control;
}

bool world_start(struct world *w, enum domain_mode mode, int nr_nodes)
{
	char rules[] = "both user:0\nboth user:500\none user:500 cgroup:/some\n";
	const char *why;

	memset(w, 0, sizeof(*w));
	w->d.main_bell.event = w->d.scan_bell.event = -1;
	knobs_init(&w->d.knobs);
	w->loop.epoll = -1;
	os_fault_hold(true);
	w->d.topology = numa_emulated_new(nr_nodes);
	os_fault_hold(false);
	w->d.topology_spec = "emulated";
	w->d.start_ms = 1;
	w->d.allowed.all = true;
	w->d.witness.beside.sock = -1;
	labels_parse(&w->d.labels, rules, &why);
	w->d.domains.mode = mode;
	w->d.domains.ops = &client_ops;
	w->d.domains.accounts = &w->d.accounts;
	w->d.domains.knobs = &w->d.knobs;
	w->d.domains.topology = w->d.topology;
	w->d.vault = (struct vault){ -1, -1 };
	w->d.domains.vault = &w->d.vault;
	w->d.domains.hash_seed = 42;
	w->d.domains.zone_frames = arena_zone_frames(nr_nodes, 0, ARENA_SPAN);
	w->d.uffd_dev = os_fd_new(os_file_new(OS_PLAIN));
	w->d.scan = (struct scan *)(void *)&w->d; /* what scan_stats() above takes it for */
	w->d.mover = (struct mover *)(void *)&w->d;
	account_table_init(&w->d.accounts);
	closer_init(&w->d.closer, &w->d.accounts);
	domain_table_init(&w->d.domains);
	if (start(w))
		return true;
	world_stop(w);
	return false;
}

void world_stop(struct world *w)
{
	if (w->control)
		control_free(w->control);
	if (w->d.clients) {
		client_thread_stop(w->d.clients);
		os_run_rcu();
	}
	domain_table_deinit(&w->d.domains);
	if (w->d.clients)
		client_thread_free(w->d.clients);
	account_table_deinit(&w->d.accounts);
	labels_drop(&w->d.labels);
	bell_deinit(&w->d.main_bell);
	bell_deinit(&w->d.scan_bell);
	loop_deinit(&w->loop);
	numa_topology_close(w->d.topology);
	os_close(w->d.uffd_dev);
	os_run_rcu();
	os_must(!os_nr_open(), "the daemon left %u descriptors open", os_nr_open());
}

/* ---- turns ---- */

void world_clients(struct world *w)
{
	client_thread_turn(w->d.clients);
	os_run_rcu();
}

void world_control(struct world *w)
{
	loop_turn(&w->loop);
	os_run_rcu();
}

static void each_domain(struct world *w, void (*fn)(struct domain *d, void *arg), void *arg)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&w->d.domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		fn(v[i], arg);
	domain_snapshot_free(v, nr);
	os_run_rcu();
}

static void cancel(struct domain *d, void *arg)
{
	(void)arg;
	engine_cancel_orders(d->engine);
}

struct scan_arg {
	struct world *w;
	int64_t budget;
	bool flush_all;
};

static void scan(struct domain *d, void *arg)
{
	struct scan_arg *a = arg;
	int64_t budget = a->budget;

	if (knob_get(&a->w->d.knobs, KNOB_RUN) == KSM_RUN_MERGE)
		a->w->d.full_scans += engine_scan(d->engine, 0, &budget) == ENGINE_SCAN_PASS;
	if (knob_get(&a->w->d.knobs, KNOB_RUN) == KSM_RUN_MERGE)
		engine_flush(d->engine, a->flush_all ? ENGINE_FLUSH_PASS : ENGINE_FLUSH_RIPE);
	for (int nid = 0; nid < a->w->d.topology->nr_nodes; nid++) {
		struct engine_migrated done = { 0 };
		struct engine_drained drained = { 0 };
		struct engine_compacted compacted = { 0 };

		if (!engine_drain_step(d->engine, nid, os_now_ms(), &drained) &&
		    !engine_compact_step(d->engine, nid, os_now_ms(), &compacted))
			engine_migrate_step(d->engine, nid, os_now_ms(), &done);
	}
	if (engine_wants_twins(d->engine))
		engine_migrate_twins(d->engine);
	for (int job = ENGINE_JOB_CLIENT; job < ENGINE_JOBS; job++) {
		struct engine_migrated done = { 0 };

		engine_migrate_step(d->engine, job, os_now_ms(), &done);
	}
	if (engine_nr_retired(d->engine))
		bell_ring(&a->w->d.client_bell, CLIENTS_RETIRED);
}

void world_scan(struct world *w, int64_t budget, bool flush_all)
{
	struct scan_arg a = { w, budget, flush_all };

	if (w->d.unmerge.state == UNMERGE_DONE) /* the main thread has answered the operator */
		unmerge_job_move(&w->d.unmerge, UNMERGE_IDLE);
	if (w->d.unmerge.state == UNMERGE_QUIESCE) {
		each_domain(w, cancel, NULL);
		if (w->d.unmerge.stop) {
			unmerge_job_move(&w->d.unmerge, UNMERGE_DONE);
			return;
		}
		unmerge_job_move(&w->d.unmerge, UNMERGE_SEND);
		bell_ring(&w->d.client_bell, CLIENTS_UNMERGE);
		return;
	}
	each_domain(w, scan, &a);
}

static void check(struct domain *d, void *arg)
{
	char msg[256] = "";

	(void)arg;
	os_must(!engine_check(d->engine, msg, sizeof(msg)), "domain %u: %s", d->id, msg);
}

void world_check(struct world *w)
{
	os_fault_hold(true);
	each_domain(w, check, NULL);
	os_fault_hold(false);
}
