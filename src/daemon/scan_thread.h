/* SPDX-License-Identifier: MIT */
/*
 * scan_thread.h - the scan thread: passes over all domains, paced by the knobs.
 *
 * It sleeps at daemon.scan_bell, which everybody may ring while the scan exists.
 */
#ifndef KSMD_SCAN_THREAD_H
#define KSMD_SCAN_THREAD_H

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct scan;

/* Makes the bell as well. Returns NULL with errno. Nothing happens before scan_start(). */
struct scan *scan_new(struct daemon *d);
/* Returns 0 or -errno. */
int scan_start(struct scan *s);
/*
 * Ends the thread after the slice of work that it is in. Fine when it was never started. False: it
 * has not ended in half a second, because a call waits for a client's memory. Then it may go on at
 * any time with all that it uses.
 */
bool scan_stop(struct scan *s);
/* After scan_stop(), when no thread is left that rings. */
void scan_free(struct scan *s);

struct scan_stats {
	uint64_t full_scans; /* complete passes; 0 after everything was unmerged */
	uint64_t cpu_ns;     /* of the scan thread */
	uint64_t pause_ms;   /* pause after the next complete pass that finds nothing */
};
/* Scan threads that are bound to a NUMA node now. Any thread. */
unsigned int scan_threads_on(const struct scan *s, int nid);
/* Any thread. */
void scan_stats(struct scan *s, struct scan_stats *out);

#endif
