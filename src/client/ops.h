/* SPDX-License-Identifier: MIT */
/* ops.h - see client.h: what the wrappers share with the rest of the library. */
#ifndef KSM_OPS_H
#define KSM_OPS_H

#include <stdint.h>

/* First call in the process: tables, fork handlers. Idempotent, thread-safe. Returns 0 or -ENOMEM. */
int ksmc_init(void);

#endif
