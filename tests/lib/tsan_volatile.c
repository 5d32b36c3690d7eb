/* SPDX-License-Identifier: MIT */
/*
 * tsan_volatile.c - make the thread sanitizer understand RCU.
 *
 * liburcu 0.13 publishes and reads pointers with volatile accesses and barriers in assembly. The
 * sanitizer takes these for plain, racing accesses. With --param tsan-distinguish-volatile=1 the
 * compiler calls the functions below for volatile accesses. Here a volatile store releases and a
 * volatile load acquires, as CMM_STORE_SHARED and CMM_LOAD_SHARED do with their barriers. Only
 * thread-sanitizer builds link this file.
 */
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>

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
#else
typedef int tsan_volatile_is_empty; /* ISO C wants a declaration */
#endif
