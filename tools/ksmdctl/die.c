/* SPDX-License-Identifier: MIT */
/* die.c - see die.h. */
#include "tools/ksmdctl/die.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void die(enum exit_code code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("ksmdctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(code);
}
