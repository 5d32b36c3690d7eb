/* SPDX-License-Identifier: MIT */
/* scan_thread.h - the scan thread: passes over all domains, paced by the knobs. */
#ifndef KSMD_SCAN_THREAD_H
#define KSMD_SCAN_THREAD_H

#include <stdint.h>

struct daemon;
struct scan;

/* Start the thread. Returns NULL with errno. scan_stop() ends it after the batch it is in. */
struct scan *scan_start(struct daemon *d);
void scan_stop(struct scan *s);
void scan_free(struct scan *s); /* after scan_stop(), when no thread is left that asks or hints */
/*
 * The operator changed something, or a job waits: look at once. Any thread.
 */
void scan_kick(struct scan *s);
/*
 * A client offered memory: pause no longer than sleep_millisecs from now on. Any thread.
 */
void scan_hint(struct scan *s);

struct scan_stats {
	uint64_t full_scans; /* complete passes; 0 after everything was unmerged */
	uint64_t cpu_ns;     /* of the scan thread */
	uint64_t pause_ms;   /* pause after the next complete pass that finds nothing */
};
void scan_stats(struct scan *s, struct scan_stats *out);

#endif
