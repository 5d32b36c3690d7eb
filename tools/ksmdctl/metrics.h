/* SPDX-License-Identifier: MIT */
/* metrics.h - the command metrics: all counters that the viewer may see, as OpenMetrics. */
#ifndef KSMDCTL_METRICS_H
#define KSMDCTL_METRICS_H

#include <stdbool.h>

struct talk;

/* totals: leave out what tells of one client, user or domain. */
void cmd_metrics(struct talk *c, bool totals);

#endif
