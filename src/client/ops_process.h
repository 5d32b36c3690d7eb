/* SPDX-License-Identifier: MIT */
/* ops_process.h - the library in its process: the first use. Forks are declared in client.h. */
#ifndef KSM_OPS_PROCESS_H
#define KSM_OPS_PROCESS_H

/*
 * Make the tables and register the fork handlers, once. Returns 0, or -ENOMEM: a later call tries
 * again. Context: any thread, without the lock of as.h.
 */
int ksmc_init(void);

#endif
