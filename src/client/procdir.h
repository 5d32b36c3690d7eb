/* SPDX-License-Identifier: MIT */
/* procdir.h - directories of /proc whose entries are numbers: threads, descriptors. */
#ifndef KSM_PROCDIR_H
#define KSM_PROCDIR_H

#include <stdbool.h>
#include <stdint.h>

/* Does any entry answer yes? Also where that cannot be told. An entry has digits only. */
bool procdir_any(const char *dir, bool (*yes)(void *arg, const char *dir, const char *name),
		 void *arg);
/* The number at the beginning of a string. */
int32_t procdir_number(const char *s);

#endif
