/* SPDX-License-Identifier: MIT */
/* vitals.c - see vitals.h. */
#include "daemon/vitals.h"

#include <stdio.h>
#include <string.h>

#include "daemon/client_fds.h"

uint64_t vitals_changes(struct vitals *v, pid_t pid)
{
	unsigned long long minor, major, resident;
	char path[32], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (pid <= 0 || read_text(path, text, sizeof(text)))
		return 0;
	at = strrchr(text, ')'); /* a program's name may hold anything */
	if (!at || sscanf(at + 1,
			  " %*c %*d %*d %*d %*d %*d %*u %llu %*u %llu %*u %*u %*u %*d %*d %*d %*d "
			  "%*d %*d %*u %*u %llu",
			  &minor, &major, &resident) != 3)
		return 0;
	if (v->resident)
		v->moved += resident > v->resident ? resident - v->resident :
						     v->resident - resident;
	v->resident = resident;
	return minor + major + v->moved + 1;
}
