/* SPDX-License-Identifier: MIT */
/* clients.c - see clients.h. */
#include "tools/ksmdctl/clients.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/ask.h"

static const char *const left_names[KSM_LEFT_NR] = KSM_LEFT_NAMES;

void each_client(struct talk *c, void (*fn)(struct talk *c, const char *dir, bool first), int max)
{
	char *body = ctl_ask(c, "ls client"), *save = NULL, dir[64];
	bool first = true;

	for (char *n = strtok_r(body, "\n/", &save); n && max > 0;
	     n = strtok_r(NULL, "\n/", &save)) {
		snprintf(dir, sizeof(dir), "client/%s", n);
		fn(c, dir, first);
		first = false;
		max--;
	}
	free(body);
}

bool left_out_pages(struct talk *c, const char *dir, int64_t pages[KSM_LEFT_NR])
{
	char path[256];

	snprintf(path, sizeof(path), "%s/left_out", dir);
	for (int i = 0; i < KSM_LEFT_NR; i++) {
		char *v = ctl_value(c, path, left_names[i]);

		if (!v)
			return false;
		pages[i] = strtoll(v, NULL, 10);
		free(v);
	}
	return true;
}

const char *left_out_name(int reason)
{
	return left_names[reason];
}
