/* SPDX-License-Identifier: MIT */
/*
 * label.h - names of domains: what a program asks for, and what the operator allows.
 *
 * A label is 1 to 31 characters of a-z, A-Z, 0-9, '.', '_' and '-', the first a letter or a digit.
 * So it can stand in a file of rules, on a command line and in a log without being quoted.
 */
#ifndef KSM_LABEL_H
#define KSM_LABEL_H

#include <stdbool.h>
#include <stddef.h>

#define KSM_LABEL_SIZE 32u /* bytes, the NUL included */
/* The environment asks for a label; only the operator's file gives it. */
#define KSM_DOMAIN_VAR "KSM_DOMAIN"

static inline bool ksm_label_char(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (!first && (c == '.' || c == '_' || c == '-'));
}

/* Is the text a label? Looks at KSM_LABEL_SIZE bytes at most. */
static inline bool ksm_label_valid(const char *text)
{
	size_t n = 0;

	while (n < KSM_LABEL_SIZE && text[n] && ksm_label_char(text[n], n == 0))
		n++;
	return n > 0 && n < KSM_LABEL_SIZE && !text[n];
}

/* Does the field of a message hold a label, or none at all, and nothing behind it? */
static inline bool ksm_label_field_valid(const char field[KSM_LABEL_SIZE])
{
	size_t n = 0;

	if (field[0] && !ksm_label_valid(field))
		return false;
	while (field[n])
		n++;
	while (n < KSM_LABEL_SIZE && !field[n])
		n++;
	return n == KSM_LABEL_SIZE;
}

#endif
