/* SPDX-License-Identifier: MIT */
/*
 * bench_json.c - a reader for what `ksm-bench --json` writes.
 *
 * All of JSON, but that an escape in a string becomes a question mark unless it is one that --json writes.
 * A text from anywhere does no harm: nesting is limited, so that it cannot exhaust the stack, numbers are finite,
 * and nothing is read behind the NUL. Several documents may follow one another in a text, so that
 * results can be collected with >>.
 */
#include "bench.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16 };

struct json {
	enum { JSON_NULL, JSON_TRUE, JSON_FALSE, JSON_NUMBER, JSON_STRING, JSON_LIST } type;
	char *key; /* in an object; NULL in an array */
	double number;
	char *string;
	struct json *child; /* of an object or array: the first */
	struct json *next;  /* sibling */
};

static struct json *parse_value(const char **t, int depth);

static void skip_space(const char **t)
{
	while (isspace((unsigned char)**t))
		(*t)++;
}

static char *parse_string(const char **t)
{
	const char *p = *t + 1;
	char *s, *out;

	while (*p && *p != '"')
		p += p[0] == '\\' && p[1] ? 2 : 1;
	if (*p != '"')
		return NULL;
	s = out = malloc((size_t)(p - *t));
	if (!s)
		return NULL;
	for (const char *q = *t + 1; q < p; q++) {
		if (*q != '\\')
			*out++ = *q;
		else
			*out++ = *++q == '"' || *q == '\\' || *q == '/' ? *q : '?';
	}
	*out = 0;
	*t = p + 1;
	return s;
}

/* The members after the opening bracket, which has been passed. */
static bool parse_members(const char **t, struct json *list, char end, int depth)
{
	struct json **tail = &list->child;

	skip_space(t);
	if (**t == end)
		return (*t)++, true;
	for (;;) {
		char *key = NULL;

		skip_space(t);
		if (end == '}') {
			if (**t != '"' || !(key = parse_string(t)))
				return false;
			skip_space(t);
			if (**t != ':')
				return free(key), false;
			(*t)++;
		}
		*tail = parse_value(t, depth + 1);
		if (!*tail)
			return free(key), false;
		(*tail)->key = key;
		tail = &(*tail)->next;
		skip_space(t);
		if (**t == end)
			return (*t)++, true;
		if (**t != ',')
			return false;
		(*t)++;
	}
}

static bool parse_word(const char **t, const char *word)
{
	if (strncmp(*t, word, strlen(word)) != 0)
		return false;
	*t += strlen(word);
	return true;
}

/* JSON's numbers: strtod() takes more (words, hexadecimal, a plus). */
static bool parse_number(const char **t, double *number)
{
	const char *digits = *t + (**t == '-');
	char *end;

	if (*digits < '0' || *digits > '9' || digits[1] == 'x' || digits[1] == 'X')
		return false;
	*number = strtod(*t, &end);
	*t = end;
	return isfinite(*number);
}

static bool parse_into(const char **t, struct json *j, int depth)
{
	if (**t == '{' || **t == '[') {
		char close = **t == '{' ? '}' : ']';

		j->type = JSON_LIST;
		(*t)++;
		return depth < MAX_DEPTH && parse_members(t, j, close, depth);
	}
	if (**t == '"') {
		j->type = JSON_STRING;
		j->string = parse_string(t);
		return j->string;
	}
	if (parse_word(t, "null"))
		return true;
	if (parse_word(t, "true"))
		return j->type = JSON_TRUE, true;
	if (parse_word(t, "false"))
		return j->type = JSON_FALSE, true;
	j->type = JSON_NUMBER;
	return parse_number(t, &j->number);
}

static struct json *parse_value(const char **t, int depth)
{
	struct json *j = calloc(1, sizeof(*j));

	skip_space(t);
	if (j && parse_into(t, j, depth))
		return j;
	json_free(j);
	return NULL;
}

struct json *json_parse(const char **text)
{
	skip_space(text);
	return **text ? parse_value(text, 0) : NULL;
}

void json_free(struct json *j)
{
	while (j) {
		struct json *next = j->next;

		json_free(j->child);
		free(j->key);
		free(j->string);
		free(j);
		j = next;
	}
}

const struct json *json_get(const struct json *object, const char *key)
{
	for (const struct json *j = object ? object->child : NULL; j; j = j->next)
		if (j->key && !strcmp(j->key, key))
			return j;
	return NULL;
}

const struct json *json_at(const struct json *array, int i)
{
	const struct json *j = array ? array->child : NULL;

	while (j && i-- > 0)
		j = j->next;
	return j;
}

bool json_true(const struct json *j)
{
	return j && j->type == JSON_TRUE;
}

double json_number(const struct json *j)
{
	return j && j->type == JSON_NUMBER ? j->number : NAN;
}

const char *json_string(const struct json *j)
{
	return j && j->type == JSON_STRING ? j->string : "";
}
