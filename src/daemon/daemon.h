/* SPDX-License-Identifier: MIT */
/*
 * daemon.h - what the daemon's threads share.
 *
 * Threads: main (signals, control socket), client (client socket, every client's messages and death,
 * grace periods), scan (passes over memory). All are registered with liburcu. Each thread sleeps
 * in its own epoll or condition, and is woken by the others through an eventfd or that condition.
 *
 * Lock order, outermost first:
 *
 *	domain_table.lock
 *	  engine lock (inside struct engine)
 *	    session.send_lock
 *
 * scan.lock (the scan thread's condition) is taken alone. Clients are found without a lock, in an
 * RCU hash table that only the client thread changes.
 */
#ifndef KSMD_DAEMON_H
#define KSMD_DAEMON_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/domain.h"
#include "engine/knobs.h"
#include "numa/numa_topology.h"

struct sessions;
struct scan;

/*
 * `run` set to 2: unmerge everything. One at a time. The job is handed from thread to thread by its
 * state, which says who owns the other fields; each owner moves it on and wakes the next:
 *
 *	IDLE     main    -> main: a store of 2 arrived
 *	QUIESCE  scan    -> scanning has stopped, orders not yet sent are forgotten
 *	SEND     client  -> UNMERGE goes to every client
 *	WAIT     client  -> all have answered, or one refused, or time is up
 *	DONE     main    -> answers the operator
 */
enum unmerge_state {
	UNMERGE_IDLE,
	UNMERGE_QUIESCE,
	UNMERGE_SEND,
	UNMERGE_WAIT,
	UNMERGE_DONE,
};

struct unmerge_job {
	_Atomic int state;
	uint32_t id; /* sent with UNMERGE, comes back with its answer */
	int error;   /* positive errno, 0: all is unmerged */
	int pid;     /* of the client that refused or did not answer */
};

struct daemon {
	struct ksm_knobs knobs;
	struct numa_topology *topology;
	struct domain_table domains;
	struct sessions *sessions;
	struct scan *scan;
	struct unmerge_job unmerge;
	int uffd_dev;   /* /dev/userfaultfd; clients get copies */
	int main_event; /* eventfd: the main thread should look around */
	uint64_t start_ms;
	const char *topology_spec;
};

/* Wake the main thread. Any context. */
void daemon_wake(struct daemon *d);

#endif
