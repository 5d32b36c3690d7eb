/* SPDX-License-Identifier: MIT */
/* clients.h - every client of the daemon, and the reasons why memory is left out. */
#ifndef KSMDCTL_CLIENTS_H
#define KSMDCTL_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/abi.h"

struct talk;

/* Call fn for each client that we may see with its directory, "client/PID", at most `max` times. */
void each_client(struct talk *c, void (*fn)(struct talk *c, const char *dir, bool first), int max);
/* Pages left out, by reason, as DIR/left_out/ says. False: it is gone, or not for us to see. */
bool left_out_pages(struct talk *c, const char *dir, int64_t pages[KSM_LEFT_NR]);
const char *left_out_name(int reason);

#endif
