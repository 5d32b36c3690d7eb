/* SPDX-License-Identifier: MIT */
/*
 * text.h - a string that grows. A failed allocation leaves it as it was and sets `failed`, so
 * that only the last user has to look.
 */
#ifndef KSM_TEXT_H
#define KSM_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
	char *data; /* not NUL-terminated */
	size_t len, room;
	bool failed;
};

static inline void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

static inline void text_add(struct text *t, const char *data, size_t len)
{
	if (t->len + len > t->room) {
		size_t room = t->room * 2 > t->len + len ? t->room * 2 : t->len + len + 128;
		char *p = realloc(t->data, room);

		if (!p) {
			t->failed = true;
			return;
		}
		t->data = p;
		t->room = room;
	}
	if (len)
		memcpy(t->data + t->len, data, len);
	t->len += len;
}

/* At most 1 KiB at a time. */
__attribute__((format(printf, 2, 3))) static inline void text_printf(struct text *t,
								     const char *fmt, ...)
{
	char buf[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	text_add(t, buf, strlen(buf));
}

/* Drop the first n bytes. */
static inline void text_consume(struct text *t, size_t n)
{
	t->len -= n;
	memmove(t->data, t->data + n, t->len);
	if (!t->len)
		text_free(t); /* an idle connection keeps no buffer */
}

#endif
