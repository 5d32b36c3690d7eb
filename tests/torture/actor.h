/* SPDX-License-Identifier: MIT */
/*
 * actor.h - a process of the torture: threads that work on areas of memory, each with a shadow.
 *
 * The world. Everything an actor knows lies in one private mapping of a memfd. It is never offered
 * for merging, because it is no anonymous memory, and a fork copies it together with the memory
 * that it describes. So after any fork the child's shadows are as right as the parent's were.
 *
 * Who may touch what. An area belongs to one thread, or is shared. In a shared area thread i owns
 * the SECTOR bytes from i * SECTOR of each page, and changes of the mapping need the area's lock
 * exclusively. So threads store into one page at the same time, and yet every byte has one writer.
 * Bytes of shared pages that nobody owns keep what they were filled with.
 *
 * Order. A thread holds the gate (shared) during an operation, and then takes the area's lock. A
 * fork that wants all shadows to be right takes the gate exclusively. FORK_BUSY forks without the
 * gate: other threads are in the middle of things, and the child looks only at what its own thread
 * owns.
 */
#ifndef KSM_TORTURE_ACTOR_H
#define KSM_TORTURE_ACTOR_H

#include "tests/torture/calls.h"
#include "tests/torture/torture.h"

#define AREAS 10
#define AREA_PAGES 1536u /* 6 MiB: room for an aligned huge page, and for growth */
#define AREA_SMALL 192u  /* with --small an area has no more at first */
#define SECTOR 1024u
#define BUF_PAGES 64u /* most pages in one operation with data */
#define AREA_SHARED 0xff
#define KIDS 8

/* State of a page, beside its bytes. */
enum {
	PF_HOLE = 1 << 0,     /* not mapped */
	PF_RO = 1 << 1,       /* PROT_READ */
	PF_NONE = 1 << 2,     /* PROT_NONE */
	PF_LAZY = 1 << 3,     /* MADV_FREE: the bytes, or zeros */
	PF_LOCKED = 1 << 4,   /* mlock */
	PF_DONTFORK = 1 << 5, /* not in children */
	PF_WIPE = 1 << 6,     /* zeros in children */
	PF_SPECIAL = PF_LOCKED | PF_DONTFORK | PF_WIPE,
	PF_NO_STORE = PF_HOLE | PF_RO | PF_NONE,
};

struct area {
	uint8_t *mem, *shadow;
	uint32_t pages;       /* 0: no such area */
	uint8_t owner;        /* thread, or AREA_SHARED */
	bool heap;            /* from malloc: the mapping is not ours to change */
	_Atomic int32_t lock; /* shared areas: readers, -1 a writer */
	uint8_t flag[AREA_PAGES];
};

struct kid {
	pid_t pid;
	int seat;
};

struct thread {
	uint32_t index;
	uint64_t seed;
	uint32_t head_at_fork; /* of the ring */
	int pipe[2], sock[2];
	struct kid kid[KIDS];
	uint8_t buf[BUF_PAGES * PG] __attribute__((aligned(4096)));
	uint8_t scratch[PG] __attribute__((aligned(4096)));
};

struct world {
	int seat;
	uint32_t nr_threads;
	bool solo;  /* one thread, which owns everything: a child without a C library */
	bool brief; /* a child that ends soon: makes no children */
	bool busy_fork;
	_Atomic int32_t gate;
	_Atomic uint32_t gate_wanted, leaving;
	struct area area[AREAS];
	struct thread thread[THREADS];
};

extern struct world *world;
extern _Thread_local struct thread *me;

static inline struct thread_seat *my_seat(void)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): set before there are threads */
	return &ctl->p[world->seat].t[me->index];
}

static inline uint64_t dice(uint64_t n)
{
	return rnd_below(&me->seed, n);
}

static inline bool odds(unsigned int percent)
{
	return dice(100) < percent;
}

/* A piece of an area for one operation. */
struct piece {
	struct area *a;
	uint32_t first, nr;
	uint32_t off, len; /* what of each page may be stored to: all, or a sector */
};

static inline uint8_t *piece_mem(const struct piece *p)
{
	return p->a->mem + p->first * PG;
}

static inline uint8_t *piece_shadow(const struct piece *p)
{
	return p->a->shadow + p->first * PG;
}

static inline size_t piece_bytes(const struct piece *p)
{
	return p->nr * PG;
}

/* ---- world.c ---- */

void gate_enter(void);
void gate_leave(void);
void gate_close(void); /* exclusively */
void gate_open(void);
void area_lock(struct area *a, bool exclusive);
void area_unlock(struct area *a, bool exclusive);
void beat(void);
/* Note an operation in the ring. It is seen there before it has any effect. */
void log_begin(enum op op, const struct piece *p, uint64_t arg);
void log_end(int64_t res);
/* End the run: a call failed that must not fail. */
_Noreturn void fail_call(const char *what, long err);
_Noreturn void fail_other(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Say that the machine lacks something, so that the operation is not to be expected. */
void op_lacks(enum op op, int err);
/* Make the world of the process in this seat, and its threads' dice. False: no memory. */
bool world_make(int seat);
void world_seed(void);
/* From now on a crash is reported, and the process stops to be examined. */
void world_catch_crashes(void);

/* ---- area.c ---- */

/* New memory for area index i, of a random size and content; false when mmap has none. */
bool area_make(unsigned int i, uint8_t owner, bool heap);
/* Unmap what is there of the area, and forget it. The caller holds it exclusively. */
void area_drop(struct area *a);
/*
 * Fail unless the bytes of the pages are what they have to be. `all`: of whole pages, not only of
 * the part that the thread owns.
 */
void check_pages(struct area *a, uint32_t first, uint32_t nr, bool all);
/* Check everything that the calling thread owns; everything there is when it is alone. */
void check_all(void);
bool area_mine(const struct area *a);
/* After MADV_FREE: find out whether the bytes or zeros are there, and make them stay. */
void resolve_lazy(struct area *a, uint32_t first, uint32_t nr);
/* In a child: take account of what fork left out or wiped. `seen`: the library saw the fork. */
void areas_after_fork(bool seen);
/* Is the page mapped to a file (a frame)? -1: pagemap cannot be read. */
int page_on_file(const void *addr);
/* Put new contents for the pages of p into buf; they are often contents that others have, too. */
void make_content(const struct piece *p, uint8_t *buf);
/* Say in the shadows that the bytes of buf are stored in p's part of each page. */
void shadow_store(const struct piece *p, const uint8_t *buf);

/* ---- operations: each returns true when it was carried out ---- */

struct op_desc {
	enum op op;
	uint8_t weight;
	uint8_t flags; /* NEED_* */
	uint16_t max_pages, min_pages;
	bool (*fn)(struct piece *p);
};
enum {
	NEED_STORE = 1 << 0,   /* pages that can be stored to, held for my part of them */
	NEED_MAP = 1 << 1,     /* a mapping to change, held exclusively; not from malloc */
	NEED_ANY = 1 << 2,     /* with NEED_MAP: pages in whatever state */
	NEED_LONE = 1 << 3,    /* not in a solo process, nor a brief one */
	NEED_PRIVATE = 1 << 4, /* an area of my own */
	NEED_WHOLE = 1 << 5,   /* all of the area */
	NEED_PLAIN = 1 << 6,   /* no page locked, or special to forks */
	NEED_NOLOCK = 1 << 7,  /* no area, and not the gate either: takes it itself */
};
extern const struct op_desc ops_store[], ops_io[], ops_pin[], ops_map[], ops_process[], ops_stack[];
extern const unsigned int nr_ops_store, nr_ops_io, nr_ops_pin, nr_ops_map, nr_ops_process,
	nr_ops_stack;

/* ops_process.c: look after children that ended. */
void reap_kids(void);
/*
 * What a child does with its life. actor.c fills it in: the operation that made the child knows no
 * other operation.
 */
struct life {
	void (*step)(void);           /* carry out one operation of those that make no process */
	void (*live)(uint32_t index); /* be thread `index`, make the others, work until the end */
};
extern struct life life;

#endif
