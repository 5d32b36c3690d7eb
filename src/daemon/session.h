/* SPDX-License-Identifier: MIT */
/*
 * session.h - the clients: their connections, what they say, and when they die.
 *
 * One thread (the client thread) accepts, receives and drops. Others may send orders
 * (session_ops, from the scan thread) and look (sessions_view, sessions_pids).
 */
#ifndef KSMD_SESSION_H
#define KSMD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/engine.h"

/*
 * The kernel's memory for one more mapping: struct vm_area_struct (about 200 bytes in Linux 6.12)
 * and its share of a maple tree node (16 slots in 256 bytes, two thirds full).
 */
#define VMA_BYTES 232

struct daemon;
struct sessions;

/* What the engine needs; `client` is a session, `arena` a struct arena. */
extern const struct engine_ops session_ops;

/*
 * listen_fd is taken over in any case. Returns NULL with errno. Nothing happens before
 * sessions_start(), which returns 0 or -errno. sessions_stop() drops every client and waits until
 * all are released; the scan thread must have ended. sessions_free() frees.
 */
struct sessions *sessions_new(struct daemon *d, int listen_fd);
int sessions_start(struct sessions *s);
void sessions_stop(struct sessions *s);
void sessions_free(struct sessions *s);

/* A client as the control tree shows it. */
struct client_view {
	pid_t pid;
	uid_t uid;
	uint32_t id, domain_id;
	bool merge_any, stalled;
	uint32_t own_vmas, max_map_count;
	uint64_t agent_cpu_ns, connected_ms;
	uint64_t left_out[KSM_LEFT_NR]; /* the client's own reasons and ours */
	struct mm_counters mm;
	uint64_t added_vmas; /* mappings that merging made */
	int64_t profit;      /* bytes saved less all metadata spent on it */
};
/* Look up a client by pid. Returns 0 or -ENOENT. Thread registered with liburcu. */
int sessions_view(struct sessions *s, pid_t pid, struct client_view *v);
/* Pids of all clients, ascending, each once; *nr of them. NULL when there are none. */
pid_t *sessions_pids(struct sessions *s, unsigned int *nr);

struct session_stats {
	uint64_t nr_clients;      /* READY or about to be */
	uint64_t nr_connections;  /* all, also silent ones */
	uint64_t protocol_errors; /* connections dropped for what they sent */
	uint64_t added_vmas;      /* sum over all clients */
	uint64_t left_out[KSM_LEFT_CLIENT_NR];
};
void sessions_stats(struct sessions *s, struct session_stats *out);

#endif
