/* SPDX-License-Identifier: MIT */
/*
 * client_act.c - see client_act.h.
 *
 * A question whose answer is long is answered in parts, each with the address at which the next one
 * begins. The daemon keeps nothing between two parts, so it does not matter how many ask, or
 * whether they ever ask for the rest.
 *
 * What is said to a client's own user must not tell of others' memory. Whether a page is equal to
 * one of another process and only waits (min_sharers, merge_delay_millisecs) is what those knobs
 * hide, and when the last other page leaves a frame is when somebody has written. So an operator
 * alone is told these apart.
 */
#include "daemon/client_act.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <urcu.h>

#include "daemon/attr.h"
#include "daemon/clients.h"

#define RANGES 64 /* in one answer */

static const char *const why_names[WHY_NR] = ENGINE_WHY_NAMES;

/* A number without sign, to the end of `s`. */
static bool parse_number(const char *s, uint64_t *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*v = strtoull(s, &end, 0);
	return !errno && !*end;
}

static void fold(struct engine_range *r)
{
	r->pages[WHY_MERGED] += r->pages[WHY_ALONE];
	r->pages[WHY_UNIQUE] += r->pages[WHY_FEW_SHARERS] + r->pages[WHY_DELAYED];
	r->pages[WHY_ALONE] = r->pages[WHY_FEW_SHARERS] = r->pages[WHY_DELAYED] = 0;
}

static void say_range(const struct engine_range *r, struct text *out)
{
	text_printf(out, "%" PRIx64 "-%" PRIx64, r->at.start, r->at.end);
	for (int i = 0; i < WHY_NR; i++)
		if (r->pages[i])
			text_printf(out, " %s %" PRIu64, why_names[i], r->pages[i]);
	text_printf(out, "\n");
}

int client_act_why(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		   struct text *out, struct text *why)
{
	struct engine_range range[RANGES];
	const struct session *s;
	uint64_t from = 0;
	int nr = -1;

	if (*args && !parse_number(args, &from)) {
		text_printf(why, "that is no address");
		return -EINVAL;
	}
	rcu_read_lock();
	s = pid <= INT32_MAX ? clients_find(clients, (pid_t)pid) : NULL;
	if (s && (v->is_operator || s->uid == v->uid))
		nr = engine_why(s->mm, from, range, RANGES, &from);
	rcu_read_unlock();
	if (nr < 0)
		return -ENOENT;
	for (int i = 0; i < nr; i++) {
		if (!v->is_operator)
			fold(&range[i]);
		say_range(&range[i], out);
	}
	if (from < KSM_ADDR_END)
		text_printf(out, "next 0x%" PRIx64 "\n", from);
	return 0;
}
