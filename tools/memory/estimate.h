/* SPDX-License-Identifier: MIT */
/*
 * estimate.h - what merging the memory of some processes would save, found out by reading it.
 *
 * No daemon is asked and nothing is merged. The caller must be allowed to read the processes'
 * memory as a debugger may: the kernel says so (ptrace(2)).
 */
#ifndef KSM_TOOLS_ESTIMATE_H
#define KSM_TOOLS_ESTIMATE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct estimate;

struct estimate_process {
	pid_t pid;
	uint64_t pages;        /* read: private memory that is there */
	uint64_t mergeable;    /* of those, pages with a like in any of the processes */
	uint64_t zero;         /* of those, pages of zeros */
	uint64_t on_frames;    /* of those, merged already */
	uint64_t mappings;     /* that merging would add to it */
	uint64_t max_mappings; /* that a process may have at most */
};

struct estimate_result {
	const struct estimate_process *v;
	size_t nr;
	uint64_t pages, mergeable, zero, mappings; /* sums */
	uint64_t saved;                            /* pages that would go */
	uint64_t alone;    /* pages that would go if each process were merged for itself only */
	uint64_t metadata; /* bytes that the daemon and the kernel would need for it */
	uint64_t read_ns;  /* CPU time that reading and comparing took: that of a first pass */
	uint64_t merge_ns; /* CPU time that merging would take, about */
};

/* NULL: no memory. */
struct estimate *estimate_new(void);
void estimate_free(struct estimate *e);
/*
 * Read a process, which goes on meanwhile. Returns 0, -ESRCH, -EACCES or -EPERM (the caller may not
 * look at it), -ENOMEM, or another -errno.
 */
int estimate_add(struct estimate *e, pid_t pid);
/* What was read so far. Returns 0 or -ENOMEM. */
int estimate_result(struct estimate *e, struct estimate_result *r);
/* Print a result for people on standard output or elsewhere (a FILE *). */
void estimate_print(const struct estimate_result *r, void *file);

#endif
