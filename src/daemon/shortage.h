/* SPDX-License-Identifier: MIT */
/*
 * shortage.h - is memory short? Only then is anything merged where the operator wants it so
 * (merge_below_available, merge_on_pressure), and only what fits (limit/debt_bytes).
 */
#ifndef KSMD_SHORTAGE_H
#define KSMD_SHORTAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "daemon/account.h"
#include "engine/knobs.h"

struct bell;

#define SHORTAGE_PRESSURE_FILE "/proc/pressure/memory"

struct shortage {
	const char *path; /* of the pressure file; set once, like the next three */
	struct bell *scan_bell;
	uint32_t kick;
	struct account_table *accounts;

	/* Main thread. */
	struct loop *loop;
	struct loop_watch trigger; /* fd is -1 while there is none */

	/* Programs have waited for memory, so that it counts as short until then. */
	_Atomic uint64_t pressed_until_ms;
	/* Percent of what is available that the debt may be; 0: limit/debt_bytes is a number. */
	_Atomic uint32_t debt_percent;
	_Atomic bool held; /* the scan thread's last answer; anybody reads it */

	/* Scan thread. */
	uint64_t looked_ms; /* 0: look at once */
	uint32_t below;     /* merge_below_available then */
	bool few;           /* as seen then: less than that is available */
};

/* Memory that programs could still have: of the machine, as the kernel reckons. In bytes. */
struct shortage_memory {
	uint64_t total, available, swap_free; /* all 0: not known */
};
struct shortage_memory shortage_memory(void);

/* Nothing is short, and nothing asked for. scan_bell is rung with `kick` when memory gets short. */
void shortage_init(struct shortage *s, const char *path, struct loop *l, struct bell *scan_bell,
		   uint32_t kick, struct account_table *accounts);
void shortage_deinit(struct shortage *s);

/*
 * Main thread: have the kernel tell when some program has waited for memory for `percent` of two
 * seconds; 0: no more. Returns 0, -EOPNOTSUPP (a kernel without PSI) or -errno, and then nothing
 * has changed.
 */
int shortage_watch(struct shortage *s, uint32_t percent);
/* Main thread: let the debt be `percent` of what is available, from now on; 0: leave it alone. */
void shortage_debt(struct shortage *s, uint32_t percent);

/* Scan thread: is merging to be held back now? Looks at the memory once a second. */
bool shortage_holds(struct shortage *s, const struct ksm_knobs *k, uint64_t now_ms);
#define SHORTAGE_LOOK_MS 1000u

#endif
