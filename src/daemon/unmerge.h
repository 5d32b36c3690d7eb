/* SPDX-License-Identifier: MIT */
/* unmerge.h - the client thread's part in the unmerge job: it asks every client and waits. */
#ifndef KSMD_UNMERGE_H
#define KSMD_UNMERGE_H

#include "daemon/session.h"

struct clients;

/* Adds the timer. */
void unmerge_init(struct clients *c);
/* The job may be in UNMERGE_SEND: then send. Or it may have to hurry. */
void unmerge_poll(struct clients *c);
/* UNMERGE_DONE. */
void unmerge_done(struct session *s, const union ksm_msg *msg);

#endif
