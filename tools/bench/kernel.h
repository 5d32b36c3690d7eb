/* SPDX-License-Identifier: MIT */
/* kernel.h - the kernel's KSM as one side of a comparison. */
#ifndef KSM_BENCH_KERNEL_H
#define KSM_BENCH_KERNEL_H

#include <stdint.h>
#include <sys/types.h>

#include "config.h"
#include "round.h"

/*
 * Set run = 0, nothing merged, and the knobs that cfg asks for; tell them, and the kernel's thread.
 * After kernel_knobs_save().
 */
int kernel_start(const struct bench_config *cfg, pid_t *ksmd, struct round *out);
/* Unmerge everything. */
void kernel_stop(void);
int kernel_get(const char *name, uint64_t *value);
int kernel_set(const char *name, const char *value);

/*
 * Let processes have `nr` mappings, or as many as before kernel_knobs_save() for 0. -EPERM: it has
 * not been called, or the kernel has no such knob; then only 0 is possible.
 */
int kernel_max_map_count(unsigned int nr);

/*
 * Keep every knob here and in a file, and fork a watchdog that puts them back if this process dies.
 * The caller holds bench_lock().
 */
int kernel_knobs_save(void);
/* Put back what kernel_knobs_save() kept, if it did. */
void kernel_knobs_restore(void);
/* Put back what a run left that was killed with its watchdog. 0 also when there is none. */
int kernel_knobs_recover(void);
/* The value of a knob before we changed it; "" when it is not known. */
const char *kernel_knob_saved(const char *name);

#endif
