/* SPDX-License-Identifier: MIT */
/*
 * test_contig.c - contiguous ranges of frames are had from a service whose clients use the reserve.
 *
 * The counts are read in one answer while clients write, fork and merge, and have to be exact each
 * time. /proc/PID/maps shows that no client stands in a range that is somebody's.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/load.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"

/* The smallest zone has 64 MiB. The domain is number 1. */
enum { ZONE = 16384, RESERVE_MIB = 56, RESERVE = RESERVE_MIB * 256, BLOCK = 512 };
#define POOL "domain/1/zone/0/"

static struct daemon *start(const char *option)
{
	struct daemon *d =
		daemon_start((const char *const[]){ "--topology", "emulated:1", "--zone-span", "64",
						    "--contig-reserve", "56", option, NULL });

	daemon_hasten(d);
	/* Nobody gathers frames meanwhile, and has the range wait until he has ended. */
	ck_assert_int_eq(ctl_set(d, "ksm/compaction_proactiveness", "0"), 0);
	return d;
}

/* --- one look at all counts --- */

struct look {
	char text[65536];
};

static void look(struct daemon *d, struct look *l)
{
	int fd = harness_connect(d->dir, "control.sock", SOCK_STREAM);
	static const char line[] = "dump domain/1/zone/0\n";
	size_t len = 0, want = 1;
	char *body = NULL;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, line, sizeof(line) - 1), sizeof(line) - 1);
	while (!body || len < want) {
		ssize_t r = read(fd, l->text + len, sizeof(l->text) - 1 - len);

		ck_assert_int_gt(r, 0);
		len += (size_t)r;
		l->text[len] = '\0';
		body = strchr(l->text, '\n');
		if (body) {
			ck_assert_msg(!strncmp(l->text, "ok ", 3), "%s", l->text);
			want = (size_t)(body + 1 - l->text) + strtoul(l->text + 3, NULL, 10);
		}
	}
	close(fd);
}

static uint64_t value(const struct look *l, const char *name)
{
	char key[64];
	const char *at;

	snprintf(key, sizeof(key), "\n%s ", name);
	at = strstr(l->text, key);
	ck_assert_msg(at, "no %s", name);
	return strtoull(at + strlen(key), NULL, 10);
}

static uint64_t of_type(const struct look *l, const char *name, const char *type)
{
	char key[64];

	snprintf(key, sizeof(key), "%s_by_type/%s", name, type);
	return value(l, key);
}

/* All that is counted is there, in the zone and of each type. */
static void must_be_exact(const struct look *l)
{
	static const char *const types[] = { "unmovable", "movable", "reserve" };
	static const char *const states[] = { "free", "cached",  "isolated",
					      "used", "retired", "guard" };
	uint64_t all = value(l, "window_reserved") + value(l, "absent"), present = 0;

	for (int s = 0; s < 6; s++)
		all += value(l, states[s]);
	ck_assert_uint_eq(all, ZONE);
	ck_assert_uint_eq(value(l, "span"), ZONE);
	for (int t = 0; t < 3; t++) {
		uint64_t sum = t == 1 ? value(l, "window_reserved") : 0;

		for (int s = 0; s < 6; s++)
			sum += of_type(l, states[s], types[t]);
		ck_assert_uint_eq(sum, of_type(l, "frames", types[t]));
		present += sum;
	}
	ck_assert_uint_eq(of_type(l, "frames", "reserve"), RESERVE);
	ck_assert_uint_eq(present + value(l, "absent"), ZONE);
}

static void counts_are_exact(struct daemon *d)
{
	struct look l;

	look(d, &l);
	must_be_exact(&l);
}

/* Milliseconds for which this process and the daemon's main thread had no processor so far. */
static uint64_t delayed_ms(const struct daemon *d)
{
	const pid_t pids[] = { getpid(), d->pid };
	unsigned long long ns = 0, sum = 0;
	char path[64];

	for (int i = 0; i < 2; i++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pids[i], pids[i]);
		f = fopen(path, "re");
		ck_assert_ptr_nonnull(f);
		ck_assert_int_eq(fscanf(f, "%*u %llu", &ns), 1);
		fclose(f);
		sum += ns;
	}
	return sum / 1000000;
}

/* Promised are 50 ms to whoever reads the counts while a range is emptied. Ten times that. */
enum { READ_MS = 500 };

static void counts_are_soon_there(struct daemon *d)
{
	uint64_t delayed = delayed_ms(d), start = harness_now_ms(), took;

	counts_are_exact(d);
	took = harness_now_ms() - start;
	delayed = delayed_ms(d) - delayed;
	ck_assert_uint_lt(took, READ_MS + delayed);
}

/* --- ranges --- */

static const char *result(struct daemon *d)
{
	static char buf[256];

	do {
		counts_are_soon_there(d);
		ck_assert_int_gt(ctl_get(d, POOL "contig_result", buf, sizeof(buf)), 0);
	} while (!strcmp(buf, "under way"));
	return buf;
}

static int set_two(struct daemon *d, const char *path, uint64_t a, uint64_t b)
{
	char text[64];

	snprintf(text, sizeof(text), "%llu %llu", (unsigned long long)a, (unsigned long long)b);
	return ctl_set(d, path, text);
}

/* Which range it has become. False: none, and a reason that may be. */
static bool had(struct daemon *d, uint64_t *first, uint64_t *end)
{
	const char *r = result(d);
	unsigned long long a, b;

	if (sscanf(r, "%llu %llu", &a, &b) != 2) {
		ck_assert_msg(!strncmp(r, "EBUSY ", 6) || !strncmp(r, "ENOMEM ", 7), "%s", r);
		return false;
	}
	*first = a;
	*end = b;
	return true;
}

static uint64_t below(uint64_t *rng, uint64_t n)
{
	*rng = *rng * 6364136223846793005ull + 1442695040888963407ull;
	return (*rng >> 33) % n;
}

/* Is it still in a mapping of one of these frames? Its own page may be private, and lie over it. */
static bool lies_over(const struct puppet *p, unsigned long at, uint64_t first, uint64_t end)
{
	struct mapping m;
	uint64_t frame;

	if (!mapping_of_frame(p->pid, at, &m))
		return false;
	frame = (m.offset + (at - m.start)) / PUPPET_PAGE;
	return frame >= first && frame < end;
}

/*
 * Pages that stand on one of these frames, of which none is given to anybody: a page that comes to
 * be shared just now leaves the mapping that lies over them, and does not come back.
 */
static int nr_standing_on(const struct puppet *p, long addr, int pages, uint64_t first,
			  uint64_t end)
{
	FILE *f = mapping_open(p->pid);
	struct mapping m;
	int nr = 0;

	while (mapping_next(f, &m)) {
		uint64_t frame = m.offset / PUPPET_PAGE;

		if (!m.arena || (long)m.end <= addr ||
		    (long)m.start >= addr + pages * (long)PUPPET_PAGE)
			continue;
		for (unsigned long at = m.start; at < m.end; at += PUPPET_PAGE, frame++)
			if (frame >= first && frame < end &&
			    (page_is_file(p->pid, (long)at) || !page_present(p->pid, (long)at)))
				nr += lies_over(p, at, first, end);
	}
	return nr;
}

/*
 * Thirty ranges, anywhere and of any size, while three processes write, fork, merge and check every
 * byte, and each time at least 80 % of the reserve in use by their pages. No frame is missing
 * meanwhile nor afterwards.
 */
START_TEST(beside_load)
{
	enum { CLIENTS = 3, NEW = 14300, STRIDE = 16, ROUNDS = 30, LARGEST = 700 };
	int *over = mmap(NULL, sizeof(*over), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	struct puppet *v[CLIENTS], *other;
	uint64_t rng = harness_now_ms(), first, end, least = RESERVE;
	int nr = 0, failed = 0;
	long a[CLIENTS];
	struct daemon *d;
	struct look l;

	printf("seed %llu\n", (unsigned long long)rng);
	ck_assert_ptr_ne(over, MAP_FAILED);
	d = start(NULL);
	other = puppet_new();
	puppet_call(other, fn_offer, 1, 1000000, 1); /* so that the domain stays */
	for (int i = 0; i < CLIENTS; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, NEW, 1, 1);
	}
	wait_counter(d, "pages_sharing", (CLIENTS - 1) * NEW);
	for (int i = 0; i < CLIENTS; i++)
		puppet_post(v[i], fn_write_and_check, a[i], 100 * WAIT_MS, rng + (uint64_t)i, NEW,
			    STRIDE, over);
	while (nr < ROUNDS) {
		uint64_t size = 1 + below(&rng, LARGEST), at;
		bool anywhere = nr % 3 == 0;

		look(d, &l);
		must_be_exact(&l);
		if (of_type(&l, "used", "reserve") * 10 < RESERVE * 8)
			continue; /* what was moved out of the way, or written, comes back */
		if (of_type(&l, "used", "reserve") < least)
			least = of_type(&l, "used", "reserve");
		at = ZONE - RESERVE + below(&rng, RESERVE - size);
		ck_assert_int_eq(anywhere ? set_two(d, POOL "alloc_contig", size,
						    1 << below(&rng, 10)) :
					    set_two(d, POOL "alloc_contig_range", at, at + size),
				 0);
		if (!had(d, &first, &end)) {
			ck_assert_int_lt(++failed, ROUNDS);
			continue;
		}
		ck_assert_uint_eq(end - first, size);
		ck_assert_uint_ge(first, ZONE - RESERVE);
		if (!anywhere)
			ck_assert_uint_eq(first, at);
		for (int i = 0; i < CLIENTS; i++)
			ck_assert_int_eq(nr_standing_on(v[i], a[i], NEW, first, end), 0);
		ck_assert_int_eq(set_two(d, POOL "free_contig_range", first, end), 0);
		ck_assert_int_eq(set_two(d, POOL "free_contig_range", first, end), -EINVAL);
		counts_are_exact(d);
		nr++;
	}
	printf("%d ranges, %d could not be had, %llu of %d frames of the reserve in use or more\n",
	       nr, failed, (unsigned long long)least, RESERVE);
	__atomic_store_n(over, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(puppet_result(v[i]), 0);
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], NEW, 1, 1), 0);
	}
	wait_counter(d, "pages_sharing", (CLIENTS - 1) * NEW);
	for (int i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], NEW, 1, 1), 0);
		puppet_end(v[i]);
	}
	wait_counter(d, "frames_used", 0);
	look(d, &l);
	must_be_exact(&l);
	/* None is missing. */
	ck_assert_uint_eq(value(&l, "free") + value(&l, "cached") + value(&l, "absent"), ZONE);
	ck_assert_uint_eq(of_type(&l, "free", "reserve") + of_type(&l, "cached", "reserve"),
			  RESERVE);
	puppet_end(other);
	daemon_stop(d);
	munmap(over, sizeof(*over));
}
END_TEST

/* What the daemon answers to this command. Static buffer. */
static const char *answer_to(struct daemon *d, const char *path, const char *text)
{
	static char answer[256];
	int fd = harness_connect(d->dir, "control.sock", SOCK_STREAM), len;
	char line[128];
	ssize_t r;

	ck_assert_int_ge(fd, 0);
	len = snprintf(line, sizeof(line), "set %s %s\n", path, text);
	ck_assert_int_eq(write(fd, line, (size_t)len), len);
	r = read(fd, answer, sizeof(answer) - 1);
	ck_assert_int_gt(r, 0);
	answer[r] = '\0';
	close(fd);
	return answer;
}

/* Ranges that are held, given back in part, asked for twice, or kept by who is stopped. */
START_TEST(held)
{
	enum { PAGES = 600 };
	struct daemon *d = start(_i ? "--guard-frames" : NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_offer, PAGES, 1, 1), b = puppet_call(q, fn_offer, PAGES, 1, 1);
	uint64_t one = 0, first, end;
	char buf[256], want[64];

	wait_counter(d, "pages_sharing", PAGES);
	wait_counter(d, "orders", 0);
	ck_assert_int_gt(mapping_on_frames(p->pid, a, PAGES, 0, ZONE, &one), 0);
	/* Pages stand there; those beside it stay in its pageblock, or go and come back. */
	ck_assert_int_eq(set_two(d, POOL "alloc_contig_range", one, one + 3), 0);
	ck_assert_msg(had(d, &first, &end), "%s", result(d));
	ck_assert_uint_eq(first, one);
	ck_assert_int_eq(nr_standing_on(p, a, PAGES, one, one + 3), 0);
	ck_assert_int_eq(nr_standing_on(q, b, PAGES, one, one + 3), 0);
	ck_assert_int_eq(pages_on_frames(p->pid, a, PAGES), PAGES);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/isolated"), 0);
	/* Nobody else gets it: refused at once, and said why. */
	ck_assert_int_eq(set_two(d, POOL "alloc_contig_range", one + 2, one + 9), -EADDRINUSE);
	snprintf(want, sizeof(want), "EBUSY domain 1 frame %llu client 0 cannot move",
		 (unsigned long long)one + 2);
	ck_assert_str_eq(result(d), want);
	ck_assert_int_eq(set_two(d, "node/0/offline", one / BLOCK * BLOCK,
				 one / BLOCK * BLOCK + BLOCK),
			 -EADDRINUSE);
	ck_assert_int_eq(ctl_set(d, POOL "alloc_contig", "64 64"), 0);
	ck_assert(had(d, &first, &end));
	ck_assert_uint_eq(first % 64, 0);
	ck_assert_uint_ge(first, ZONE - RESERVE);
	ck_assert_int_gt(ctl_get(d, POOL "contig_ranges", buf, sizeof(buf)), 0);
	/* In the order of their numbers. */
	snprintf(want, sizeof(want), "%llu %llu %llu %llu",
		 (unsigned long long)(one < first ? one : first),
		 (unsigned long long)(one < first ? one + 3 : end),
		 (unsigned long long)(one < first ? first : one),
		 (unsigned long long)(one < first ? end : one + 3));
	ck_assert_str_eq(buf, want);
	/* In parts; what was given back is nobody's to give back. */
	ck_assert_int_eq(set_two(d, POOL "free_contig_range", one + 1, one + 2), 0);
	ck_assert_int_eq(set_two(d, POOL "free_contig_range", one, one + 3), -EINVAL);
	ck_assert_int_eq(set_two(d, POOL "free_contig_range", one, one + 1), 0);
	ck_assert_int_eq(set_two(d, POOL "free_contig_range", one + 2, one + 3), 0);
	ck_assert_int_eq(set_two(d, POOL "free_contig_range", first, end), 0);
	ck_assert_int_gt(ctl_get(d, POOL "contig_ranges", buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "none");
	counts_are_exact(d);
	/* A client that is stopped keeps one, and is named. */
	ck_assert_int_gt(mapping_on_frames(q->pid, b, PAGES, 0, ZONE, &one), 0);
	kill(q->pid, SIGSTOP);
	ck_assert_int_eq(set_two(d, POOL "alloc_contig_range", one, one + 1), 0);
	ck_assert_int_eq(set_two(d, POOL "alloc_contig_range", one, one + 1), -EALREADY);
	ck_assert_int_eq(ctl_set(d, "node/0/offline", "0 512"), -EALREADY);
	snprintf(want, sizeof(want), "client %d silent", (int)q->pid);
	ck_assert_msg(strstr(result(d), want), "%s: not %s", result(d), want);
	ck_assert_int_eq(set_two(d, POOL "alloc_contig_range", one, one + 1), 0);
	ck_assert_int_eq(ctl_set(d, POOL "alloc_contig", "none"), 0);
	ck_assert_ptr_eq(strstr(result(d), "ECANCELED"), result(d));
	kill(q->pid, SIGCONT);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/isolated"), 0);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 1, 1), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, PAGES, 1, 1), 0);
	counts_are_exact(d);
	/* What is held does not keep a domain that nobody is in. */
	ck_assert_int_eq(ctl_set(d, POOL "alloc_contig", "5"), 0);
	ck_assert(had(d, &first, &end));
	puppet_end(p);
	puppet_end(q);
	wait_until(ctl_get(d, POOL "map", buf, sizeof(buf)) == -ENOENT, WAIT_MS, "it ends");
	daemon_stop(d);
}
END_TEST

START_TEST(bad_input)
{
	static const char range[] = POOL "alloc_contig_range", size[] = POOL "alloc_contig";
	static const char back[] = POOL "free_contig_range";
	static const struct {
		const char *path, *value, *why;
	} bad[] = {
		{ range, "5", "not FIRST END, two numbers of frames" },
		{ range, "5 ", "not FIRST END, two numbers of frames" },
		{ range, "1 2 3", "not FIRST END, two numbers of frames" },
		{ range, "x 2", "not FIRST END, two numbers of frames" },
		{ range, "9 9", "no frames: it ends where it starts" },
		{ range, "10 9", "it ends before it starts" },
		{ range, "16000 16385",
		  "not all of it is the node's: see frames_start, frames_end" },
		{ range, "4294967296 4294967297", "not FIRST END, two numbers of frames" },
		{ size, "", "neither NR nor NR ALIGN, numbers of frames" },
		{ size, "3 4 5", "neither NR nor NR ALIGN, numbers of frames" },
		{ size, "0", "no frames" },
		{ size, "16385", "a zone has no more frames: see span" },
		{ size, "4 3", "no alignment: it is a power of two" },
		{ size, "4 0", "no alignment: it is a power of two" },
		{ back, "0 5", "not all of it is allocated as a range: see contig_ranges" },
		{ back, "none", "not FIRST END, two numbers of frames" },
	};
	static const char *const too_large[] = { "--zone-span", "64", "--contig-reserve", "64",
						 NULL };
	char dir[] = "/tmp/ksmd-test.XXXXXX", err[512], wanted[128];
	struct daemon *d = start(NULL);
	struct puppet *p = puppet_new();

	puppet_call(p, fn_offer, 10, 1, 0);
	wait_counter(d, "pages_sharing", 9);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(wanted, sizeof(wanted), "error EINVAL %s\n", bad[i].why);
		ck_assert_str_eq(answer_to(d, bad[i].path, bad[i].value), wanted);
	}
	ck_assert_int_eq(ctl_set(d, size, "none"), 0);
	ck_assert_int_eq(ctl_set(d, "domain/1/zone/1/alloc_contig", "1"), -ENOENT);
	ck_assert_int_eq(ctl_set(d, POOL "contig_ranges", "1 2"), -EACCES);
	ck_assert_str_eq(result(d), "none");
	counts_are_exact(d);
	puppet_end(p);
	daemon_stop(d);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(daemon_expect_exit(dir, too_large, err, sizeof(err)), 2);
	ck_assert_msg(strstr(err, "a zone has no more: see --zone-span"), "%s", err);
	rmdir(dir);
}
END_TEST

static Suite *contig_suite(void)
{
	Suite *s = suite_create("contig");
	TCase *tc = tcase_create("contig");

	tcase_set_timeout(tc, 600);
	tcase_add_test(tc, beside_load);
	tcase_add_loop_test(tc, held, 0, 2);
	tcase_add_test(tc, bad_input);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(contig_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
