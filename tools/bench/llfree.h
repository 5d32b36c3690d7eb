/* SPDX-License-Identifier: MIT */
/*
 * llfree.h - another allocator of frames, to compare the pool with: LLFree's method.
 *
 * Written from its description: Wrenger, Rommel, Halbuer, Dietrich, Lohmann, "LLFree: Scalable and
 * Optionally-Persistent Page-Frame Allocation", ATC 2023.
 */
#ifndef KSM_BENCH_LLFREE_H
#define KSM_BENCH_LLFREE_H

#include <stdint.h>

#define LLFREE_NONE 0xffffffffu

struct llfree;

/* nr frames, all free, a multiple of 16,384. NULL for want of memory. llfree_del() frees it. */
struct llfree *llfree_new(uint32_t nr);
void llfree_del(struct llfree *a);
/* A frame, or LLFREE_NONE: all are taken. */
uint32_t llfree_take(struct llfree *a);
/* The frame is one that was taken. */
void llfree_give(struct llfree *a, uint32_t frame);

#endif
