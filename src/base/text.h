/* SPDX-License-Identifier: MIT */
/*
 * text.h - a string that grows; and numbers that were written by others.
 *
 * When an allocation fails the string stays as it is and `failed` is set. Callers can therefore add
 * piece after piece and look at `failed` once, at the end.
 */
#ifndef KSM_TEXT_H
#define KSM_TEXT_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SPARE 128 /* bytes allocated beyond a large piece, so the next may fit */
#define TEXT_PRINTF_MAX 1024

/* Zeros are an empty string. Invariant: len <= room, the size of data. */
struct text {
	char *data; /* not NUL-terminated; owned */
	size_t len, room;
	bool failed; /* a piece is missing; text_free() resets it */
};

static inline void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

/* Append len bytes. data may be NULL when len is 0. */
static inline void text_add(struct text *t, const char *data, size_t len)
{
	if (t->len + len > t->room) {
		size_t need = t->len + len;
		size_t room = t->room * 2 > need ? t->room * 2 : need + TEXT_SPARE;
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

/* Append a formatted piece, cut off after TEXT_PRINTF_MAX - 1 bytes. */
__attribute__((format(printf, 2, 3))) static inline void text_printf(struct text *t,
								     const char *fmt, ...)
{
	char buf[TEXT_PRINTF_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	text_add(t, buf, strlen(buf));
}

/* Drop the first n bytes, n <= len. An empty string gives its memory back. */
static inline void text_consume(struct text *t, size_t n)
{
	t->len -= n;
	memmove(t->data, t->data + n, t->len);
	if (!t->len)
		text_free(t);
}

/*
 * The number that `s` begins with, in `base` 10, or 0: as in C. A sign or a blank is none, unlike
 * for strtoull(). *end is behind it. Returns 0, -EINVAL (no number; *end is s) or -ERANGE (beyond
 * 64 bits). *v counts only with 0.
 */
static inline int text_leading_number(const char *s, int base, uint64_t *v, char **end)
{
	*end = (char *)s;
	*v = 0;
	if (*s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	*v = strtoull(s, end, base);
	return -errno;
}

/* The same, and nothing else may stand in `s`; that is -EINVAL, too. */
static inline int text_number(const char *s, int base, uint64_t *v)
{
	char *end;
	int err = text_leading_number(s, base, v, &end);

	return *end ? -EINVAL : err;
}

#endif
