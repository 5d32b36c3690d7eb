/* SPDX-License-Identifier: MIT */
/*
 * fleet.h - the parent's view of the processes whose memory is merged.
 *
 * Functions return 0 or a negative errno and have then said what went wrong; -EINTR says nothing.
 */
#ifndef KSM_BENCH_FLEET_H
#define KSM_BENCH_FLEET_H

#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "tenant.h"

struct side;

struct fleet_tenant {
	pid_t pid;
	int fd; /* to command it by; of a real program: to talk to it as its users do */
	pid_t own_tid[3];
	uint64_t start, end; /* addresses of the memory that is merged; 0: not known */
	int program;         /* real program, from 1; 0: a tenant */
};
struct fleet {
	struct fleet_tenant w[BENCH_MAX_PROCESSES];
	int nr;
};
/* cfg->processes tenants of s, each with nr_pages pages that hold what the workload says. */
int fleet_start(struct fleet *f, struct side *s, uint64_t nr_pages);
/* Kill and reap them all. */
void fleet_stop(struct fleet *f);
/* Give the same command to all tenants. fn (may be NULL) sees each reply. */
int fleet_command(struct fleet *f, uint32_t op, uint32_t arg,
		  void (*fn)(void *arg, const struct tenant_reply *r), void *fn_arg);
/* Give it to tenant `i` alone. */
int fleet_command_one(struct fleet *f, int i, uint32_t op, uint32_t arg, struct tenant_reply *r);
/* CPU time, in ns, of all threads that the programs did not make: agents. */
int fleet_agents_cpu_ns(struct fleet *f, uint64_t *ns);

struct fleet_memory {
	uint64_t pss, vmas, pte; /* bytes, number, bytes */
	uint64_t region_vmas;    /* in memory that is merged, where it is known */
};
int fleet_memory(struct fleet *f, struct fleet_memory *m);

#endif
