/* SPDX-License-Identifier: MIT */
/*
 * guard.h - which lock a function needs, takes or gives back, in a form that clang verifies.
 *
 * `make clang` compiles with -Wthread-safety; gcc sees nothing. An argument names the lock as the
 * function's parameters reach it: NEEDS(e->lock). A static function carries it at its
 * definition, another in its header. A lock's type carries LOCK_TYPE. C cannot name a sibling field
 * in a field's attribute, so fields say in words which lock covers them.
 */
#ifndef KSM_GUARD_H
#define KSM_GUARD_H

#include <pthread.h>

#ifdef __clang__
#define GUARD_ATTR(x) __attribute__((x))
#else
#define GUARD_ATTR(x)
#endif

#define LOCK_TYPE(name) GUARD_ATTR(capability(name))
#define NEEDS(...) GUARD_ATTR(requires_capability(__VA_ARGS__))
#define NEEDS_NOT(...) GUARD_ATTR(locks_excluded(__VA_ARGS__))
#define TAKES(...) GUARD_ATTR(acquire_capability(__VA_ARGS__))
#define TRIES(...) GUARD_ATTR(try_acquire_capability(__VA_ARGS__))
#define GIVES(...) GUARD_ATTR(release_capability(__VA_ARGS__))
/* For a function that shows that its caller holds this lock, known by another name. */
#define HELD(...) GUARD_ATTR(assert_capability(__VA_ARGS__))
/* For a function whose locking depends on its data; its comment says how. */
#define UNCHECKED_LOCKING GUARD_ATTR(no_thread_safety_analysis)

/* A mutex that the analysis knows. */
struct LOCK_TYPE("mutex") lock {
	pthread_mutex_t m;
};

static inline void lock_init(struct lock *l)
{
	pthread_mutex_init(&l->m, NULL);
}

static inline void lock_deinit(struct lock *l)
{
	pthread_mutex_destroy(&l->m);
}

static inline void lock_take(struct lock *l) TAKES(*l) UNCHECKED_LOCKING;
static inline void lock_take(struct lock *l)
{
	pthread_mutex_lock(&l->m);
}

static inline void lock_give(struct lock *l) GIVES(*l) UNCHECKED_LOCKING;
static inline void lock_give(struct lock *l)
{
	pthread_mutex_unlock(&l->m);
}

#endif
