/* SPDX-License-Identifier: MIT */
/*
 * still.h - a process that has done nothing has written nothing.
 *
 * A look at a client's memory costs change tracking 0.4 us for each of its mappings, and merging
 * makes tens of thousands. Most processes of a machine sleep. The CPU time of a process tells for
 * 0.3 us whether any of its threads has run: its own, the agent's, those of io_uring and vhost.
 * Others, such as a guest of QEMU at rest, wake up many times a second and write next to nothing.
 * For a write to be seen by change tracking the kernel has to take a fault, and it counts these. So
 * where mappings are many the faults are asked for as well, with the pages that are resident,
 * because one fault may bring a huge page: 20 us. A client is still that has not run, or has had so
 * few of both that a look is not worth it. Passes pass it by. That is a look as well: full_scans
 * counts it. Huge pages that were looked at before are not protected (huge.c), and take no faults:
 * while the client is passed by they are not hashed again either.
 *
 * Not for long, because others can write into a process that sleeps: who has debugged it or
 * process_vm_writev(2), the child of a vfork(2) or of another clone that shares the memory, a
 * device. And the few pages are to be found, too. A client that runs is passed by for as long as
 * makes its looks a 256th of a core, which is 3 s with 32,000 mappings. One that sleeps is
 * passed by for twice as long each time, up to STILL_MOST_MS. What is late then is that a write
 * is seen. Nothing is lost by it: before a merge the client compares, after it the kernel
 * copies. And counters do not wait for passes (engine_look()).
 *
 * A look is whole when change tracking has answered for all regions. Who adds one spoils it, and so
 * does an order under way, because its block is left out.
 */
#ifndef KSM_STILL_H
#define KSM_STILL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

#define STILL_DEAR 1024u     /* mappings: a look at these costs twenty times what asking does */
#define STILL_FEW 64u        /* mappings for each page that may have changed */
#define STILL_MOST_MS 16000u /* what the kernel's ksmd takes by default for 300 MiB */
/* Mappings in 1 ms: 0.4 us for each, 256 times. */
#define STILL_MAPPINGS_PER_MS 10u

/* What is known of a client as a pass comes to it. */
struct still_signs {
	uint64_t now_ms;
	uint64_t ran;      /* ns of CPU time; 0: not known */
	uint64_t changes;  /* grows by the pages that it may have written first; 0: not known */
	uint64_t mappings; /* that merging added */
	bool due;          /* it is to be looked at in any case */
};

/* Zero: it was never looked at. The engine lock covers it. */
struct still {
	uint64_t ran, changes; /* before the last look */
	uint64_t looked_ms;
	uint32_t wait_ms; /* from then on, as long as it is still */
	bool whole;       /* that look was whole, or is so far */
};

/* True: this pass passes the client by. False: a look begins. */
static inline bool still_pass(struct still *s, const struct still_signs *now)
{
	bool slept = now->ran && now->ran == s->ran;
	bool few = now->changes && s->changes &&
		   (now->changes - s->changes) * STILL_FEW < now->mappings;
	bool still = s->whole && !now->due && (slept || few);
	uint64_t wait = now->mappings / STILL_MAPPINGS_PER_MS + 1;

	if (still && now->now_ms - s->looked_ms < s->wait_ms)
		return true;
	if (still && slept)
		wait = u64_max(wait, 2 * (uint64_t)s->wait_ms);
	s->wait_ms = (uint32_t)u64_min(wait, STILL_MOST_MS);
	s->ran = now->ran;
	s->changes = now->changes;
	s->looked_ms = now->now_ms;
	s->whole = true;
	return false;
}

/* Something was not looked at, or is new. */
static inline void still_spoil(struct still *s)
{
	s->whole = false;
}

#endif
