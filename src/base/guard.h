/* SPDX-License-Identifier: MIT */
/*
 * guard.h - which lock a function needs, takes or gives back, in a form that clang verifies.
 *
 * `make clang` compiles with -Wthread-safety; gcc ignores the annotations. An argument names the
 * lock as the function's parameters reach it: NEEDS(e->lock). A static function carries its
 * annotations at its definition, other functions in their header. LOCK_TYPE marks the type of a
 * lock. C cannot name a sibling field in a field's attribute, so a comment at each field says in
 * words which lock covers it.
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
/* The caller holds the locks, or does not. */
#define NEEDS(...) GUARD_ATTR(requires_capability(__VA_ARGS__))
#define NEEDS_NOT(...) GUARD_ATTR(locks_excluded(__VA_ARGS__))
/* The function takes the lock, takes it when it returns its first argument, or gives it back. */
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
