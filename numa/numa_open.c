/* SPDX-License-Identifier: MIT */
/*
 * numa_open.c - chooses a kind of topology by its name (see numa_open.h).
 *
 * Everything that a specification can get wrong is found here, and named. A policy that trusted a
 * distance below 10 would move what is near.
 */
#include "numa/numa_open.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa/numa_emulated.h"
#include "numa/numa_libnuma.h"

#define EMULATED_PREFIX "emulated:"
#define MOVES "moves"

struct spec {
	const char *at; /* what is still to be read */
	char *why;
	size_t size;
};

__attribute__((format(printf, 2, 3))) static int wrong(const struct spec *s, const char *format,
						       ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(s->why, s->size, format, ap);
	va_end(ap);
	return -EINVAL;
}

/* Digits, and then one of `stops` or the end. False: there is something else. */
static bool number(struct spec *s, const char *stops, unsigned long *v)
{
	char *end;

	/* strtoul() would accept a sign or a blank. */
	if (*s->at < '0' || *s->at > '9')
		return false;
	errno = 0;
	*v = strtoul(s->at, &end, 10);
	if (errno || (*end && !strchr(stops, *end)))
		return false;
	s->at = end;
	return true;
}

static int check(const struct spec *s, int from, int to, unsigned long d)
{
	if (from == to && d != NUMA_HERE)
		return wrong(s, "node %d is at distance %lu from itself, and must be at %d", from,
			     d, NUMA_HERE);
	if (from != to && (d <= NUMA_HERE || d > NUMA_FAR))
		return wrong(s, "the distance from node %d to %d is %lu, and must be %d to %d",
			     from, to, d, NUMA_HERE + 1, NUMA_FAR);
	return 0;
}

static int read_row(struct spec *s, struct numa_topology *t, int from)
{
	for (int to = 0; to < t->nr_nodes; to++) {
		unsigned long d;
		int err;

		if (!number(s, ":,", &d))
			return wrong(s, "distance %d of node %d is no number", to, from);
		err = check(s, from, to, d);
		if (err)
			return err;
		t->distance[from][to] = (uint8_t)d;
		if ((*s->at == ':') != (to + 1 < t->nr_nodes))
			return wrong(s, "node %d has %s distances than there are nodes (%d)", from,
				     *s->at == ':' ? "more" : "fewer", t->nr_nodes);
		s->at += *s->at == ':';
	}
	return 0;
}

/* What stands behind the number of nodes. 0 or -EINVAL. */
static int read_rest(struct spec *s, struct numa_topology *t)
{
	int row = 0;

	while (*s->at == ',') {
		int err;

		s->at++;
		if (!strcmp(s->at, MOVES)) {
			t->pretends_moves = true;
			s->at += strlen(MOVES);
			break;
		}
		if (row == t->nr_nodes)
			return wrong(s, "there are more rows of distances than nodes (%d)",
				     t->nr_nodes);
		err = read_row(s, t, row++);
		if (err)
			return err;
	}
	if (row && row < t->nr_nodes)
		return wrong(s, "there are %d rows of distances for %d nodes", row, t->nr_nodes);
	return 0;
}

static struct numa_topology *open_emulated(struct spec *s)
{
	struct numa_topology *t;
	unsigned long nr;

	if (!number(s, ",", &nr) || nr < 1 || nr > NUMA_MAX_NODES) {
		errno = -wrong(s, "the number of nodes must be 1 to %d", NUMA_MAX_NODES);
		return NULL;
	}
	t = numa_emulated_new((int)nr);
	if (t && read_rest(s, t)) {
		numa_topology_close(t);
		errno = EINVAL;
		return NULL;
	}
	return t;
}

struct numa_topology *numa_topology_open(const char *spec, char *why, size_t size)
{
	struct spec s = { .why = why, .size = size };

	if (!spec || !strcmp(spec, "auto"))
		return numa_libnuma_new();
	if (!strncmp(spec, EMULATED_PREFIX, strlen(EMULATED_PREFIX))) {
		s.at = spec + strlen(EMULATED_PREFIX);
		return open_emulated(&s);
	}
	errno = -wrong(&s, "it is neither auto nor " EMULATED_PREFIX "N");
	return NULL;
}
