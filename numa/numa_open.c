/* SPDX-License-Identifier: MIT */
/* numa_open.c - chooses a kind of topology by its name (see numa_open.h). */
#include "numa/numa_open.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "numa/numa_emulated.h"
#include "numa/numa_libnuma.h"

#define EMULATED_PREFIX "emulated:"

static struct numa_topology *open_emulated(const char *count)
{
	char *end;
	unsigned long nr;

	/* strtoul() would accept a sign or a blank. */
	if (*count < '0' || *count > '9') {
		errno = EINVAL;
		return NULL;
	}
	errno = 0;
	nr = strtoul(count, &end, 10);
	if (errno || *end || nr < 1 || nr > NUMA_MAX_NODES) {
		errno = EINVAL;
		return NULL;
	}
	return numa_emulated_new((int)nr);
}

struct numa_topology *numa_topology_open(const char *spec)
{
	if (!spec || !strcmp(spec, "auto"))
		return numa_libnuma_new();
	if (!strncmp(spec, EMULATED_PREFIX, strlen(EMULATED_PREFIX)))
		return open_emulated(spec + strlen(EMULATED_PREFIX));
	errno = EINVAL;
	return NULL;
}
