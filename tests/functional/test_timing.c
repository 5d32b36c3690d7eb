/* SPDX-License-Identifier: MIT */
/*
 * test_timing.c - what the time of a write tells a neighbour, by measuring it.
 *
 * A victim holds a random half of a list of contents that the attacker can guess. The attacker
 * offers all of them, waits for the daemon, and times one write to each page: a page that was
 * merged has to be copied. It calls each page "held" or "not held". To be generous it is told the
 * truth about half of the pages, to choose its threshold by; what it says of the other half counts.
 * Where it learns nothing it is right half of the time. The figures in docs/security.md are printed
 * here.
 *
 * Victim and attackers are programs of their own, so that each is a fork family.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

#define PLAY "--play"
#define PAGES 1024
#define ROUNDS 3
/* Chance is 50 % with a standard deviation of 1.3 % (ROUNDS * PAGES / 2 answers). */
#define CHANCE_LOW 42
#define CHANCE_HIGH 58
#define CLEARLY 80

/* ---- players ---- */

struct part {
	uint64_t guess; /* contents of page i of the list: guess + i */
	uid_t uid;
	bool held[PAGES]; /* which of them it holds; the others are its own */
	bool exclude;
};

struct player {
	pid_t pid;
	int to, from;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool transfer(ssize_t (*io)(int, void *, size_t), int fd, void *buf, size_t len)
{
	for (ssize_t n; len; buf = (char *)buf + n, len -= (size_t)n) {
		n = io(fd, buf, len);
		if (n <= 0)
			return false;
	}
	return true;
}

static ssize_t do_write(int fd, void *buf, size_t len)
{
	return write(fd, buf, len);
}

/* The program under PLAY: its part comes on standard input; each byte after that asks for times. */
static int play(void)
{
	static struct part part;
	static uint64_t ns[PAGES];
	char *mem = mmap(NULL, PAGES * PUPPET_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char go;

	if (mem == MAP_FAILED || !transfer(read, STDIN_FILENO, &part, sizeof(part)))
		return EXIT_FAILURE;
	for (uint64_t i = 0; i < PAGES; i++)
		page_fill(mem + i * PUPPET_PAGE,
			  part.held[i] ? part.guess + i : (uint64_t)getpid() << 32 | (i + 1));
	if ((part.exclude && ksm_exclude(mem, PAGES * PUPPET_PAGE, true)) ||
	    ksm_madvise(mem, PAGES * PUPPET_PAGE, MADV_MERGEABLE))
		return EXIT_FAILURE;
	do {
		if (!transfer(do_write, STDOUT_FILENO, ns, sizeof(ns)))
			return EXIT_FAILURE;
		if (read(STDIN_FILENO, &go, 1) != 1)
			break;
		for (int i = 0; i < PAGES; i++) {
			volatile char *last = mem + (i + 1) * (long)PUPPET_PAGE - 1;
			uint64_t begun = now_ns();

			*last = *last;
			ns[i] = now_ns() - begun;
		}
	} while (true);
	return EXIT_SUCCESS;
}

static void become(uid_t uid)
{
	if (!uid)
		return;
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		_exit(EXIT_FAILURE);
}

/* Its answer to the last byte. */
static void times_of(const struct player *p, uint64_t ns[PAGES])
{
	ck_assert(transfer(read, p->from, ns, PAGES * sizeof(*ns)));
}

static struct player start_player(const struct part *part)
{
	pid_t test = getpid();
	int in[2], out[2];
	uint64_t ns[PAGES];
	struct player p;

	ck_assert_int_eq(pipe2(in, O_CLOEXEC) + pipe2(out, O_CLOEXEC), 0);
	p.pid = fork();
	ck_assert_int_ge(p.pid, 0);
	if (!p.pid) {
		int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

		become(part->uid);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		if (getppid() == test)
			fexecve(self, (char *[]){ "player", PLAY, NULL }, environ);
		_exit(EXIT_FAILURE);
	}
	close(in[0]);
	close(out[1]);
	p.to = in[1];
	p.from = out[0];
	ck_assert(transfer(do_write, p.to, (void *)part, sizeof(*part)));
	times_of(&p, ns); /* it has offered its pages */
	return p;
}

static void end_player(const struct player *p)
{
	close(p->to);
	close(p->from);
	kill(p->pid, SIGKILL);
	ck_assert_int_eq(waitpid(p->pid, NULL, 0), p->pid);
}

/* ---- what the attacker makes of the times ---- */

/* Pages of one half for which "held: slower than the threshold" is right. */
static int right(const uint64_t *ns, const bool *held, int half, uint64_t threshold)
{
	int nr = 0;

	for (int i = half; i < PAGES; i += 2)
		nr += (ns[i] > threshold) == held[i];
	return nr;
}

static int guess(const uint64_t ns[PAGES], const bool held[PAGES])
{
	uint64_t best = 0;

	for (int i = 0; i < PAGES; i += 2)
		if (right(ns, held, 0, ns[i]) > right(ns, held, 0, best))
			best = ns[i];
	return right(ns, held, 1, best);
}

/* ---- scenes ---- */

struct scene {
	const char *name;
	uid_t victim, attacker;
	bool exclude;
	const char *knob;
	uint64_t value;
	int attackers; /* processes */
	int wait_ms;   /* besides some passes */
	int low, high; /* percent */
};

#define OTHER_UID 12345
static const struct scene scenes[] = {
	{ "one domain", 0, 0, false, "ksm/min_sharers", 1, 1, 0, CLEARLY, 100 },
	{ "two domains", 0, OTHER_UID, false, "ksm/min_sharers", 1, 1, 0, CHANCE_LOW, CHANCE_HIGH },
	{ "min_sharers 3, one attacker", 0, 0, false, "ksm/min_sharers", 3, 1, 0, CHANCE_LOW,
	  CHANCE_HIGH },
	{ "min_sharers 3, two attackers", 0, 0, false, "ksm/min_sharers", 3, 2, 0, CLEARLY, 100 },
	{ "merge_delay 60 s, at once", 0, 0, false, "ksm/merge_delay_millisecs", 60000, 1, 0,
	  CHANCE_LOW, CHANCE_HIGH + 12 },
	{ "merge_delay 2 s, after it", 0, 0, false, "ksm/merge_delay_millisecs", 2000, 1, 3000,
	  CLEARLY, 100 },
	{ "excluded", 0, 0, true, "ksm/min_sharers", 1, 1, 0, CHANCE_LOW, CHANCE_HIGH },
};

static int round_of(struct daemon *d, const struct scene *s)
{
	struct part victim = { .uid = s->victim, .exclude = s->exclude }, all = victim;
	struct player v, a[2];
	uint64_t ns[PAGES];
	uint8_t coin[PAGES];

	ck_assert_int_eq(getrandom(&victim.guess, sizeof(victim.guess), 0), sizeof(victim.guess));
	ck_assert_int_eq(getrandom(coin, sizeof(coin), 0), sizeof(coin));
	for (int i = 0; i < PAGES; i++) {
		victim.held[i] = coin[i] & 1;
		all.held[i] = true;
	}
	all.guess = victim.guess;
	all.uid = s->attacker;
	all.exclude = false;
	v = start_player(&victim);
	for (int i = 0; i < s->attackers; i++)
		a[i] = start_player(&all);
	wait_until(ctl_get_u64(d, "ksm/pages_tracked") >=
			   (uint64_t)(s->attackers + !s->exclude) * PAGES,
		   WAIT_MS, "all pages are known");
	wait_full_scans(d, 6, WAIT_MS);
	usleep((useconds_t)s->wait_ms * 1000);
	wait_full_scans(d, 2, WAIT_MS);
	wait_until(ctl_get_u64(d, "ksm/orders") == 0, WAIT_MS, "what can be merged is");
	ck_assert_int_eq(write(a[0].to, "", 1), 1);
	times_of(&a[0], ns);
	end_player(&v);
	for (int i = 0; i < s->attackers; i++)
		end_player(&a[i]);
	wait_counter(d, "pages_tracked", 0);
	return guess(ns, victim.held);
}

START_TEST(time_of_a_write)
{
	static const char *const all[] = { "--allow-group", "all", NULL };
	const struct scene *s = &scenes[_i];
	struct daemon *d = daemon_start(all);
	int sum = 0, percent;

	if (s->attacker && geteuid()) {
		printf("SKIP: only root can play two users\n");
		daemon_stop(d);
		return;
	}
	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, s->knob, s->value), 0);
	for (int i = 0; i < ROUNDS; i++)
		sum += round_of(d, s);
	percent = sum * 100 / (ROUNDS * PAGES / 2);
	printf("%-30s %5.1f %% of %d answers are right\n", s->name,
	       sum * 100.0 / (ROUNDS * PAGES / 2.0), ROUNDS * PAGES / 2);
	fflush(stdout);
	ck_assert_int_ge(percent, s->low);
	ck_assert_int_le(percent, s->high);
	daemon_stop(d);
}
END_TEST

static Suite *timing_suite(void)
{
	Suite *s = suite_create("timing");
	TCase *tc = tcase_create("timing");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, time_of_a_write, 0, sizeof(scenes) / sizeof(scenes[0]));
	suite_add_tcase(s, tc);
	return s;
}

int main(int argc, char **argv)
{
	SRunner *sr;
	int failed;

	if (argc > 1 && !strcmp(argv[1], PLAY))
		return play();
	sr = srunner_create(timing_suite());
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
