/* SPDX-License-Identifier: MIT */
/* json.c - see json.h. */
#include "tools/ksmdctl/json.h"

#include <stdio.h>
#include <string.h>

void json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < ' ')
			printf("\\u%04x", *s);
		else
			putchar(*s);
	}
	putchar('"');
}

void json_value(const char *s)
{
	const char *digits = s + (*s == '-');

	if (*digits && strspn(digits, "0123456789") == strlen(digits))
		fputs(s, stdout);
	else
		json_string(s);
}

void json_member(const char *name, const char *value)
{
	json_string(name);
	fputs(": ", stdout);
	json_value(value);
}
