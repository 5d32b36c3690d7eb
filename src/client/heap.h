/* SPDX-License-Identifier: MIT */
/* heap.h - offer what was added to the main heap. */
#ifndef KSM_HEAP_H
#define KSM_HEAP_H

#include <stdint.h>

/* Offer the heap from *known_end to the break, and move *known_end there. Returns bytes added. */
uint64_t heap_poll(uint64_t *known_end);

#endif
