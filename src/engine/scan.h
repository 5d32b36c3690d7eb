/* SPDX-License-Identifier: MIT */
/* scan.h - a pass over the clients' memory. */
#ifndef KSM_SCAN_H
#define KSM_SCAN_H

#include "engine/core.h"

void read_drop_buffers(struct engine *e); /* nobody scans, and the lock is held */

#endif
