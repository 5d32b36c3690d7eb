/* SPDX-License-Identifier: MIT */
/* release.h - clients that are to show no sign of merging until they are told to come back. */
#ifndef KSMD_RELEASE_H
#define KSMD_RELEASE_H

#include "daemon/clients.h"
#include "wire/wire.h"

/* Client thread: ask those that the main thread has marked RELEASE_ASKED. */
void release_poll(struct clients *c);
/* RELEASE_DONE. */
void release_done(struct session *s, const union ksm_msg *msg);

#endif
