/* SPDX-License-Identifier: MIT */
/* vma.h - how many mappings a client has because of us. */
#ifndef KSM_VMA_H
#define KSM_VMA_H

#include "engine/core.h"

uint32_t vma_frame(const struct engine *e, const struct rmap_block *b, unsigned int slot);
uint32_t vma_frame_at(const struct mm_slot *mm, uint64_t pn);
unsigned int vma_differ(uint32_t left, uint32_t right);
unsigned int vma_boundary(const struct mm_slot *mm, const struct region_array *a, uint64_t addr);
void vma_changed(struct engine *e, uint32_t bi, unsigned int slot, uint32_t from, uint32_t to);

#endif
