/* SPDX-License-Identifier: MIT */
/*
 * loop.h - a thread's event loop: callbacks of descriptors, then timers, turn by turn.
 *
 * An object embeds its watches and timers; the callback finds the object with container_of(). Only
 * the thread that owns the loop calls these functions. Other threads write to a descriptor that the
 * loop watches.
 *
 * A turn waits for events or the earliest timer, calls back the watches that are ready, and then
 * fires the timers that are due, each at most once and in the order in which they were added. So
 * a timer that a callback sets to 0 fires in the same turn, after all callbacks. An object that
 * callers further up the stack may still use is freed in this way.
 */
#ifndef KSM_LOOP_H
#define KSM_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>

struct loop;

/* All zero: not watched. loop_watch() sets every field. */
struct loop_watch {
	struct loop *loop; /* NULL: not watched */
	int fd;            /* owned by the caller */
	uint32_t events;   /* EPOLL* asked for */
	void (*ready)(struct loop_watch *w, uint32_t events);
};

struct loop_timer {
	uint64_t due_ms; /* of clock_ms(); CLOCK_NEVER while it is not set */
	void (*fire)(struct loop_timer *t, uint64_t now_ms);
	TAILQ_ENTRY(loop_timer) link;
};

/* Invariant during a turn: events [at, nr) are not delivered yet, and no removed watch has one. */
struct loop {
	int epoll;
	bool stopped;
	TAILQ_HEAD(, loop_timer) timers;
	struct epoll_event *event;
	int at, nr;
};

/* Returns 0 or -errno. loop_deinit() may follow a failed loop_init(). */
int loop_init(struct loop *l);
void loop_deinit(struct loop *l);

/*
 * Call `ready` whenever `fd` has one of the EPOLL* events, or EPOLLHUP or EPOLLERR. The watch must
 * stay where it is until loop_unwatch(). Returns 0 or -errno, which leaves it not watched.
 */
int loop_watch(struct loop *l, struct loop_watch *w, int fd, uint32_t events,
	       void (*ready)(struct loop_watch *w, uint32_t events));
/* Ask for other events; a call without a change costs nothing. Returns 0 or -errno. */
int loop_watch_set(struct loop_watch *w, uint32_t events);
/* Call it before closing fd. `ready` is not called again, not even this turn. May be repeated. */
void loop_unwatch(struct loop_watch *w);

/* Add a timer, not set yet, for the life of the loop. Each turn looks at all: a handful is fine. */
void loop_timer_add(struct loop *l, struct loop_timer *t,
		    void (*fire)(struct loop_timer *t, uint64_t now_ms));
/* Fire at due_ms, whatever was set before; CLOCK_NEVER: not at all. `fire` may set it again. */
static inline void loop_timer_set(struct loop_timer *t, uint64_t due_ms)
{
	t->due_ms = due_ms;
}
/* Fire at due_ms unless it is set to fire sooner. */
static inline void loop_timer_hasten(struct loop_timer *t, uint64_t due_ms)
{
	if (due_ms < t->due_ms)
		t->due_ms = due_ms;
}

/* One turn; for tests that play a thread. */
void loop_turn(struct loop *l);
/* Turns until a callback stops the loop. */
void loop_run(struct loop *l);
static inline void loop_stop(struct loop *l)
{
	l->stopped = true;
}

#endif
