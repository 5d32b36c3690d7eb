/* SPDX-License-Identifier: MIT */
/*
 * daemon.h - what the daemon's threads share.
 *
 * The main thread handles signals and the control socket. The client thread handles the client
 * socket: what every client says, its death, grace periods. The scan thread passes over the memory
 * of all clients, with the crew's helpers. All are registered with liburcu. Each sleeps at its own
 * bell, which the others ring.
 *
 * Lock order, outermost first:
 *
 *	domain_table.lock
 *	  engine lock (inside struct engine)
 *	    session.send_lock
 *	account_table.lock  a leaf: taken under any of these, and nothing is taken under it
 *	crew lock           taken alone
 *
 * The control side finds clients without a lock, in an RCU hash table that only the client thread
 * changes.
 */
#ifndef KSMD_DAEMON_H
#define KSMD_DAEMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/account.h"
#include "daemon/bell.h"
#include "daemon/closer.h"
#include "daemon/domain.h"
#include "daemon/labels.h"
#include "daemon/peer.h"
#include "daemon/shortage.h"
#include "daemon/surveyor.h"
#include "daemon/unmerge_job.h"
#include "engine/knobs.h"
#include "numa/numa_topology.h"

struct clients;
struct looker;
struct mover;
struct scan;

/* What each thread's bell is rung for. */
enum main_bell {
	MAIN_UNMERGED = 1, /* the unmerge job is DONE */
};
enum client_bell {
	CLIENTS_STOP = 1,
	CLIENTS_UNMERGE = 2, /* the unmerge job is in UNMERGE_SEND, or is to hurry */
	CLIENTS_RETIRED = 4, /* a domain has retired frames, or may be gone: start a grace period */
	CLIENTS_PING = 8,    /* the main thread asks for a sign of life: beats[BEAT_CLIENTS] */
	CLIENTS_LIAR = 16,   /* a worker found that a client lies about its merges */
	CLIENTS_RELEASE = 32, /* a session's `release` is RELEASE_ASKED */
};
enum scan_bell {
	SCAN_STOP = 1,
	SCAN_KICK = 2, /* the operator changed something, or a job waits: look at once */
	SCAN_HINT = 4, /* a client offered memory: pause no longer than sleep_millisecs */
	SCAN_PING = 8, /* the main thread asks for a sign of life: beats[BEAT_SCAN] */
};

/* Threads that count their answers to a ping. */
enum { BEAT_CLIENTS, BEAT_SCAN, NR_BEATS };

struct daemon {
	struct vault vault;
	struct ksm_knobs knobs;
	struct numa_topology *topology;
	struct domain_table domains;
	struct account_table accounts;
	struct closer closer;
	struct clients *clients;
	struct scan *scan;
	struct mover *mover;
	struct looker *looker;
	struct unmerge_job unmerge;
	struct shortage shortage; /* says itself what is whose */
	/* Each is made and ended by its owner, after and before all who ring it: see main.c. */
	struct bell main_bell, client_bell, scan_bell;
	_Atomic uint32_t beats[NR_BEATS];
	/*
	 * Passes that were begun, and those that are complete and answered. A pass that is given
	 * up is begun again under its number, so a pass of a higher number than passes_begun said
	 * begins later than that was said.
	 */
	_Atomic uint64_t passes_begun, passes_done;
	_Atomic uint64_t full_scans;    /* complete passes; 0 after everything was unmerged */
	_Atomic uint64_t agents_cpu_ns; /* CPU time of all agents, as they tell */
	uint64_t arena_limit;       /* bytes that the vault has room for; 0: no limit. Set once */
	int uffd_dev;               /* /dev/userfaultfd; clients get copies */
	struct group_set allowed;   /* who may be a client */
	struct group_set operators; /* who may set knobs and see everything */
	struct witness witness;     /* client thread only, like the next */
	struct surveyor surveyor;   /* asked through `topology` */
	struct labels labels;       /* who may join named domains */
	uint64_t start_ms;
	const char *topology_spec;
};

#endif
