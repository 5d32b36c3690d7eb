/* SPDX-License-Identifier: MIT */
/* node_tenant.h - a process of `ksm-bench numa`. */
#ifndef KSM_BENCH_NODE_TENANT_H
#define KSM_BENCH_NODE_TENANT_H

/* Obey the commands on standard input until its end. The exit status. */
int node_tenant_main(void);

#endif
