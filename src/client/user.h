/* SPDX-License-Identifier: MIT */
/*
 * user.h - look at what a program's pointers point to, where the kernel would.
 *
 * A system call with a bad pointer fails with EFAULT; a wrapper that reads the same memory would
 * end the program instead. So a wrapper asks for a page before it reads it: process_vm_readv(2) of
 * a byte of oneself says EFAULT where a load would be SIGSEGV. If another thread unmaps the page
 * between the two, the program has that race with its own system call, too.
 */
#ifndef KSM_USER_H
#define KSM_USER_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/sysc.h"
#include "wire/wire.h"

#define USER_ASK (-1) /* no operation on a signal mask */

/* May the page of addr be read? *last is the page found to be readable last, 0 at first. */
static inline bool user_page(uintptr_t *last, const void *addr)
{
	uintptr_t page = page_down((uintptr_t)addr);

	if (page == *last && page)
		return true;
	/* It reads the set before it looks at what is to be done with that, unless it is at NULL:
	 * so in the first page, too, another place is asked for. Sandboxes that kill for
	 * process_vm_readv(2) allow this call. */
	if (sysc4(SYS_rt_sigprocmask, USER_ASK, ((uintptr_t)addr & ~(uintptr_t)7) | 8, NULL, 8) ==
	    -EFAULT)
		return false;
	*last = page; /* or a sandbox forbids to ask: as if there were no check */
	return true;
}

static inline bool user_range(const void *addr, size_t len)
{
	uintptr_t last = 0, at = (uintptr_t)addr, end = at + len;

	if (end < at)
		return false;
	for (; at < end; at = (at | (KSM_PAGE_SIZE - 1)) + 1)
		if (!user_page(&last, (const void *)at))
			return false;
	return true;
}

/*
 * May an array that ends with NULL be read, and every string of it? NULL stands for an empty one.
 */
static inline bool user_strings(char *const v[])
{
	uintptr_t last_v = 0, last_s = 0;

	for (; v; v++) {
		if ((uintptr_t)v % sizeof(*v) && !user_range(v, sizeof(*v)))
			return false;
		if (!user_page(&last_v, v))
			return false;
		if (!*v)
			break;
		for (const char *s = *v;; s++) {
			if (!user_page(&last_s, s))
				return false;
			if (!*s)
				break;
		}
	}
	return true;
}

#endif
