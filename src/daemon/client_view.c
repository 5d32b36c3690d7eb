/* SPDX-License-Identifier: MIT */
/* client_view.c - see client_view.h. */
#include "daemon/client_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include "base/clock.h"
#include "daemon/clients.h"
#include "daemon/domain.h"

static void view(struct session *s, struct client_view *v)
{
	memset(v, 0, sizeof(*v));
	v->pid = s->pid;
	v->uid = s->uid;
	v->id = s->id;
	v->domain_id = s->domain->id;
	v->merge_any = s->flags & KSM_INFO_MERGE_ANY;
	v->stalled = session_stalled(s);
	v->ready = session_told(s);
	v->short_of_memory = s->flags & KSM_INFO_SHORT;
	v->nameless = s->nameless;
	v->max_map_count = s->max_map_count;
	v->agent_cpu_ns = s->agent_cpu_ns;
	v->connected_ms = clock_ms() - s->accepted_ms;
	mm_counters(s->mm, &v->mm);
	for (int i = 0; i < KSM_LEFT_NR; i++)
		v->left_out[i] = v->mm.left_out[i];
	for (int i = 0; i < KSM_LEFT_CLIENT_NR; i++)
		v->left_out[i] += s->left_out[i];
	v->profit = session_profit(&v->mm);
}

int client_view(struct clients *c, pid_t pid, struct client_view *v)
{
	struct session *s;

	rcu_read_lock();
	s = clients_find(c, pid);
	if (s)
		view(s, v);
	rcu_read_unlock();
	return s ? 0 : -ENOENT;
}

bool client_owned(struct clients *c, pid_t pid, uid_t uid)
{
	const struct session *s;
	bool owned;

	rcu_read_lock();
	s = clients_find(c, pid);
	owned = s && s->uid == uid;
	rcu_read_unlock();
	return owned;
}

static int compare_pids(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

pid_t *client_pids(struct clients *c, unsigned int *nr)
{
	size_t room = c->nr_clients + 64, found = 0; /* some more may come meanwhile */
	pid_t *v = malloc(room * sizeof(*v));
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	*nr = 0;
	if (!v)
		return NULL;
	rcu_read_lock();
	cds_lfht_for_each(c->by_pid, &iter, node)
		if (found < room)
			v[found++] = clients_node(node)->pid;
	rcu_read_unlock();
	qsort(v, found, sizeof(*v), compare_pids);
	for (size_t i = 0; i < found; i++)
		if (!i || v[i] != v[i - 1])
			v[(*nr)++] = v[i];
	return v;
}

/* Pids of those of which `is` is true, at most `max` in v[]. Returns how many. */
static unsigned int pids_of(struct clients *c, bool (*is)(const struct session *s, const void *arg),
			    const void *arg, pid_t *v, unsigned int max)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;
	unsigned int nr = 0;

	rcu_read_lock();
	cds_lfht_for_each(c->by_pid, &iter, node) {
		const struct session *s = clients_node(node);

		if (nr < max && is(s, arg))
			v[nr++] = s->pid;
	}
	rcu_read_unlock();
	return nr;
}

static bool has_id(const struct session *s, const void *id)
{
	return s->id == *(const uint32_t *)id;
}

pid_t client_pid_of(struct clients *c, uint32_t id)
{
	pid_t pid = 0;

	pids_of(c, has_id, &id, &pid, 1);
	return pid;
}

struct lag {
	uint32_t domain_id;
	uint64_t epoch;
};

static bool lags(const struct session *s, const void *arg)
{
	const struct lag *l = arg;

	return s->mm && s->domain->id == l->domain_id && s->epoch_done < l->epoch;
}

unsigned int client_laggards(struct clients *c, uint32_t domain_id, uint64_t epoch, pid_t *v,
			     unsigned int max)
{
	const struct lag lag = { domain_id, epoch };

	return pids_of(c, lags, &lag, v, max);
}

static bool owes_answers(const struct session *s, const void *arg)
{
	(void)arg;
	return s->nr_orders;
}

unsigned int client_debtors(struct clients *c, pid_t *v, unsigned int max)
{
	return pids_of(c, owes_answers, NULL, v, max);
}

void client_totals(struct clients *c, struct client_totals *out)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	memset(out, 0, sizeof(*out));
	rcu_read_lock();
	cds_lfht_for_each(c->by_pid, &iter, node) {
		struct session *s = clients_node(node);
		struct mm_counters mm = { 0 };

		mm_counters(s->mm, &mm);
		out->nr_short += !!(s->flags & KSM_INFO_SHORT);
		out->added_vmas += mm.added_vmas;
		out->nameless += s->nameless;
		for (int i = 0; i < KSM_LEFT_CLIENT_NR; i++)
			out->left_out[i] += s->left_out[i];
	}
	rcu_read_unlock();
}

void client_counts(const struct clients *c, struct client_counts *out)
{
	out->nr_clients = c->nr_clients;
	out->protocol_errors = c->protocol_errors;
	out->refused = c->refused;
	out->domains_refused = c->domains_refused;
	out->alone = c->alone;
	out->other_version = c->other_version;
}

unsigned int client_outdated(struct clients *c, struct client_outdated *v, unsigned int max)
{
	unsigned int nr = 0;

	rcu_read_lock();
	for (unsigned int i = 0; i < CLIENTS_OUTDATED && nr < max; i++) {
		uint64_t who = c->outdated[i];

		if (who && !clients_find(c, (pid_t)(who >> 32)))
			v[nr++] = (struct client_outdated){ (pid_t)(who >> 32), (uint32_t)who };
	}
	rcu_read_unlock();
	return nr;
}
