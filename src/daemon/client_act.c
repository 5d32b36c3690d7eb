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
#include <string.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/text.h"
#include "daemon/attr.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"

#define RANGES 64 /* in one answer */
#define STRETCHES 256

static const char *const why_names[WHY_NR] = ENGINE_WHY_NAMES;

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

/* The client, if the viewer may know of it. In an RCU read section. */
static struct session *find(void *clients, uint64_t pid, const struct attr_viewer *v)
{
	struct session *s = pid <= INT32_MAX ? clients_find(clients, (pid_t)pid) : NULL;

	return s && (v->is_operator || s->uid == v->uid) ? s : NULL;
}

int client_act_why(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		   struct text *out, struct text *why)
{
	struct engine_range range[RANGES];
	const struct session *s;
	uint64_t from = 0;
	int nr = -1;

	if (*args && text_number(args, 0, &from)) {
		text_printf(why, "that is no address");
		return -EINVAL;
	}
	rcu_read_lock();
	s = find(clients, pid, v);
	if (s)
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

/* ---- nodes ---- */

int client_act_nodes(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		     struct text *out, struct text *why)
{
	struct engine_stretch stretch[STRETCHES];
	const struct session *s;
	uint64_t from = 0;
	int nr = -1;

	if (*args && text_number(args, 0, &from)) {
		text_printf(why, "that is no address");
		return -EINVAL;
	}
	rcu_read_lock();
	s = find(clients, pid, v);
	if (s)
		nr = engine_where(s->mm, from, stretch, STRETCHES, &from);
	rcu_read_unlock();
	if (nr < 0)
		return -ENOENT;
	for (int i = 0; i < nr; i++)
		text_printf(out, "%" PRIx64 "-%" PRIx64 " %d\n", stretch[i].at.start,
			    stretch[i].at.end, stretch[i].nid);
	if (from < KSM_ADDR_END)
		text_printf(out, "next 0x%" PRIx64 "\n", from);
	return 0;
}

/* ---- release ---- */

static int release_ask(struct session *s)
{
	int was = s->release;

	if (s->state != SESSION_READY)
		return -EAGAIN;
	if (was <= 0 && atomic_compare_exchange_strong(&s->release, &was, RELEASE_ASKED))
		bell_ring(&s->d->client_bell, CLIENTS_RELEASE);
	return 0;
}

static int release_look(const struct session *s, struct text *why)
{
	int is = s->release;

	if (is >= 0)
		return is ? -EINPROGRESS : 0;
	if (is == -EBUSY)
		text_printf(why, "some of its memory is pinned or sealed, and stays on frames");
	else if (is == -ENOMEM)
		text_printf(why, "private memory takes more than its limits leave room for");
	return is;
}

int client_act_release(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		       struct text *out, struct text *why)
{
	struct session *s;
	int ret = -ENOENT;

	(void)out;
	if (*args && strcmp(args, "look"))
		return -EINVAL;
	rcu_read_lock();
	s = find(clients, pid, v);
	if (s)
		ret = *args ? release_look(s, why) : release_ask(s);
	rcu_read_unlock();
	return ret;
}

/* ---- merge ---- */

/* Every page is looked at in the first of these; what was written before it, in the second. */
#define PASSES 2
/* A client that runs answers an order within this; one that does not within that is stopped. */
#define ANSWER_MS 100
#define SILENT_MS 2000

static int merge_look(struct session *s, uint64_t number, struct text *why)
{
	struct daemon *d = s->d;
	uint64_t silent;

	if (knob_get(&d->knobs, KNOB_RUN) != KSM_RUN_MERGE ||
	    !knob_get(&d->knobs, KNOB_PAGES_TO_SCAN)) {
		text_printf(why, "nothing is being merged: see ksm/run and ksm/pages_to_scan");
		return -EAGAIN;
	}
	if (engine_rest(s->domain->engine) != WHY_NR) {
		text_printf(why, "nothing is being merged: %s",
			    engine_rest(s->domain->engine) == WHY_DEBT ?
				    "the limit of limit/debt_bytes is reached" :
				    "memory is not short (ksm/merge_below_available, "
				    "ksm/merge_on_pressure)");
		return -EAGAIN;
	}
	engine_mm_hurry(s->mm);
	bell_ring(&d->scan_bell, SCAN_HINT);
	if (!session_told(s) || d->passes_done < number)
		return -EINPROGRESS;
	/* A pass is complete without the answers of those that answer nothing. */
	silent = s->nr_orders && number ? clock_ms() - s->waiting_ms : 0;
	if (silent < ANSWER_MS)
		return 0;
	if (silent < SILENT_MS)
		return -EINPROGRESS;
	text_printf(why, "client %d does not answer its orders", (int)s->pid);
	return -ETIMEDOUT;
}

int client_act_merge(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		     struct text *out, struct text *why)
{
	uint64_t number = 0;
	struct session *s;
	int ret = -ENOENT;

	if (*args && text_number(args, 0, &number))
		return -EINVAL;
	rcu_read_lock();
	s = find(clients, pid, v);
	if (s)
		ret = merge_look(s, number, why);
	if (!ret && !*args)
		text_printf(out, "%" PRIu64 "\n", s->d->passes_begun + PASSES);
	rcu_read_unlock();
	return ret;
}
