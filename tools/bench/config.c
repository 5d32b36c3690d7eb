/* SPDX-License-Identifier: MIT */
/* config.c - the names of the sides, as in options and results. */
#include "config.h"

const char *const side_name[SIDE_NR] = { "kernel", "ksmd-user" };
