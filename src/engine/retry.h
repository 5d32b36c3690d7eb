/* SPDX-License-Identifier: MIT */
/* retry.h - pages that processes of a fork share are tried again now and then. */
#ifndef KSM_RETRY_H
#define KSM_RETRY_H

#include "engine/core.h"

/* A pass comes to this client: is it time to try its pages that are shared by a fork again? */
void retry_shared(struct mm_slot *mm) NEEDS(mm->e->lock);

#endif
