/* SPDX-License-Identifier: MIT */
/*
 * group_knobs.c - see group_knobs.h.
 *
 * Names, ranges and help come from the engine's table (knobs.c). A store that changes `run` to 2
 * starts the unmerge job, and its answer waits for the end of that job.
 */
#include "daemon/group_knobs.h"

#include <errno.h>

#include "daemon/daemon.h"
#include "daemon/domain.h"

struct knob_values {
	const struct ksm_knobs *knobs;
};

static int look(void *owner, uint64_t subject, void *values)
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

/* An unmerge takes time, and no other store to `run` may overtake it. */
static int store_run(struct daemon *d, const char *value, const struct knob_guard *guard)
{
	uint32_t before = knob_get(&d->knobs, KNOB_RUN);
	int err;

	if (d->unmerge.state != UNMERGE_IDLE)
		return ATTR_LATER;
	err = knob_store(&d->knobs, KNOB_RUN, value, guard);
	if (err || before == KSM_RUN_UNMERGE || knob_get(&d->knobs, KNOB_RUN) != KSM_RUN_UNMERGE)
		return err;
	unmerge_job_move(&d->unmerge, UNMERGE_QUIESCE);
	return ATTR_PENDING;
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
	else
		ret = knob_store(&d->knobs, id, value, &guard);
	if (ret == 0 || ret == ATTR_PENDING)
		bell_ring(&d->scan_bell, SCAN_KICK);
	return ret;
}

/* What the unmerge job came to. */
static int settle(void *owner, struct text *why)
{
	struct daemon *d = ((struct knob_group *)owner)->d;
	int error, pid;

	if (d->unmerge.state != UNMERGE_DONE)
		return ATTR_PENDING;
	error = d->unmerge.error;
	pid = d->unmerge.pid;
	/* As the kernel does: a machine without the memory to unmerge goes back to 0. */
	if (error == ENOMEM)
		knob_store(&d->knobs, KNOB_RUN, "0", &(struct knob_guard){ 0 });
	unmerge_job_move(&d->unmerge, UNMERGE_IDLE);
	if (error == ETIMEDOUT)
		text_printf(why, "client %d does not answer, it may be stopped", pid);
	else if (error)
		text_printf(why, "client %d cannot unmerge", pid);
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
		};
	g->group = (struct attr_group){
		.name = "ksm",
		ATTR_TABLE(g->attrs),
		.size = sizeof(struct knob_values),
		.look = look,
		.settle = settle,
	};
	attr_register(t, &g->group, g);
}
