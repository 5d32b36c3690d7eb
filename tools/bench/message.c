/* SPDX-License-Identifier: MIT */
/* message.c - what ksm-bench says on standard error. */
#include "message.h"

#include <stdarg.h>
#include <stdio.h>

void complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("ksm-bench: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}
