/* SPDX-License-Identifier: MIT */
/* metrics.h - the command metrics: all counters that the viewer may see, as OpenMetrics. */
#ifndef KSMDCTL_METRICS_H
#define KSMDCTL_METRICS_H

struct talk;

void cmd_metrics(struct talk *c);

#endif
