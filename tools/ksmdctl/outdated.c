/* SPDX-License-Identifier: MIT */
/*
 * outdated.c - see outdated.h.
 *
 * After an upgrade of the daemon, programs that run already have the library of before. It goes on
 * trying, and the daemon goes on refusing it: the operator has to know which programs these are.
 */
#include "tools/ksmdctl/outdated.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/ksmdctl/ask.h"

void print_outdated(struct talk *c)
{
	char *who = ctl_value(c, "ksm", "outdated");

	if (who && *who)
		printf("outdated  %s: libksm of another version than the daemon's; start them "
		       "again\n",
		       who);
	free(who);
}
