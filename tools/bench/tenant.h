/* SPDX-License-Identifier: MIT */
/* tenant.h - a process whose memory is merged, and the language in which it is commanded. */
#ifndef KSM_BENCH_TENANT_H
#define KSM_BENCH_TENANT_H

#include <stdint.h>
#include <sys/types.h>

#include "prober.h"
#include "workload.h"

enum tenant_op {
	TENANT_SETUP = 1, /* map and fill; v[0] first address, v[1] the one behind */
	TENANT_FORK,      /* arg: descriptor for the child, above which it has none; v[0] its pid */
	TENANT_REWRITE,   /* every second page, with what it holds already */
	TENANT_REGISTER,  /* v[0] CPU ns of the call, v[1] wall ns until served */
	TENANT_PROBE,     /* arg: enum probe_op, period in us << 8 */
	TENANT_DIRTY,     /* arg: salt; v[0] pages, v[1] ns */
	TENANT_COW,       /* arg: writes at most; v[0] writes done, v[1] median ns */
	TENANT_TOUCH,     /* load from every page; nothing is rewritten any more */
	TENANT_VERIFY,    /* v[0] pages with wrong bytes, v[1] first such page */
};
enum probe_op { PROBE_STOP, PROBE_START, PROBE_FORGET };

struct tenant_cmd {
	uint32_t op, arg;
	uint32_t side, proc; /* these and the next: of TENANT_SETUP; proc: of TENANT_FORK, too */
	struct workload workload;
	uint64_t nr_pages;
};
struct tenant_reply {
	uint32_t op;
	int32_t error; /* 0 or positive errno */
	uint64_t v[2];
	pid_t tid[3];         /* threads that are the program's own: main, prober, churn (or 0) */
	struct probes probes; /* of PROBE_STOP */
};

/* Obey the commands that come from fd until it ends. Returns the exit status. */
int tenant_main(int fd);

#endif
