/* SPDX-License-Identifier: MIT */
/*
 * test_shortage.c - merging that waits until memory is short, and a limit of what would be needed
 * if all that is merged were written.
 *
 * What is asserted are frames under pages (pagemap) and memory that is there (smaps), and contents.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/memgroup.h"
#include "tests/lib/puppet.h"

#define MIB (1ul << 20)
enum { NR = 512 }; /* pages of each puppet: 2 MiB */

struct pair {
	struct daemon *d;
	struct puppet *p[2];
	long at[2];
};

/* A daemon with this knob, and two puppets of equal contents. */
static struct pair start(const char *const args[], const char *knob, const char *value)
{
	struct pair s = { .d = daemon_start(args) };

	daemon_hasten(s.d);
	ck_assert_int_eq(ctl_set(s.d, knob, value), 0);
	for (int i = 0; i < 2; i++) {
		s.p[i] = puppet_new();
		s.at[i] = puppet_call(s.p[i], fn_offer, NR, 1, 1);
	}
	wait_counter(s.d, "clients", 2);
	return s;
}

static void stop(struct pair *s)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(puppet_call(s->p[i], fn_check, s->at[i], NR, 1, 1), 0);
		puppet_end(s->p[i]);
	}
	daemon_stop(s->d);
}

/* Pages that stand on frames, of both. */
static int on_frames(const struct pair *s)
{
	return puppet_pages_on_frames(s->p[0], s->at[0], NR) +
	       puppet_pages_on_frames(s->p[1], s->at[1], NR);
}

static void expect_held(const struct pair *s)
{
	wait_full_scans(s->d, 3, WAIT_MS);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/merging_held"), 1);
	ck_assert_int_eq(on_frames(s), 0);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/pages_scanned"), 0);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/frames_used"), 0);
}

static void wait_merged(const struct pair *s)
{
	wait_counter(s->d, "pages_sharing", NR);
	ck_assert_int_eq(on_frames(s), 2 * NR);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/debt_bytes"), 2 * NR * PUPPET_PAGE);
}

/* Pages of this kind, as "do client/PID/why" counts them. */
static unsigned long why(const struct pair *s, int i, const char *kind)
{
	char what[64], body[8192], *at;
	unsigned long sum = 0;

	snprintf(what, sizeof(what), "client/%d/why 0x0", (int)s->p[i]->pid);
	ck_assert_int_ge(ctl_do(s->d, what, body, sizeof(body)), 0);
	for (at = body; (at = strstr(at, kind)); at++)
		if (at > body && at[-1] == ' ' && at[strlen(kind)] == ' ')
			sum += strtoul(at + strlen(kind), NULL, 10);
	return sum;
}

/* ---- merge_below_available ---- */

START_TEST(waits_until_memory_is_short)
{
	struct pair s = start(NULL, "ksm/merge_below_available", "1");
	char merge[64];

	expect_held(&s);
	snprintf(merge, sizeof(merge), "client/%d/merge", (int)s.p[0]->pid);
	ck_assert_int_eq(ctl_do(s.d, merge, merge, sizeof(merge)), -EAGAIN);
	ck_assert_int_eq(ctl_set(s.d, "ksm/merge_below_available", "100%"), 0);
	wait_merged(&s);
	ck_assert_uint_eq(ctl_get_u64(s.d, "ksm/merging_held"), 0);
	/* Plenty again: what is merged stays, what is written is seen, nothing takes its place. */
	ck_assert_int_eq(ctl_set(s.d, "ksm/merge_below_available", "1"), 0);
	for (int i = 0; i < 2; i++)
		puppet_call(s.p[i], fn_fill, s.at[i], NR / 2, 7, 0);
	wait_counter(s.d, "pages_sharing", NR / 2);
	wait_counter(s.d, "frames_used", NR / 2);
	wait_full_scans(s.d, 3, WAIT_MS);
	ck_assert_int_eq(on_frames(&s), NR);
	ck_assert_uint_eq(why(&s, 0, "merged"), NR / 2);
	for (int i = 0; i < 2; i++)
		puppet_call(s.p[i], fn_fill, s.at[i], NR / 2, 1, 1);
	stop(&s);
}
END_TEST

static uint64_t available_mib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %llu", &kib) != 1)
		;
	if (f)
		fclose(f);
	return kib >> 10;
}

/* Another process takes memory, and gives it back. */
START_TEST(memory_that_another_takes)
{
	enum { LESS = 1024, TAKEN = 2048 };
	char value[32];
	struct pair s;
	void *p;

	if (available_mib() < 2 * TAKEN) {
		printf("SKIP: fewer than %d MiB are available\n", 2 * TAKEN);
		return;
	}
	snprintf(value, sizeof(value), "%llu", (unsigned long long)available_mib() - LESS);
	s = start(NULL, "ksm/merge_below_available", value);
	expect_held(&s);
	p = mmap(NULL, TAKEN * MIB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	wait_merged(&s);
	munmap(p, TAKEN * MIB);
	wait_counter(s.d, "merging_held", 1);
	ck_assert_int_eq(on_frames(&s), 2 * NR);
	stop(&s);
}
END_TEST

/* ---- merge_on_pressure ---- */

/* A control group whose memory.pressure is of use. False, and says SKIP and why. */
static bool pressure_group(char *dir, size_t size)
{
	static const char *const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	char path[256];

	for (int i = 0; i < 2 && geteuid() == 0; i++) {
		snprintf(dir, size, "%s/ksm-test-psi-%d", roots[i], (int)getpid());
		if (mkdir(dir, 0755))
			continue;
		snprintf(path, sizeof(path), "%s/memory.pressure", dir);
		if (!access(path, R_OK | W_OK))
			return true;
		rmdir(dir);
	}
	printf("SKIP: no control group tells of pressure\n");
	return false;
}

static void enter(const char *dir, pid_t pid)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	f = fopen(path, "we");
	if (!f || fprintf(f, "%d\n", (int)pid) < 0 || fclose(f))
		harness_die("%s: %s", path, strerror(errno));
}

static uint64_t stalled_us(const char *dir)
{
	char path[256];
	unsigned long long us = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/memory.pressure", dir);
	f = fopen(path, "re");
	if (!f || fscanf(f, "some %*s %*s %*s total=%llu", &us) != 1)
		harness_die("%s cannot be read", path);
	fclose(f);
	return us;
}

enum { FILE_MIB = 48, LIMIT_MIB = 32, THRASHERS = 4 };

/* Reads a file that is larger than the limit of its group, here and there, until it is killed. */
static pid_t start_thrasher(int fd)
{
	pid_t pid = fork();
	volatile const unsigned char *p;
	uint64_t at = (uint64_t)getpid();

	ck_assert_int_ge(pid, 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	kill(getpid(), SIGSTOP); /* until it is in its groups */
	p = mmap(NULL, FILE_MIB * MIB, PROT_READ, MAP_SHARED, fd, 0);
	madvise((void *)p, FILE_MIB * MIB, MADV_RANDOM);
	for (;;) {
		at = at * 6364136223846793005u + 1442695040888963407u;
		(void)p[(at >> 20) % (FILE_MIB * MIB)];
	}
}

static int big_file(void)
{
	char path[] = "/var/tmp/ksm-test-XXXXXX", *block = malloc(MIB);
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	unlink(path);
	memset(block, 0x5a, MIB);
	for (int i = 0; i < FILE_MIB; i++)
		ck_assert_int_eq(write(fd, block, MIB), (int)MIB);
	ck_assert_int_eq(fsync(fd), 0);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	free(block);
	return fd;
}

/* Programs of a group wait for memory, and only then is anything merged. */
START_TEST(waits_for_pressure)
{
	char dir[128], file[160];
	const char *const args[] = { "--pressure", file, NULL };
	pid_t pid[THRASHERS];
	struct memgroup g;
	struct pair s;
	uint64_t end;
	int fd;

	if (!pressure_group(dir, sizeof(dir)))
		return;
	if (!memgroup_make(&g)) {
		rmdir(dir);
		return;
	}
	snprintf(file, sizeof(file), "%s/memory.pressure", dir);
	s = start(args, "ksm/merge_on_pressure", "1");
	expect_held(&s);
	memgroup_limit(&g, LIMIT_MIB * MIB);
	fd = big_file();
	for (int i = 0; i < THRASHERS; i++) {
		pid[i] = start_thrasher(fd);
		waitpid(pid[i], NULL, WUNTRACED);
		memgroup_enter(&g, pid[i]);
		if (g.version == 1)
			enter(dir, pid[i]);
		else /* a process is in one group */
			snprintf(file, sizeof(file), "%s/memory.pressure", g.dir);
	}
	for (int i = 0; i < THRASHERS; i++)
		kill(pid[i], SIGCONT);
	end = harness_now_ms() + WAIT_MS;
	while (stalled_us(dir) < 1000000 && harness_now_ms() < end &&
	       ctl_get_u64(s.d, "ksm/pages_sharing") < NR)
		harness_nap();
	if (stalled_us(dir) < 20000)
		printf("SKIP: nobody waits for memory on this machine (%llu us)\n",
		       (unsigned long long)stalled_us(dir));
	else
		wait_merged(&s);
	for (int i = 0; i < THRASHERS; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	close(fd);
	memgroup_remove(&g);
	wait_until(rmdir(dir) == 0 || errno != EBUSY, WAIT_MS, "the group is empty");
	stop(&s);
}
END_TEST

START_TEST(pressure_that_nobody_tells)
{
	static const char *const none[] = { "--pressure", "/proc/no/such", NULL };
	static const char *const other[] = { "--pressure", "/proc/self/comm", NULL };
	struct daemon *d = daemon_start(none);

	ck_assert_int_eq(ctl_set(d, "ksm/merge_on_pressure", "5"), -EOPNOTSUPP);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/merge_on_pressure"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_on_pressure", "0"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_on_pressure", "101"), -EINVAL);
	daemon_stop(d);
	d = daemon_start(other); /* that is no file of pressure, and takes what is written */
	ctl_set(d, "ksm/merge_on_pressure", "5");
	daemon_stop(d);
}
END_TEST

/* ---- limit/debt_bytes ---- */

/*
 * Seen to fail (all is merged) without allow_debt() in match_hashes(). One user may have half of
 * the limit, unless the share says otherwise.
 */
START_TEST(debt_has_a_limit)
{
	struct pair s = start(NULL, "limit/debt_bytes", "1048576");
	int most = (int)(MIB / PUPPET_PAGE), now;
	struct puppet *child;
	uint64_t scanned;

	wait_counter(s.d, "domains_at_debt_limit", 1);
	wait_full_scans(s.d, 3, WAIT_MS);
	ck_assert_int_le(on_frames(&s), most / 2);
	ck_assert_uint_gt(ctl_get_u64(s.d, "limit/refused/debt_bytes"), 0);
	ck_assert_int_eq(ctl_set(s.d, "limit/user_share_percent", "100"), 0);
	/* A pair each time, so one page may be left over. */
	wait_until(on_frames(&s) >= most - 1, WAIT_MS, "the limit is reached");
	wait_full_scans(s.d, 3, WAIT_MS);
	now = on_frames(&s);
	ck_assert_int_le(now, most);
	ck_assert_uint_eq(ctl_get_u64(s.d, "ksm/debt_bytes"), (uint64_t)now * PUPPET_PAGE);
	ck_assert_uint_eq(ctl_get_u64(s.d, "ksm/debt_limit_bytes"), MIB);
	ck_assert_uint_le(ctl_get_u64(s.d, "user/0/debt_bytes"), MIB);
	ck_assert_uint_gt(why(&s, 0, "debt") + why(&s, 1, "debt"), 0);
	/* Nothing is read in vain. */
	scanned = ctl_get_u64(s.d, "ksm/pages_scanned");
	wait_full_scans(s.d, 3, WAIT_MS);
	ck_assert_uint_eq(ctl_get_u64(s.d, "ksm/pages_scanned"), scanned);
	/* A fork doubles it, and nobody can forbid that. */
	child = puppet_fork(s.p[0]);
	wait_counter(s.d, "clients", 3);
	wait_until(ctl_get_u64(s.d, "ksm/debt_bytes") > (uint64_t)now * PUPPET_PAGE, WAIT_MS,
		   "the child's pages count");
	puppet_end(child);
	/* Room again: the rest follows. */
	ck_assert_int_eq(ctl_set(s.d, "limit/debt_bytes", "0"), 0);
	wait_merged(&s);
	ck_assert_uint_eq(ctl_get_u64(s.d, "ksm/domains_at_debt_limit"), 0);
	stop(&s);
}
END_TEST

START_TEST(debt_in_percent)
{
	struct pair s = start(NULL, "limit/debt_bytes", "50%");
	uint64_t limit;
	char text[32];

	ck_assert_int_gt(ctl_get(s.d, "limit/debt_bytes", text, sizeof(text)), 0);
	ck_assert_str_eq(text, "50%");
	wait_merged(&s);
	limit = ctl_get_u64(s.d, "ksm/debt_limit_bytes");
	ck_assert_uint_gt(limit, available_mib() * MIB / 4);
	ck_assert_int_eq(ctl_set(s.d, "limit/debt_bytes", "100%"), 0);
	ck_assert_uint_gt(ctl_get_u64(s.d, "ksm/debt_limit_bytes"), limit);
	ck_assert_int_eq(ctl_set(s.d, "limit/debt_bytes", "0"), 0);
	ck_assert_uint_eq(ctl_get_u64(s.d, "ksm/debt_limit_bytes"), 0);
	stop(&s);
}
END_TEST

START_TEST(bad_values)
{
	static const char *const bad[][2] = {
		{ "limit/debt_bytes", "" },
		{ "limit/debt_bytes", "%" },
		{ "limit/debt_bytes", "0%" },
		{ "limit/debt_bytes", "1001%" },
		{ "limit/debt_bytes", "5%%" },
		{ "limit/debt_bytes", "-5%" },
		{ "limit/debt_bytes", "5 %" },
		{ "limit/debt_bytes", "1e9" },
		{ "limit/debt_bytes", "99999999999999999999%" },
		{ "limit/arena_bytes", "5%" },
		{ "ksm/merge_below_available", "%" },
		{ "ksm/merge_below_available", "101%" },
		{ "ksm/merge_below_available", "5%%" },
		{ "ksm/merge_below_available", "2147483648" },
		{ "ksm/merge_below_available", "5 %" },
	};
	struct daemon *d = daemon_start(NULL);
	char text[32];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int r = ctl_set(d, bad[i][0], bad[i][1]);

		ck_assert_msg(r == -EINVAL, "%s %s: %d", bad[i][0], bad[i][1], r);
	}
	ck_assert_int_eq(ctl_set(d, "ksm/merge_below_available", "7%"), 0);
	ctl_get(d, "ksm/merge_below_available", text, sizeof(text));
	ck_assert_str_eq(text, "7%");
	ck_assert_int_eq(ctl_set(d, "ksm/merge_below_available", "+700\n"), 0);
	ctl_get(d, "ksm/merge_below_available", text, sizeof(text));
	ck_assert_str_eq(text, "700");
	daemon_stop(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("shortage");
	TCase *tc = tcase_create("shortage");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, waits_until_memory_is_short);
	tcase_add_test(tc, memory_that_another_takes);
	tcase_add_test(tc, waits_for_pressure);
	tcase_add_test(tc, pressure_that_nobody_tells);
	tcase_add_test(tc, debt_has_a_limit);
	tcase_add_test(tc, debt_in_percent);
	tcase_add_test(tc, bad_values);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
