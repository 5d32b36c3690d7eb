/* SPDX-License-Identifier: MIT */
/*
 * test_still.c - what others write into processes that sleep is found, too.
 *
 * Passes pass a client by while its process does not run (still.h). Here it is stopped, because its
 * agent would wake up now and then, and its memory is written all the same: by the test, in two
 * ways, or by a process that shares its address space. What was written must be read by a pass, and
 * be merged when the client runs again. Seen to fail (nothing is read within WAIT_MS) in each case
 * where still_pass() passed by for ever.
 */
#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

enum { PAGES = 96, CLIENTS = 2, ROUNDS = 3 };

#define PG ((long)PUPPET_PAGE)
#define STACK_BYTES (64 * 1024)
#define ASLEEP_PASSES 10 /* the first of them have looked, and found nothing */

enum how { BY_WRITEV, BY_MEM, BY_SHARER, HOWS };

/* In memory that is not offered, between a client and the process that shares its memory. */
struct sharer {
	_Atomic long content; /* what to write next */
	_Atomic long done;    /* what was written last */
	long addr;
	pid_t pid;
};

struct client {
	struct puppet *p;
	long at;
	struct sharer *s; /* an address in the client */
};

static void nap_a_while(void)
{
	usleep(2000);
}

/* It makes no library call that would do with the thread whose memory it shares. */
static int share(void *arg)
{
	struct sharer *s = arg;

	for (;;) {
		long want = s->content;

		if (want != s->done) {
			for (long i = 0; i < PAGES; i++)
				page_fill((void *)(s->addr + i * PG), (uint64_t)(want + i));
			s->done = want;
		}
		nap_a_while();
	}
	return 0;
}

/* (addr, content): start a process that shares the memory of this one. */
static long fn_start_sharer(const long a[6])
{
	char *mem = mmap(NULL, STACK_BYTES + PUPPET_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sharer *s = (struct sharer *)(mem + STACK_BYTES);

	if (mem == MAP_FAILED)
		return -1;
	s->addr = a[0];
	s->content = s->done = a[1];
	s->pid = clone(share, mem + STACK_BYTES, CLONE_VM | SIGCHLD, s);
	return s->pid < 0 ? -1 : (long)s;
}

static long fn_end_sharer(const long a[6])
{
	struct sharer *s = (struct sharer *)a[0];

	return kill(s->pid, SIGKILL) || waitpid(s->pid, NULL, 0) != s->pid ? -1 : 0;
}

/* Bytes of a client, read or written while it sleeps. */
static void copy(const struct client *c, long at, void *buf, size_t len, bool out)
{
	const struct iovec here = { buf, len }, there = { (void *)at, len };
	ssize_t n = out ? process_vm_writev(c->p->pid, &here, 1, &there, 1, 0) :
			  process_vm_readv(c->p->pid, &here, 1, &there, 1, 0);

	ck_assert_int_eq(n, (ssize_t)len);
}

static void write_mem(const struct client *c, long at, const void *buf, size_t len)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", c->p->pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, buf, len, at), (ssize_t)len);
	close(fd);
}

static long sharer_has_done(const struct client *c)
{
	struct sharer s;

	copy(c, (long)c->s, &s, sizeof(s), false);
	return s.done;
}

/* Page i gets content + i. */
static void write_pages(const struct client *c, enum how how, long content)
{
	static _Alignas(PUPPET_PAGE) char buf[PAGES * PUPPET_PAGE];

	for (long i = 0; i < PAGES; i++)
		page_fill(buf + i * PG, (uint64_t)(content + i));
	if (how == BY_WRITEV) {
		copy(c, c->at, buf, sizeof(buf), true);
	} else if (how == BY_MEM) {
		write_mem(c, c->at, buf, sizeof(buf));
	} else {
		copy(c, (long)&c->s->content, &content, sizeof(content), true);
		wait_until(sharer_has_done(c) == content, WAIT_MS, "the other process has written");
	}
}

static int on_frames(const struct client *c)
{
	return pages_on_frames(c->p->pid, c->at, PAGES);
}

static void expect_pages(const struct client *c, long content)
{
	static char buf[PAGES * PUPPET_PAGE];

	copy(c, c->at, buf, sizeof(buf), false);
	for (long i = 0; i < PAGES; i++)
		ck_assert_msg(page_holds(buf + i * PG, (uint64_t)(content + i)), "page %ld", i);
}

START_TEST(what_others_write_is_merged)
{
	const enum how how = (enum how)_i;
	struct daemon *d = daemon_start(NULL);
	struct client c[CLIENTS] = { 0 };
	long content = 1;

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set(d, "ksm/max_idle_millisecs", "5"), 0);
	for (int i = 0; i < CLIENTS; i++) {
		c[i].p = puppet_new();
		c[i].at = puppet_call(c[i].p, fn_offer, PAGES, content, 1);
		ck_assert_int_gt(c[i].at, 0);
	}
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") == PAGES, WAIT_MS, "merged");
	for (int i = 0; how == BY_SHARER && i < CLIENTS; i++) {
		c[i].s = (struct sharer *)puppet_call(c[i].p, fn_start_sharer, c[i].at, content);
		ck_assert_int_gt((long)c[i].s, 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t read;

		wait_full_scans(d, 2, WAIT_MS); /* orders have been answered */
		/* To stop takes time of a CPU, too: passes look once more, and then no longer. */
		for (int i = 0; i < CLIENTS; i++)
			ck_assert_int_eq(kill(c[i].p->pid, SIGSTOP), 0);
		wait_full_scans(d, ASLEEP_PASSES, WAIT_MS);
		read = ctl_get_u64(d, "ksm/pages_scanned");
		content += 1000;
		for (int i = 0; i < CLIENTS; i++)
			write_pages(&c[i], how, content);
		wait_until(ctl_get_u64(d, "ksm/pages_scanned") >= read + CLIENTS * PAGES, WAIT_MS,
			   "what was written while they slept is read");
		for (int i = 0; i < CLIENTS; i++)
			ck_assert_int_eq(kill(c[i].p->pid, SIGCONT), 0);
		wait_until(on_frames(&c[0]) == PAGES && on_frames(&c[1]) == PAGES, WAIT_MS,
			   "what was written while they slept is merged");
		for (int i = 0; i < CLIENTS; i++)
			expect_pages(&c[i], content);
	}
	for (int i = 0; i < CLIENTS; i++) {
		if (c[i].s)
			ck_assert_int_eq(puppet_call(c[i].p, fn_end_sharer, c[i].s), 0);
		puppet_end(c[i].p);
	}
	daemon_stop(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("still");
	TCase *t = tcase_create("still");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 300);
	/* A sharer would share a thread of the sanitizer, too. */
	tcase_add_loop_test(t, what_others_write_is_merged, 0, SANITIZED ? BY_SHARER : HOWS);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
