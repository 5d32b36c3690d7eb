/* SPDX-License-Identifier: MIT */
/* round.c - what one round on one side gave. */
#include "round.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "message.h"

void round_init(struct round *r)
{
	memset(r, 0, sizeof(*r));
	for (int m = 0; m < M_NR; m++)
		r->value[m] = NAN;
}

void round_note(struct round *r, const char *fmt, ...)
{
	va_list ap;

	r->incomplete = true;
	if (*r->note)
		return;
	va_start(ap, fmt);
	vsnprintf(r->note, sizeof(r->note), fmt, ap);
	va_end(ap);
	complain("%s", r->note);
}
