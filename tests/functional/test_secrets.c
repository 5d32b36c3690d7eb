/* SPDX-License-Identifier: MIT */
/*
 * test_secrets.c - contents that exist once are read by nobody else.
 *
 * A victim offers pages that anybody could guess, and among them pages that exist once in the
 * machine. An attacker in the same domain offers the same guessable pages at the same places, and
 * something else where the victim's secrets are. It is a client without the library: it answers
 * every order, whether its page is equal or not, and reads each frame that it is ordered to.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/fake_client.h"
#include "tests/lib/puppet.h"
#include "wire/kernel_abi.h"

#define PAGES 3072
#define KNOWN_FIRST 1024 /* known to both before any secret is written */
#define ROUNDS 30        /* whether a round succeeds depends on who is scanned first */
#define SECRET "exists once: "

static bool is_secret(int page)
{
	return page >= KNOWN_FIRST && page % 8 == 3;
}

static void fill_page(char *page, int i, const char *secret)
{
	if (is_secret(i))
		snprintf(page, KSM_PAGE_SIZE, "%s%d", secret, i);
	else
		snprintf(page, KSM_PAGE_SIZE, "known page %d", i);
}

/* ---- the victim, an honest program ---- */

static long fn_fill_text(const long a[6])
{
	for (int i = (int)a[1]; i < (int)a[2]; i++)
		fill_page((char *)a[0] + (size_t)i * KSM_PAGE_SIZE, i, SECRET);
	return 0;
}

/* ---- the attacker ---- */

struct attack {
	struct fake f;
	char *mem;
	int uffd;
	int known, leaked;
	bool seen[PAGES];
};

static void track(struct attack *a, char *start, size_t len)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };

	reg.range = (struct uffdio_range){ (uintptr_t)start, len };
	ck_assert_int_eq(ioctl(a->uffd, UFFDIO_REGISTER, &reg), 0);
}

static void attacker_offers(struct daemon *d, struct attack *a)
{
	struct uffdio_api api = { UFFD_API,
				  KABI_UFFD_FEATURE_WP_ASYNC | KABI_UFFD_FEATURE_WP_UNPOPULATED,
				  0 };
	size_t len = (size_t)PAGES * KSM_PAGE_SIZE;

	fake_ready(d, &a->f);
	a->uffd = ioctl(a->f.fds[0], KABI_USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	ck_assert_int_ge(a->uffd, 0);
	ck_assert_int_eq(ioctl(a->uffd, UFFDIO_API, &api), 0);
	a->mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(a->mem, MAP_FAILED);
	track(a, a->mem, len);
	send_range(&a->f, KSM_MSG_ADD, (uintptr_t)a->mem, (uintptr_t)a->mem + len);
}

/* Reads the frame that page i of its memory is ordered to. */
static uint8_t look_at_frame(struct attack *a, int page, uint32_t frame)
{
	char text[64] = "", *at = a->mem + (size_t)page * KSM_PAGE_SIZE;

	if (frame == KSM_FRAME_NONE)
		return KSM_RES_NONE;
	if (frame == KSM_FRAME_ZERO)
		return KSM_RES_DIFFERENT;
	ck_assert_int_ge(pread(a->f.fds[1], text, sizeof(text) - 1, (off_t)frame << KSM_PAGE_SHIFT),
			 0);
	if (!strncmp(text, SECRET, strlen(SECRET)) && !a->seen[page]) {
		a->seen[page] = true;
		a->leaked++;
	}
	a->known += !strncmp(text, "known", 5);
	if (strcmp(text, at))
		return KSM_RES_DIFFERENT;
	ck_assert_ptr_eq(mmap(at, KSM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
			      a->f.fds[1], (off_t)frame << KSM_PAGE_SHIFT),
			 at);
	track(a, at, KSM_PAGE_SIZE);
	return *(volatile char *)at ? KSM_RES_MERGED : KSM_RES_GONE;
}

static void attacker_answers(struct attack *a, const struct ksm_msg_order *m)
{
	struct ksm_msg_order_done done = { .id = m->id };

	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		uint64_t at = m->addr + (uint64_t)i * KSM_PAGE_SIZE - (uintptr_t)a->mem;

		done.result[i] = look_at_frame(a, (int)(at / KSM_PAGE_SIZE), m->frame[i]);
	}
	send_msg(a->f.sock, &done, KSM_MSG_ORDER_DONE);
}

/* Takes what the daemon says for as long as it says something. */
static void attacker_works(struct daemon *d, struct attack *a, uint64_t passes)
{
	uint64_t end = ctl_get_u64(d, "ksm/full_scans") + passes;

	while (ctl_get_u64(d, "ksm/full_scans") < end) {
		struct pollfd p = { a->f.sock, POLLIN, 0 };
		union ksm_msg m;

		while (poll(&p, 1, 10) > 0) {
			int fds[NR_FDS] = { -1, -1, -1 };

			ck_assert_int_gt(recv_msg(a->f.sock, &m, fds), 0);
			for (int i = 0; i < NR_FDS; i++)
				if (fds[i] >= 0)
					close(fds[i]);
			ck_assert_uint_ne(m.hdr.type, KSM_MSG_ERROR);
			if (m.hdr.type == KSM_MSG_ORDER)
				attacker_answers(a, &m.order);
			if (m.hdr.type == KSM_MSG_EPOCH)
				send_msg(a->f.sock, &m.epoch, KSM_MSG_EPOCH_DONE);
		}
	}
}

/*
 * Seen to fail (160 to 176 secrets read) when the pages after a pair are taken for pairs as well,
 * and only one of the two is read.
 */
static void attack(struct daemon *d, bool victim_first)
{
	struct attack a = { 0 };
	struct puppet *victim = puppet_new();
	long mem = puppet_call(victim, fn_ksm_map, PAGES);

	daemon_hasten(d);
	if (!victim_first)
		attacker_offers(d, &a);
	puppet_call(victim, fn_fill_text, mem, 0, KNOWN_FIRST);
	if (victim_first)
		ck_assert_int_eq(puppet_call(victim, fn_madvise, mem, PAGES * PUPPET_PAGE,
					     MADV_MERGEABLE),
				 0);
	if (victim_first)
		attacker_offers(d, &a);
	for (int i = 0; i < KNOWN_FIRST; i++)
		fill_page(a.mem + (size_t)i * KSM_PAGE_SIZE, i, "");
	ck_assert_int_eq(puppet_call(victim, fn_madvise, mem, PAGES * PUPPET_PAGE, MADV_MERGEABLE),
			 0);
	attacker_works(d, &a, 4);
	/* One pass finds all the rest, of both. */
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 0), 0);
	for (int i = KNOWN_FIRST; i < PAGES; i++)
		fill_page(a.mem + (size_t)i * KSM_PAGE_SIZE, i, "garbage ");
	puppet_call(victim, fn_fill_text, mem, KNOWN_FIRST, PAGES);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 1), 0);
	/*
	 * The attack goes on until all that both hold was offered to it, and for some passes more.
	 */
	while (a.known < PAGES * 3 / 4)
		attacker_works(d, &a, 1);
	attacker_works(d, &a, 4);
	ck_assert_msg(!a.leaked, "%d of %d secrets were read", a.leaked, (PAGES - KNOWN_FIRST) / 8);
	fake_close(&a.f);
	puppet_kill(victim);
}

START_TEST(one_off_pages_stay_private)
{
	struct daemon *d = daemon_start(NULL);

	ck_assert_int_eq(ctl_set_u64(d, "ksm/scan_threads", 1), 0);
	for (int round = 0; round < ROUNDS; round++)
		attack(d, _i);
	daemon_stop(d);
}
END_TEST

static Suite *secrets_suite(void)
{
	Suite *s = suite_create("secrets");
	TCase *tc = tcase_create("secrets");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, one_off_pages_stay_private, 0, 2);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(secrets_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
