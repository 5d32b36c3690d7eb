/* SPDX-License-Identifier: MIT */
/*
 * epochs.h - the client thread's part in grace periods: it tells every client of a new epoch, waits
 * until all live in it, and frees the frames that were retired before.
 */
#ifndef KSMD_EPOCHS_H
#define KSMD_EPOCHS_H

#include "daemon/session.h"

struct clients;

/* Adds the timer that clients_epochs_soon() sets. */
void epochs_init(struct clients *c);
/* EPOCH_DONE. */
void epochs_done(struct session *s, const union ksm_msg *msg);

#endif
