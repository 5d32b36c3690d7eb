/* SPDX-License-Identifier: MIT */
/*
 * client_view.h - what the control side may see of clients.
 *
 * Every function may be called from any thread that is registered with liburcu, while the client
 * thread goes on: a view is a copy, and a client may be gone by the time it is read.
 */
#ifndef KSMD_CLIENT_VIEW_H
#define KSMD_CLIENT_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/engine.h"

struct clients;

struct client_view {
	pid_t pid;
	uid_t uid;
	uint32_t id, domain_id;
	bool merge_any, stalled, short_of_memory, ready;
	uint32_t max_map_count;
	uint64_t agent_cpu_ns, connected_ms;
	uint64_t nameless;              /* pages on frames that it named */
	uint64_t left_out[KSM_LEFT_NR]; /* the client's own reasons and ours */
	struct mm_counters mm;
	int64_t profit; /* bytes saved less all metadata spent on it */
};
/* Returns 0 or -ENOENT. */
int client_view(struct clients *c, pid_t pid, struct client_view *v);
/* Is it a client of this user? It costs the same whether there is such a client or not. */
bool client_owned(struct clients *c, pid_t pid, uid_t uid);
/*
 * Pids of all clients, ascending, each once: *nr of them, for the caller to free. NULL: no memory.
 */
pid_t *client_pids(struct clients *c, unsigned int *nr);

/* Pid of the client of that id, 0 when it has gone. Looks at all; registered with liburcu. */
pid_t client_pid_of(struct clients *c, uint32_t id);

/*
 * Pids of clients of a domain that have not moved on to this epoch, at most `max` in v[]. Returns
 * how many.
 */
unsigned int client_laggards(struct clients *c, uint32_t domain_id, uint64_t epoch, pid_t *v,
			     unsigned int max);

/* Pids of clients with orders that they have not answered, as above. */
unsigned int client_debtors(struct clients *c, pid_t *v, unsigned int max);

/* Processes that are no clients because their libraries speak another version. */
#define CLIENT_OUTDATED_MAX 8u /* no more are known */
struct client_outdated {
	pid_t pid;
	uint32_t version;
};
/* The last of them, at most `max` in v[]. Returns how many. Some may have ended. */
unsigned int client_outdated(struct clients *c, struct client_outdated *v, unsigned int max);

struct client_totals {
	uint64_t added_vmas; /* sum over all clients */
	uint64_t nr_short;   /* clients that have no room to give frames up */
	uint64_t nameless;   /* sum of pages on frames that they named */
	uint64_t left_out[KSM_LEFT_CLIENT_NR];
};
void client_totals(struct clients *c, struct client_totals *out);

/* Counts of connections. Everybody may ask for these, so they cost nothing. */
struct client_counts {
	uint64_t nr_clients;      /* READY or about to be */
	uint64_t protocol_errors; /* connections dropped for what they sent */
	uint64_t refused;         /* connections of users that may not be clients */
	uint64_t domains_refused; /* of processes that may not join the domain they named */
	uint64_t alone;           /* clients alone because nobody knows who they are */
	uint64_t other_version;   /* connections of libraries that speak another version */
};
void client_counts(const struct clients *c, struct client_counts *out);

#endif
