/* SPDX-License-Identifier: MIT */
/*
 * actor.c - the life of an actor: see actor.h.
 *
 *	actor CTL_FD SEAT     a process of the torture
 *	actor --noop          to be executed, and end
 */
#include "tests/torture/actor.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A clock that stands still for so long means that the schedule is gone. */
#define ORPHAN_MS 20000

/* ---- choosing ---- */

static const struct {
	const struct op_desc *ops;
	const unsigned int *nr;
} kinds[] = {
	{ ops_store, &nr_ops_store },     { ops_io, &nr_ops_io },
	{ ops_pin, &nr_ops_pin },         { ops_map, &nr_ops_map },
	{ ops_process, &nr_ops_process }, { ops_stack, &nr_ops_stack },
};
#define NR_KINDS (sizeof(kinds) / sizeof(kinds[0]))

/*
 * One of the kinds that the schedule waits for, each as likely as the others; NULL when it waits
 * for none.
 */
static const struct op_desc *pick_wanted(void)
{
	const struct op_desc *picked = NULL;
	unsigned int nr = 0;

	for (unsigned int k = 0; k < NR_KINDS; k++)
		for (unsigned int i = 0; i < *kinds[k].nr; i++)
			if (atomic_load(&ctl->wanted[kinds[k].ops[i].op]) && dice(++nr) == 0)
				picked = &kinds[k].ops[i];
	return picked;
}

static const struct op_desc *pick_op(void)
{
	static unsigned int total; /* the same for all threads */
	const struct op_desc *wanted;
	uint64_t at;

	if (atomic_load(&ctl->nr_wanted) && dice(2)) {
		wanted = pick_wanted();
		if (wanted)
			return wanted;
	}
	if (!total) {
		unsigned int sum = 0;

		for (unsigned int k = 0; k < NR_KINDS; k++)
			for (unsigned int i = 0; i < *kinds[k].nr; i++)
				sum += kinds[k].ops[i].weight;
		total = sum;
	}
	at = dice(total);
	for (unsigned int k = 0;; k++)
		for (unsigned int i = 0; i < *kinds[k].nr; i++) {
			if (at < kinds[k].ops[i].weight)
				return &kinds[k].ops[i];
			at -= kinds[k].ops[i].weight;
		}
}

static bool page_fits(const struct op_desc *o, uint8_t flag)
{
	if ((o->flags & NEED_PLAIN) && (flag & PF_SPECIAL))
		return false;
	if (o->flags & NEED_ANY)
		return true;
	return !(flag & (o->flags & NEED_STORE ? PF_NO_STORE : PF_HOLE | PF_NONE));
}

/* Pick the pages of an area for the operation. */
static bool pick_piece(const struct op_desc *o, struct area *a, struct piece *p)
{
	uint32_t max = 1 + (uint32_t)dice(o->max_pages);

	*p = (struct piece){ .a = a, .off = 0, .len = PG };
	if (o->flags & NEED_WHOLE) {
		p->nr = a->pages;
		for (uint32_t i = 0; i < a->pages; i++)
			if (!page_fits(o, a->flag[i]))
				return false;
		return true;
	}
	if (max < o->min_pages)
		max = o->min_pages;
	p->first = (uint32_t)dice(a->pages);
	while (p->first < a->pages && !page_fits(o, a->flag[p->first]))
		p->first++;
	while (p->first + p->nr < a->pages && p->nr < max &&
	       page_fits(o, a->flag[p->first + p->nr]))
		p->nr++;
	return p->nr && p->nr >= o->min_pages;
}

static struct area *pick_area(const struct op_desc *o)
{
	struct area *a = &world->area[dice(AREAS)];

	if (!a->pages || (a->heap && (o->flags & NEED_MAP)))
		return NULL;
	if (area_mine(a))
		return a;
	return a->owner == AREA_SHARED && !(o->flags & NEED_PRIVATE) ? a : NULL;
}

static void one_op(const struct op_desc *o)
{
	bool exclusive = o->flags & NEED_MAP;
	struct piece p = { 0 };
	struct area *a;

	if ((o->flags & NEED_LONE) && (world->solo || world->brief))
		return;
	if (o->flags & NEED_NOLOCK) {
		o->fn(NULL);
		return;
	}
	a = pick_area(o);
	if (!a)
		return;
	gate_enter();
	area_lock(a, exclusive);
	if (a->pages && pick_piece(o, a, &p)) {
		bool solo = world->solo || area_mine(a) || exclusive;

		p.off = solo ? 0 : me->index * SECTOR;
		p.len = solo ? PG : SECTOR;
		if (o->flags & NEED_STORE)
			resolve_lazy(a, p.first, p.nr);
		if (o->fn(&p))
			my_seat()->ops[o->op]++;
	}
	area_unlock(a, exclusive);
	gate_leave();
}

static void step(void)
{
	one_op(pick_op());
}

/* ---- areas of a process ---- */

static uint8_t owner_of(unsigned int i)
{
	if (i >= AREAS - 3)
		return AREA_SHARED;
	return (uint8_t)(i % world->nr_threads);
}

/* Keep a few areas of the thread; the first thread makes the shared ones. */
static void keep_areas(void)
{
	for (unsigned int i = 0; i < AREAS; i++) {
		struct area *a = &world->area[i];
		uint8_t owner = owner_of(i);
		bool mine = owner == me->index || (owner == AREA_SHARED && me->index == 0);

		if (a->pages || !mine || (world->solo && world->brief))
			continue;
		a->owner = owner; /* the lock asks for it */
		area_lock(a, true);
		log_begin(OP_MAP, NULL, i);
		if (area_make(i, owner, i == 0))
			my_seat()->ops[OP_MAP]++;
		log_end(a->pages);
		area_unlock(a, true);
	}
}

/* ---- threads ---- */

static bool schedule_is_gone(void)
{
	return now_ms() > atomic_load(&ctl->alive_ms) + ORPHAN_MS;
}

/* Keep something to offer, so that the schedule can expect a connection. */
static void offer_something(void)
{
	gate_enter();
	keep_areas();
	for (unsigned int i = 0; i < AREAS; i++) {
		const struct area *a = &world->area[i];

		if (a->pages && a->owner == me->index && !a->heap)
			call_madvise(a->mem, a->pages * PG, MADV_MERGEABLE);
	}
	gate_leave();
}

/* Wait for the end of a phase of calm; look through all memory once in it. */
static void park(void)
{
	struct thread_seat *t = my_seat();
	uint32_t phase;

	if (me->index == 0)
		offer_something();
	while ((phase = atomic_load(&ctl->phase)) == PHASE_PARK || phase == PHASE_VERIFY) {
		atomic_store(&t->parked, 1);
		if (phase == PHASE_VERIFY && !atomic_load(&t->verified)) {
			check_all();
			atomic_store(&t->verified, 1);
		}
		beat();
		reap_kids();
		nap_us(2000);
		if (schedule_is_gone())
			_exit(0);
	}
	atomic_store(&t->verified, 0);
	atomic_store(&t->parked, 0);
}

static bool leaving(void)
{
	return atomic_load(&ctl->phase) == PHASE_STOP || atomic_load(&world->leaving);
}

static void work(void)
{
	uint64_t busy = 0;

	while (!leaving()) {
		beat();
		if (schedule_is_gone())
			_exit(0);
		if (atomic_load(&ctl->phase) != PHASE_RUN)
			park();
		gate_enter();
		keep_areas();
		gate_leave();
		step();
		reap_kids();
		/*
		 * Work in bursts, with rests between them: memory that is never calm is never
		 * merged.
		 */
		if (busy == 0 || --busy == 0) {
			busy = 1 + dice(30);
			nap_us(dice(8) ? dice(5000) : dice(60000));
		}
		if (me->index == 0 && !dice(20000))
			atomic_store(&world->leaving, 1); /* others come in its place */
	}
}

static void *thread_main(void *arg)
{
	me = arg;
	atomic_store(&my_seat()->tid, (int)syscall(SYS_gettid));
	atomic_store(&my_seat()->alive, 1);
	work();
	gate_enter();
	check_all();
	gate_leave();
	atomic_store(&my_seat()->alive, 0);
	return NULL;
}

static void drop_all(void)
{
	for (unsigned int i = 0; i < AREAS; i++)
		if (world->area[i].pages)
			area_drop(&world->area[i]);
}

_Noreturn static void live(uint32_t index)
{
	pthread_t thread[THREADS] = { 0 };

	me = &world->thread[index];
	for (uint32_t i = 0; i < world->nr_threads; i++)
		if (i != index && pthread_create(&thread[i], NULL, thread_main, &world->thread[i]))
			fail_call("pthread_create", EAGAIN);
	thread_main(me);
	for (uint32_t i = 0; i < world->nr_threads; i++)
		if (i != index)
			pthread_join(thread[i], NULL);
	if (odds(50)) /* else the kernel takes it all at once */
		drop_all();
	_exit(0);
}

/* ---- start ---- */

int main(int argc, char **argv)
{
	int fd, seat;

	if (argc == 2 && !strcmp(argv[1], "--noop"))
		return 0;
	if (argc != 3) {
		fprintf(stderr, "usage: started by the torture: actor CTL_FD SEAT\n");
		return 2;
	}
	fd = atoi(argv[1]);
	seat = atoi(argv[2]);
	if (!ctl_map(fd) || seat < 0 || seat >= SEATS || !world_make(seat)) {
		fprintf(stderr, "actor: cannot map the torture's memory: %s\n", strerror(errno));
		return 2;
	}
	close(fd);
	signal(SIGHUP, SIG_IGN);
	world_seed();
	world_catch_crashes();
	life = (struct life){ .step = step, .live = live };
	for (int i = 0; i < THREADS; i++) /* of the program that executed this one */
		atomic_store(&ctl->p[seat].t[i].alive, 0);
	ctl->p[seat].client = 1;
	atomic_store(&ctl->p[seat].pid, getpid());
	atomic_store(&ctl->p[seat].state, SEAT_LIVE);
	live(0);
}
