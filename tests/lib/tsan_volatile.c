/* SPDX-License-Identifier: MIT */
/*
 * tsan_volatile.c - make the thread sanitizer understand RCU.
 *
 * liburcu 0.13 publishes and reads pointers with volatile accesses and barriers in assembly. The
 * sanitizer takes these for plain, racing accesses. With --param tsan-distinguish-volatile=1 the
 * compiler calls the functions below for volatile accesses. Here a volatile store releases and a
 * volatile load acquires, as CMM_STORE_SHARED and CMM_LOAD_SHARED do with their barriers. Only
 * thread-sanitizer builds link this file.
 *
 * Callbacks. It does not see that a callback of call_rcu() comes after all that was done to its
 * object, because the library's thread learns of that without the sanitizer. So it took every
 * callback for a race. That was suppressed (tests/tsan.supp), but each time it looks through the
 * addresses of all races before, so a daemon that had freed some ten thousand regions was busy with
 * that for 60 s at its end. Here the first callback has it ignore what the thread that runs
 * callbacks does.
 */
#if defined(__SANITIZE_THREAD__)
#include <dlfcn.h>
#include <pthread.h>
#include <sanitizer/tsan_interface.h>
#include <urcu.h>

#define VOLATILE(size)                                                                             \
	void __tsan_volatile_read##size(void *p);                                                  \
	void __tsan_volatile_write##size(void *p);                                                 \
	void __tsan_unaligned_volatile_read##size(void *p);                                        \
	void __tsan_unaligned_volatile_write##size(void *p);                                       \
	void __tsan_volatile_read##size(void *p)                                                   \
	{                                                                                          \
		__tsan_acquire(p);                                                                 \
	}                                                                                          \
	void __tsan_volatile_write##size(void *p)                                                  \
	{                                                                                          \
		__tsan_release(p);                                                                 \
	}                                                                                          \
	void __tsan_unaligned_volatile_read##size(void *p)                                         \
	{                                                                                          \
		__tsan_acquire(p);                                                                 \
	}                                                                                          \
	void __tsan_unaligned_volatile_write##size(void *p)                                        \
	{                                                                                          \
		__tsan_release(p);                                                                 \
	}

VOLATILE(1)
VOLATILE(2)
VOLATILE(4)
VOLATILE(8)
VOLATILE(16)

/* Of the sanitizer's run time, in no header. */
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);

static void (*library_call_rcu)(struct rcu_head *head, void (*func)(struct rcu_head *head));

static void ignore_from_now_on(struct rcu_head *head)
{
	(void)head;
	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

static void queue_first(void)
{
	static struct rcu_head first;

	*(void **)&library_call_rcu = dlsym(RTLD_NEXT, "urcu_memb_call_rcu");
	library_call_rcu(&first, ignore_from_now_on);
}

/* Comes before the library's. */
void urcu_memb_call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, queue_first);
	library_call_rcu(head, func);
}
#else
typedef int tsan_volatile_is_empty; /* ISO C wants a declaration */
#endif
