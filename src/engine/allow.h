/* SPDX-License-Identifier: MIT */
/* allow.h - how many frames the engine may have in use. */
#ifndef KSM_ALLOW_H
#define KSM_ALLOW_H

#include "engine/core.h"

/* May one more frame be used? Asks the daemon for more when all that it allowed are in use. */
bool allow_frame(struct engine *e) NEEDS(e->lock);
/* Frames may have been freed: tell the daemon of those that are not needed. */
void allow_less(struct engine *e) NEEDS(e->lock);

#endif
