/* SPDX-License-Identifier: MIT */
/*
 * group_knobs.c - see group_knobs.h.
 *
 * Names, ranges and help come from the engine's table (knobs.c). A store that changes `run` to 2
 * or 0 starts the unmerge job, and its answer waits for the end of that job: until nothing is
 * shared, or nothing is being merged any more.
 */
#include "daemon/group_knobs.h"

#include <errno.h>

#include "daemon/daemon.h"
#include "daemon/domain.h"
#include "daemon/mover.h"

struct knob_values {
	const struct ksm_knobs *knobs;
};

static int gather(void *owner, uint64_t subject, void *values)
{
	struct knob_group *g = owner;
	struct knob_values *v = values;

	(void)subject;
	v->knobs = &g->d->knobs;
	return 0;
}

static void show(const struct attr *a, const void *values, struct text *out)
{
	const struct knob_values *v = values;
	char buf[128];

	knob_show(v->knobs, (enum knob_id)a->at, buf, sizeof(buf));
	text_printf(out, "%s\n", buf);
}

/* A store that is going to change `run` ends the wait for clients that do not answer. */
static void hurry(struct daemon *d, const char *value, const struct knob_guard *guard)
{
	struct ksm_knobs k;

	knobs_init(&k);
	if (knob_store(&k, KNOB_RUN, value, guard) || knob_get(&k, KNOB_RUN) == KSM_RUN_UNMERGE)
		return;
	d->unmerge.hurry = true;
	bell_ring(&d->client_bell, CLIENTS_UNMERGE);
}

/*
 * An unmerge takes time, and no other store to `run` may overtake it. After one that was not
 * complete, the same store tries again.
 */
static int store_run(struct daemon *d, const char *value, const struct knob_guard *guard)
{
	struct unmerge_job *job = &d->unmerge;
	uint32_t before = knob_get(&d->knobs, KNOB_RUN), now;
	int err;

	if (job->state != UNMERGE_IDLE) {
		hurry(d, value, guard);
		return ATTR_LATER;
	}
	err = knob_store(&d->knobs, KNOB_RUN, value, guard);
	now = knob_get(&d->knobs, KNOB_RUN);
	if (err || now == KSM_RUN_MERGE ||
	    (before == now && !job->incomplete && !(now == KSM_RUN_UNMERGE && guard->pages_shared)))
		return err;
	job->stop = now == KSM_RUN_STOP;
	job->hurry = false;
	unmerge_job_move(job, UNMERGE_QUIESCE);
	return ATTR_PENDING;
}

/* The kernel may refuse to tell of pressure, so it is asked before anything is stored. */
static int store_pressure(struct daemon *d, const char *value, const struct knob_guard *guard)
{
	struct ksm_knobs k;
	int err;

	knobs_init(&k);
	err = knob_store(&k, KNOB_MERGE_ON_PRESSURE, value, guard);
	if (!err)
		err = shortage_watch(&d->shortage, knob_get(&k, KNOB_MERGE_ON_PRESSURE));
	return err ? err : knob_store(&d->knobs, KNOB_MERGE_ON_PRESSURE, value, guard);
}

static int store(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	struct daemon *d = ((struct knob_group *)owner)->d;
	enum knob_id id = (enum knob_id)a->at;
	struct engine_counters c = { 0 };
	struct knob_guard guard;
	int ret;

	(void)subject;
	domain_table_counters(&d->domains, &c);
	guard.pages_shared = c.pages_shared > 0;
	if (id == KNOB_RUN)
		ret = store_run(d, value, &guard);
	else if (id == KNOB_MERGE_ON_PRESSURE)
		ret = store_pressure(d, value, &guard);
	else
		ret = knob_store(&d->knobs, id, value, &guard);
	if (ret == 0 || ret == ATTR_PENDING)
		bell_ring(&d->scan_bell, SCAN_KICK);
	if (!ret && id == KNOB_COMPACTION_PROACTIVENESS)
		mover_look(d->mover);
	return ret;
}

/* "clients 12, 34 and 5 more" and then `what`. */
static void say_pids(struct text *why, const struct unmerge_pids *p, const char *what)
{
	unsigned int named = p->nr < UNMERGE_NAMED ? p->nr : UNMERGE_NAMED;

	if (!p->nr)
		return;
	text_printf(why, "%sclient%s", why->len ? "; " : "", p->nr > 1 ? "s" : "");
	for (unsigned int i = 0; i < named; i++)
		text_printf(why, "%s %d", i ? "," : "", p->pid[i]);
	if (p->nr > named)
		text_printf(why, " and %u more", p->nr - named);
	text_printf(why, " %s", what);
}

/* What the unmerge job came to. `run` stays 2: all others are unmerged. */
static int finish(void *owner, struct text *why)
{
	struct daemon *d = ((struct knob_group *)owner)->d;
	struct unmerge_job *job = &d->unmerge;
	int error;

	if (job->state != UNMERGE_DONE)
		return ATTR_PENDING;
	error = job->error;
	job->incomplete = error;
	say_pids(why, &job->refused, "cannot unmerge, and can be asked again");
	say_pids(why, &job->silent,
		 job->stop ? "did not answer, and may still merge a page on going on" :
			     "did not answer, and will unmerge on going on");
	unmerge_job_move(job, UNMERGE_IDLE);
	return -error;
}

void group_knobs_register(struct knob_group *g, struct attr_tree *t, struct daemon *d)
{
	g->d = d;
	for (size_t i = 0; i < KNOB_NR; i++)
		g->attrs[i] = (struct attr){
			.name = knob_name((enum knob_id)i),
			.help = knob_help((enum knob_id)i),
			.at = i,
			.show = show,
			.store = store,
			/* The advisor sets it by how much there is to read. */
			.all = i != KNOB_PAGES_TO_SCAN,
		};
	g->group = (struct attr_group){
		.name = "ksm",
		ATTR_TABLE(g->attrs),
		.size = sizeof(struct knob_values),
		.gather = gather,
		.finish = finish,
	};
	attr_register(t, &g->group, g);
}
