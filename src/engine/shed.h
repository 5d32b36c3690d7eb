/* SPDX-License-Identifier: MIT */
/* shed.h - a client that has too many mappings for its forks gives some back. */
#ifndef KSM_SHED_H
#define KSM_SHED_H

#include "engine/core.h"

/* A pass comes to the client: ask it for private memory in the place of frames, if need be. */
void shed_mappings(struct mm_slot *mm) NEEDS(mm->e->lock);

#endif
