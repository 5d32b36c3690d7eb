/* SPDX-License-Identifier: MIT */
/* round.c - what one round on one side gives, told as soon as it is known. */
#include "round.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "message.h"

void round_value(struct round *r, const char *key, double value)
{
	if (!isnan(value))
		fprintf(r->to, "value %s %.9g\n", key, value);
}

void round_knob(struct round *r, const char *name, const char *value)
{
	fprintf(r->to, "knob %s %.*s\n", name, (int)strcspn(value, "\n"), value);
}

void round_note(struct round *r, const char *fmt, ...)
{
	char note[240];
	va_list ap;

	if (r->noted)
		return;
	r->noted = true;
	va_start(ap, fmt);
	vsnprintf(note, sizeof(note), fmt, ap);
	va_end(ap);
	fprintf(r->to, "note %s\n", note);
	complain("%s", note);
}
