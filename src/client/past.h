/* SPDX-License-Identifier: MIT */
/* past.h - give frames of earlier daemons up. */
#ifndef KSM_PAST_H
#define KSM_PAST_H

#include <stdbool.h>
#include <stdint.h>

#include "client/link.h"
#include "wire/wire.h"

#define PAST_ARENAS 4u

/*
 * A forked child keeps file[] and nr, as it has inherited what stands there. past_begin() sets
 * everything else anew before anything reads it. Invariant: due_ms is 0 if nr is. Only the agent's
 * thread touches it, so no lock covers it.
 */
struct past {
	uint64_t file[PAST_ARENAS]; /* maps_file_id() of arenas of earlier connections */
	uint32_t nr;
	uint64_t due_ms; /* when to look next; 0: there is no past */
	uint64_t stat;   /* number of the STAT that asks how many passes there were; 0: none */
	uint64_t at;     /* up to this address everything has been given up */
	uint64_t scans;  /* full_scans by which it should have been merged; 0: not known */
};

/* A connection to the arena `file` begins. `was`: that of the connection before, or 0. */
void past_begin(struct past *p, uint64_t was, uint64_t file);
/* due_ms has come: ask how many passes there were. False: the connection is broken. */
bool past_ask(struct past *p, struct link *l);
/* The daemon has answered a STAT. Gives frames up if it is time, for milliseconds at most. */
void past_answer(struct past *p, struct link *l, const struct ksm_msg_stat_reply *m);

#endif
