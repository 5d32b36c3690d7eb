/* SPDX-License-Identifier: MIT */
/* forecast.h - the command estimate: what merging would save, before anything is merged. */
#ifndef KSMDCTL_FORECAST_H
#define KSMDCTL_FORECAST_H

#include <stdbool.h>

/* pids: ends with NULL, at least one. */
void cmd_estimate(char **pids, bool json);

#endif
