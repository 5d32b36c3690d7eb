/* SPDX-License-Identifier: MIT */
/*
 * puppet.h - processes that take part in a test.
 *
 * A puppet is a fork of the test. It waits for the test to name a function, and runs it in its own
 * address space. The test itself offers no memory and asserts what can be seen from outside. A call
 * that does not return within PUPPET_TIMEOUT_MS fails the test: this checks that no client thread
 * blocks. Puppets die with the test.
 */
#ifndef KSM_TEST_PUPPET_H
#define KSM_TEST_PUPPET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PUPPET_PAGE 4096ul
#define PUPPET_TIMEOUT_MS 60000 /* a sanitizer build on a loaded machine; nothing here takes 1 s */

struct puppet {
	pid_t pid;
	int fd;
	int spare; /* connection of a child that it may fork, see puppet_fork() */
};

/* Runs in the puppet. Negative results are errnos by convention. */
typedef long (*puppet_fn)(const long a[6]);

struct puppet *puppet_new(void);
/* A puppet that has given up its privileges for those of uid (and gid) `uid`. */
struct puppet *puppet_new_uid(uid_t uid);
/* A puppet in namespaces of its own (CLONE_NEW*), with a /proc of its pid namespace, as `uid`. */
struct puppet *puppet_new_in(int namespaces, uid_t uid);
/*
 * Let p fork (once). The child is a puppet, too: p's child, not the test's, so p waits for it.
 */
struct puppet *puppet_fork(struct puppet *p);
/* Run fn(a0, ..., a5) in p. */
#define puppet_call(p, ...) puppet_call_(p, PUPPET_ARGS(__VA_ARGS__, 0, 0, 0, 0, 0, 0))
#define PUPPET_ARGS(fn, a, b, c, d, e, f, ...)                                                     \
	fn, (const long[6])                                                                        \
	{                                                                                          \
		(long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)                   \
	}
long puppet_call_(struct puppet *p, puppet_fn fn, const long a[6]);
/* Start it, and fetch the result later. */
void puppet_post_(struct puppet *p, puppet_fn fn, const long a[6]);
#define puppet_post(p, ...) puppet_post_(p, PUPPET_ARGS(__VA_ARGS__, 0, 0, 0, 0, 0, 0))
long puppet_result(struct puppet *p);
/* End it: in order (must exit with 0), or by SIGKILL. Both free p. */
void puppet_end(struct puppet *p);
void puppet_kill(struct puppet *p);

/* ---- functions to call in a puppet ---- */

long fn_map(const long a[6]);       /* (pages, prot or 0 for rw, flags or 0 for private): address */
long fn_merge_any(const long a[6]); /* (enable): ksm_merge_any() */
long fn_ksm_map(const long a[6]);   /* (pages): ksm_mmap(), address */
long fn_fill(const long a[6]);    /* (addr, pages, content, step): page i gets content + i * step */
long fn_touch(const long a[6]);   /* (addr, pages): load from each */
long fn_check(const long a[6]);   /* (addr, pages, content, step): pages that hold other bytes */
long fn_madvise(const long a[6]); /* (addr, bytes, advice): ksm_madvise(), 0 or -errno */
long fn_munmap(const long a[6]);  /* (addr, bytes): ksm_munmap() */
long fn_mremap(const long a[6]);  /* (addr, old, new, flags, new addr): address or -errno */
long fn_mprotect(const long a[6]);  /* (addr, bytes, prot) */
long fn_connected(const long a[6]); /* () 1 when a daemon serves the process and knows its memory */
/* map, fill, offer in one: (pages, content, step): address */
long fn_offer(const long a[6]);

/* Content 0 is zeros; pages of different numbers differ in every word of eight bytes, nearly. */
void page_fill(void *page, uint64_t content);
bool page_holds(const void *page, uint64_t content);

/* ---- what can be seen from outside ---- */

struct daemon;
/* Scan without pause (5 ms between batches), so that tests wait for work and not for naps. */
void daemon_hasten(struct daemon *d);
/* Wait until ksm/NAME is `value`; die when it is not after WAIT_MS. */
#define wait_counter(d, name, value)                                                               \
	wait_counter_at(__FILE__, __LINE__, d, "ksm/" name, (uint64_t)(value))
void wait_counter_at(const char *file, int line, struct daemon *d, const char *path,
		     uint64_t value);
/* Entry of /proc/PID/pagemap. */
uint64_t pagemap_entry(pid_t pid, long addr);
/* Frame number of a page, 0 when it is not present or numbers are hidden. */
uint64_t page_pfn(pid_t pid, long addr);
bool page_present(pid_t pid, long addr);
/* It is a page of a file or of shared memory: for private memory, a stable frame. */
bool page_is_file(pid_t pid, long addr);
/* Pages among the first `pages` that stand on the same frame in both, after all have been used. */
int pages_sharing_frames(struct puppet *p, long a, struct puppet *q, long b, int pages);
/*
 * Pages that are mapped to a stable frame now. Merged pages may be mapped on their first use only.
 */
int pages_on_frames(pid_t pid, long addr, int pages);
/* The same after all have been used. */
int puppet_pages_on_frames(struct puppet *p, long addr, int pages);
/* Whether the kernel shows frame numbers; says SKIP and why when not. */
bool pfns_visible(void);

#endif
