/* SPDX-License-Identifier: MIT */
/*
 * fuzz_session.c - clients' messages and lives, in any order, against the real sessions, domains,
 * grace periods and engine.
 *
 * An input is a list of steps: a client connects, sends a true or false message, stores, forks,
 * dies; the daemon gets a turn, scans, or runs short of a resource. Oracles: engine_check(); an
 * honest process reads only what it wrote; no frame changes or is freed while an honest process
 * maps it; the daemon calls no honest client a liar; when nothing is under way, the counters are
 * right and no frame is left.
 *
 * Seen to fail: when a client drops a sentinel as soon as the next comes, when it drops the old
 * ones before its frames were adopted, when a child does not inherit them (actor.c); with a daemon
 * that gave up an announcement when it could not open a sentinel.
 */
#include <stdlib.h>

#include "actor.h"
#include "daemon/attr.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world_init();
	return 0;
}

static struct actor *pick(struct actors *as, struct input *in)
{
	int from = take8(in) % MAX_ACTORS;

	for (int i = 0; i < MAX_ACTORS; i++) {
		struct actor *a = &as->v[(from + i) % MAX_ACTORS];

		if (a->proc)
			return a;
	}
	return NULL;
}

struct pages {
	unsigned int from, nr;
};

static struct pages take_pages(struct input *in)
{
	struct pages s = { .from = take8(in) % PROC_PAGES };

	s.nr = 1 + take8(in) % (PROC_PAGES - s.from);
	return s;
}

static void store(struct actor *a, struct input *in)
{
	struct pages s = take_pages(in);
	uint8_t tag = take8(in);

	/* All alike, a sequence that runs can be made of, or unlike anything else. */
	for (unsigned int i = s.from; i < s.from + s.nr; i++)
		actor_store(a, i,
			    tag < 64  ? tag % 8 :
			    tag < 192 ? 1000 + i + tag % 2 :
					((uint64_t)a->proc->pid << 32) + i);
}

/* Time passes, and the client thread sees it. */
static void pass_time(struct actors *as, uint64_t ms)
{
	as->crowd |= os_now_ms() + ms >= 5000; /* the clock starts at 1000 */
	os_advance_ms(ms);
	world_clients(as->w);
}

static void set_knob(struct actors *as, struct input *in)
{
	static const char *const sets[][2] = {
		{ "ksm/run", "0" },
		{ "ksm/run", "1" },
		{ "ksm/run", "2" },
		{ "ksm/merge_across_nodes", "0" },
		{ "ksm/merge_across_nodes", "1" },
		{ "ksm/max_page_sharing", "2" },
		{ "ksm/max_page_sharing", "256" },
		{ "ksm/use_zero_pages", "1" },
		{ "ksm/smart_scan", "0" },
		{ "ksm/vma_budget_percent", "0" },
		{ "ksm/vma_budget_percent", "50" },
	};
	static const char *const moves[][2] = {
		{ "node/0/migrate_to", "1" },    { "node/1/migrate_to", "0" },
		{ "node/0/migrate_to", "none" }, { "node/0/migrate_to", "0" },
		{ "node/0/offline", "all" },     { "node/0/offline", "0 1024" },
		{ "node/0/offline", "none" },    { "node/0/online", "all" }
	};
	unsigned int i = take8(in);

	if (i >= 0xf0) {
		i %= sizeof(moves) / sizeof(moves[0]);
		attr_set(&as->w->groups.tree, moves[i][0], moves[i][1]);
		return;
	}
	i %= sizeof(sets) / sizeof(sets[0]);
	attr_set(&as->w->groups.tree, sets[i][0], sets[i][1]);
}

static void restart(struct actors *as)
{
	enum domain_mode mode = as->w->d.domains.mode;
	int nr_nodes = as->w->d.topology->nr_nodes;

	world_stop(as->w);
	os_fault(0, 0);
	os_must(world_start(as->w, mode, nr_nodes));
}

static void step_memory(struct actor *a, uint8_t what, struct input *in)
{
	struct pages s;

	switch (what) {
	case 0:
		store(a, in);
		return;
	case 1:
		s = take_pages(in);
		actor_forget(a, s.from, s.nr);
		return;
	case 2:
		s = take_pages(in);
		actor_del(a, s.from, s.nr);
		return;
	case 3:
		s = take_pages(in);
		actor_add(a, s.from, s.nr);
		return;
	case 4:
		s = take_pages(in);
		actor_move(a, s.from, (s.from + s.nr) % PROC_PAGES);
		return;
	default:
		s = take_pages(in);
		for (unsigned int i = s.from; i < s.from + s.nr; i++)
			a->proc->page[i].pinned = !a->proc->page[i].pinned;
	}
}

static void step_life(struct actors *as, struct actor *a, uint8_t what, struct input *in)
{
	struct actor *c;

	switch (what) {
	case 0:
		actor_connect(as, a);
		break;
	case 1:
		actor_hang_up(a);
		break;
	case 2:
		actor_exit(a);
		break;
	case 3:
		actor_fork(as, a, true);
		break;
	case 4:
		c = actor_fork(as, a, false);
		if (c)
			actor_connect(as, c);
		break;
	case 5:
		if (a->sock)
			a->sock->room = take8(in) % 8;
		break;
	case 6:
		if (a->sock)
			a->sock->room = 64;
		break;
	default:
		/* A sentinel locked against the daemon. */
		a->proc->liar = true;
		if (a->sentinel && !a->sentinel->inode->exclusive &&
		    a->sentinel->inode->nr_shared == 1)
			a->sentinel->inode->exclusive = a->sentinel;
	}
}

static void step_daemon(struct actors *as, uint8_t what, struct input *in)
{
	switch (what) {
	case 0:
		world_clients(as->w);
		break;
	case 1:
		world_scan(as->w, 1 + take8(in) * 4, take8(in) & 1);
		break;
	case 2:
		pass_time(as, take8(in));
		break;
	case 3:
		pass_time(as, take8(in) * 200u);
		break;
	case 4:
		set_knob(as, in);
		break;
	case 5:
		world_control(as->w);
		break;
	case 6:
		as->faults = true;
		os_fault(take16(in), 1 + take8(in) % 3);
		break;
	case 7:
		restart(as);
		break;
	default:
		world_check(as->w);
	}
}

/* Some passes with every order answered: few bytes lead to a merge. */
static void merge(struct actors *as)
{
	for (int i = 0; i < 3; i++) {
		world_scan(as->w, 2000, true);
		for (int k = 0; k < MAX_ACTORS; k++)
			while (as->v[k].proc && actor_read(as, &as->v[k]))
				;
		world_clients(as->w);
	}
}

static void step(struct actors *as, struct input *in)
{
	uint8_t op = take8(in);
	struct actor *a;

	if (op < 8) {
		a = actor_new(as, op % 3 * 500u);
		if (a)
			actor_connect(as, a);
		return;
	}
	if (op >= 0xc0) {
		if (op < 0xc8)
			merge(as);
		else
			step_daemon(as, op % 9, in);
		return;
	}
	a = pick(as, in);
	if (!a)
		return;
	if (op < 0x50)
		step_memory(a, op % 6, in);
	else if (op < 0x70)
		step_life(as, a, op % 8, in);
	else if (op < 0x90)
		actor_read(as, a);
	else
		actor_lie(as, a, in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	static struct world w;
	static struct actors as;
	uint8_t how = take8(&in);
	enum domain_mode mode = how & 0x40 ? how % 5 : how % 3;

	memset(&as, 0, sizeof(as));
	as.w = &w;
	os_reset();
	if (how >= 0xe0) {
		os_fault(take16(&in), 1);
		if (!world_start(&w, mode, 1 + how / 3 % 2))
			return 0; /* clean, as world_stop() has seen */
		os_fault(0, 0);
	} else {
		os_must(world_start(&w, mode, 1 + how / 3 % 2));
	}
	while (in.p < in.end)
		step(&as, &in);
	actors_check(&as);
	actors_rest(&as);
	for (int i = 0; i < MAX_ACTORS; i++)
		if (as.v[i].proc)
			actor_exit(&as.v[i]);
	world_stop(&w);
	return 0;
}
