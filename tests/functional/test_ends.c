/* SPDX-License-Identifier: MIT */
/*
 * test_ends.c - programs come to the end that they come to without merging.
 *
 * What is offered here is unusual: memory that the program has sealed, memory at the last address
 * that a program can have. The program neither hangs nor loses a byte, and its calls answer what
 * they answer on memory that nobody merges.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/peer.h"

#ifndef SYS_mseal
#define SYS_mseal 462 /* since Linux 6.10, the same everywhere */
#endif

static const long PG = PEER_PAGE;
enum { NR = 150 }; /* more than two blocks of 64, and no multiple */

/* ---- sealed memory ---- */

static long fn_seal(const long a[6])
{
	return syscall(SYS_mseal, a[0], a[1], 0) ? -errno : 0;
}

/* Also in a child, and the fork itself comes back: pages that hold other bytes there, or -1. */
static long fn_check_in_child(const long a[6])
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn_check(a) != 0);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool can_seal(void)
{
	return !syscall(SYS_mseal, 0, 0, 0);
}

/* Both processes have the same NR pages; those of the first are sealed before they are offered. */
START_TEST(sealed_memory_stays_as_it_is)
{
	struct daemon *d = daemon_start(NULL);
	struct peer *p = peer_new(), *q = peer_new();
	long a = peer_call(p, fn_map, NR), b;

	daemon_hasten(d);
	peer_call(p, fn_fill, a, NR, 1, 1);
	ck_assert_int_eq(peer_call(p, fn_seal, a, NR * PG), 0);
	ck_assert_int_eq(peer_call(p, fn_madvise, a, NR * PG, MADV_MERGEABLE), 0);
	b = peer_call(q, fn_offer, NR, 1, 1);
	ck_assert_int_gt(b, 0);
	wait_until(ctl_client_u64(d, p->pid, "left_out/sealed") == NR, WAIT_MS, "counted");
	ck_assert_int_eq(peer_call(p, fn_check, a, NR, 1, 1), 0);
	ck_assert_int_eq(peer_call(p, fn_check_in_child, a, NR, 1, 1), 0);
	ck_assert_int_eq(peer_pages_on_frames(p, a, NR), 0);
	peer_call(p, fn_fill, a, NR, 7, 1);
	ck_assert_int_eq(peer_call(p, fn_check, a, NR, 7, 1), 0);
	ck_assert_int_eq(peer_call(q, fn_check, b, NR, 1, 1), 0);
	peer_end(p);
	peer_end(q);
	daemon_stop(d);
}
END_TEST

struct sealed {
	struct daemon *d;
	struct peer *p, *q;
	long a, b;
};

/* Merged first, then sealed in the first process, with protection `prot`. */
static struct sealed merged_and_sealed(int prot)
{
	struct sealed t = { .d = daemon_start(NULL), .p = peer_new(), .q = peer_new() };

	daemon_hasten(t.d);
	t.a = peer_call(t.p, fn_offer, NR, 1, 1);
	t.b = peer_call(t.q, fn_offer, NR, 1, 1);
	wait_until(peer_pages_on_frames(t.p, t.a, NR) == NR, WAIT_MS, "merged");
	ck_assert_int_eq(peer_call(t.p, fn_mprotect, t.a, NR * PG, prot), 0);
	ck_assert_int_eq(peer_call(t.p, fn_seal, t.a, NR * PG), 0);
	return t;
}

static void end_sealed(struct sealed *t)
{
	peer_end(t->p);
	peer_end(t->q);
	wait_counter(t->d, "pages_shared", 0);
	daemon_stop(t->d);
}

static const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ };

/* The calls say what the kernel says of sealed memory, and leave it as it was. */
START_TEST(calls_on_sealed_memory)
{
	struct sealed t = merged_and_sealed(prots[_i]);
	bool writable = prots[_i] & PROT_WRITE;
	long to = peer_call(t.p, fn_map, 2 * NR);

	peer_call(t.p, fn_fill, to, 1, 99, 1);
	ck_assert_int_eq(peer_call(t.p, fn_munmap, t.a, NR * PG), -EPERM);
	ck_assert_int_eq(peer_call(t.p, fn_mprotect, t.a, NR * PG, PROT_NONE), -EPERM);
	ck_assert_int_eq(peer_call(t.p, fn_mremap, t.a, NR * PG, 2 * NR * PG, MREMAP_MAYMOVE),
			 -EPERM);
	ck_assert_int_eq(peer_call(t.p, fn_mremap, t.a, NR * PG, NR * PG,
				   MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 -EPERM);
	ck_assert_int_eq(peer_call(t.p, fn_check, to, 1, 99, 1), 0);
	ck_assert_int_eq(peer_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	ck_assert_int_eq(peer_call(t.p, fn_madvise, t.a, 10 * PG, MADV_DONTNEED),
			 writable ? 0 : -EPERM);
	ck_assert_int_eq(peer_call(t.p, fn_check, t.a, 10, writable ? 0 : 1, !writable), 0);
	ck_assert_int_eq(peer_call(t.p, fn_check, t.a + 10 * PG, NR - 10, 11, 1), 0);
	end_sealed(&t);
}
END_TEST

/* Sharing ends, by the program's wish or the operator's. */
START_TEST(sealed_memory_is_given_back)
{
	struct sealed t = merged_and_sealed(prots[_i % 2]);

	if (_i < 2) {
		ck_assert_int_eq(peer_call(t.p, fn_madvise, t.a, NR * PG, MADV_UNMERGEABLE), 0);
	} else {
		ck_assert_int_eq(ctl_set(t.d, "ksm/run", "2"), 0);
		wait_counter(t.d, "pages_shared", 0);
	}
	ck_assert_int_eq(peer_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	if (pfns_visible())
		ck_assert_int_eq(pages_sharing_frames(t.p, t.a, t.q, t.b, NR), 0);
	end_sealed(&t);
}
END_TEST

/* ---- addresses ---- */

static long fn_map_at(const long a[6])
{
	void *p = ksm_mmap((void *)a[0], (size_t)(a[1] * PG), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == MAP_FAILED ? -errno : (long)p;
}

/* The block of 64 pages ends behind what a program can have. */
START_TEST(last_addresses_merge)
{
	struct daemon *d = daemon_start(NULL);
	struct peer *p = peer_new(), *q = peer_new();
	long end = (1l << 47) - PG, nr = 8, b;
	long a = peer_call(p, fn_map_at, end - nr * PG, nr);

	daemon_hasten(d);
	if (a == -EEXIST || a == -ENOMEM) { /* the stack is there, or other addresses end */
		printf("SKIP: the last addresses are taken\n");
	} else {
		ck_assert_int_eq(a, end - nr * PG);
		peer_call(p, fn_fill, a, nr, 1, 1);
		ck_assert_int_eq(peer_call(p, fn_madvise, a, nr * PG, MADV_MERGEABLE), 0);
		b = peer_call(q, fn_offer, nr, 1, 1);
		wait_counter(d, "pages_sharing", nr);
		ck_assert_int_eq(peer_call(p, fn_check, a, nr, 1, 1), 0);
		ck_assert_int_eq(peer_call(q, fn_check, b, nr, 1, 1), 0);
	}
	peer_end(p);
	peer_end(q);
	daemon_stop(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ends");
	TCase *sealed = tcase_create("sealed"), *addresses = tcase_create("addresses");
	SRunner *sr;
	int failed;

	tcase_set_timeout(sealed, 2 * WAIT_MS / 1000);
	tcase_set_timeout(addresses, 2 * WAIT_MS / 1000);
	if (can_seal()) {
		tcase_add_test(sealed, sealed_memory_stays_as_it_is);
		tcase_add_loop_test(sealed, calls_on_sealed_memory, 0, 2);
		tcase_add_loop_test(sealed, sealed_memory_is_given_back, 0, 4);
	} else {
		printf("SKIP: this kernel has no mseal(2)\n");
	}
	tcase_add_test(addresses, last_addresses_merge);
	suite_add_tcase(s, sealed);
	suite_add_tcase(s, addresses);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
