/* SPDX-License-Identifier: MIT */
/*
 * test_scan_place.c - on which CPUs the scan threads run.
 *
 * The nodes are pretended, with the machine's CPUs dealt out to them; what a thread may use is what
 * the kernel says of it in /proc.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

enum { PAGES = 4096, THREADS = 16 };

struct threads {
	int nr;
	cpu_set_t cpus[THREADS];
};

/* The scan thread and its helpers. */
static struct threads scan_threads(const struct daemon *d)
{
	struct threads t = { 0 };
	char path[300], name[32];
	const struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)d->pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((e = readdir(dir))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/comm", (int)d->pid, e->d_name);
		f = *e->d_name == '.' ? NULL : fopen(path, "re");
		if (!f)
			continue;
		if (!fgets(name, sizeof(name), f))
			*name = '\0';
		fclose(f);
		/* One that ends meanwhile is none. */
		if (!strcmp(name, "ksmd-scan\n") && t.nr < THREADS &&
		    !sched_getaffinity(atoi(e->d_name), sizeof(cpu_set_t), &t.cpus[t.nr]))
			t.nr++;
	}
	closedir(dir);
	return t;
}

/* "0-2,5" */
static cpu_set_t node_cpus(struct daemon *d, int nid)
{
	char path[64], list[256], *at = list;
	cpu_set_t set;

	CPU_ZERO(&set);
	snprintf(path, sizeof(path), "node/%d/scan_cpus", nid);
	ck_assert_int_gt(ctl_get(d, path, list, sizeof(list)), 0);
	while (*at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &at, 10), last = first;

		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		for (; first <= last; first++)
			CPU_SET(first, &set);
		at += *at == ',';
	}
	return set;
}

static int nr_on(const struct threads *t, const cpu_set_t *cpus)
{
	int nr = 0;

	for (int i = 0; i < t->nr; i++)
		nr += CPU_EQUAL(&t->cpus[i], cpus);
	return nr;
}

static uint64_t node_threads(struct daemon *d, int nid)
{
	char path[64];

	snprintf(path, sizeof(path), "node/%d/scan_threads", nid);
	return ctl_get_u64(d, path);
}

static struct daemon *start(const char *topology)
{
	struct daemon *d = daemon_start((const char *const[]){ "--topology", topology, NULL });

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/scan_threads", 2), 0);
	return d;
}

struct scene {
	struct puppet *p[2];
	long at[2];
	long content;
};

static struct scene offer(void)
{
	struct scene s = { .content = 1 };

	for (int i = 0; i < 2; i++) {
		s.p[i] = puppet_new();
		s.at[i] = puppet_call(s.p[i], fn_offer, PAGES, 1, 1);
		ck_assert_int_gt(s.at[i], 0);
	}
	return s;
}

/*
 * There is much to read: new memory, which is read at once. Memory that changes faster than passes
 * follow each other is not read, and helpers are called for what is.
 */
static bool stir(struct scene *s)
{
	s->content += PAGES;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(puppet_call(s->p[i], fn_munmap, s->at[i], PAGES << 12), 0);
		s->at[i] = puppet_call(s->p[i], fn_offer, PAGES, s->content, 1);
		ck_assert_int_gt(s->at[i], 0);
	}
	return true;
}

static void end(struct daemon *d, struct scene *s)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(puppet_call(s->p[i], fn_check, s->at[i], PAGES, s->content, 1), 0);
		puppet_end(s->p[i]);
	}
	daemon_stop(d);
}

/* Two threads at work, each on the CPUs of a node of its own. */
static bool each_on_its_node(struct daemon *d)
{
	cpu_set_t a = node_cpus(d, 0), b = node_cpus(d, 1);
	struct threads t = scan_threads(d);

	return t.nr == 2 && nr_on(&t, &a) >= 1 && nr_on(&t, &b) >= 1 &&
	       nr_on(&t, &a) + nr_on(&t, &b) == (CPU_EQUAL(&a, &b) ? 4 : 2) &&
	       node_threads(d, 0) == 1 && node_threads(d, 1) == 1;
}

START_TEST(threads_stay_on_their_node)
{
	struct daemon *d = start("emulated:2");
	struct scene s = offer();
	cpu_set_t cpus, now;

	ck_assert_int_eq(sched_getaffinity(d->pid, sizeof(cpus), &cpus), 0);
	/* Helpers go when all is calm, so it must not be. */
	wait_until(stir(&s) && each_on_its_node(d), WAIT_MS, "a scan thread on each node");
	/* The other threads are bound to nothing. */
	ck_assert_int_eq(sched_getaffinity(d->pid, sizeof(now), &now), 0);
	ck_assert(CPU_EQUAL(&cpus, &now));
	end(d, &s);
}
END_TEST

static int last_cpu(const cpu_set_t *set)
{
	int last = -1;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, set))
			last = cpu;
	return last;
}

static bool all_on(struct daemon *d, const cpu_set_t *cpus)
{
	struct threads t = scan_threads(d);

	return t.nr > 0 && nr_on(&t, cpus) == t.nr;
}

/* What the daemon may use is narrowed while it runs, and widened again. */
START_TEST(allowed_cpus_change)
{
	struct daemon *d = start("emulated:2");
	struct scene s = offer();
	cpu_set_t all, one, shown;

	ck_assert_int_eq(sched_getaffinity(d->pid, sizeof(all), &all), 0);
	CPU_ZERO(&one);
	CPU_SET((size_t)last_cpu(&all), &one);
	wait_until(stir(&s) && each_on_its_node(d), WAIT_MS, "scan threads are bound");
	ck_assert_int_eq(sched_setaffinity(d->pid, sizeof(one), &one), 0);
	wait_until(stir(&s) && all_on(d, &one), WAIT_MS, "scan threads follow the main thread");
	for (int nid = 0; nid < 2; nid++) {
		shown = node_cpus(d, nid);
		ck_assert(CPU_EQUAL(&shown, &one));
	}
	ck_assert_int_eq(sched_setaffinity(d->pid, sizeof(all), &all), 0);
	wait_until(stir(&s) && each_on_its_node(d), WAIT_MS, "each is on its node again");
	end(d, &s);
}
END_TEST

/*
 * A node without CPUs has its thread on the nearest that has some. Seen to fail when that is the
 * first one.
 */
START_TEST(node_without_cpus)
{
	/* More nodes than CPUs: the last ones have none. Node 7 is near to node 1. */
	static const char far[] = "emulated:8,10:20:20:20:20:20:20:20,20:10:20:20:20:20:20:12,"
				  "20:20:10:20:20:20:20:20,20:20:20:10:20:20:20:20,"
				  "20:20:20:20:10:20:20:20,20:20:20:20:20:10:20:20,"
				  "20:20:20:20:20:20:10:20,20:12:20:20:20:20:20:10";
	struct daemon *d;
	cpu_set_t all, first, near, last;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(all), &all), 0);
	if (last_cpu(&all) >= 7)
		CPU_CLR(7, &all);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(all), &all), 0);
	d = start(far);
	first = node_cpus(d, 0);
	near = node_cpus(d, 1);
	last = node_cpus(d, 7);
	if (CPU_ISSET(0, &all) && CPU_ISSET(1, &all))
		ck_assert(!CPU_EQUAL(&first, &near));
	ck_assert(CPU_EQUAL(&near, &last));
	ck_assert_int_gt(CPU_COUNT(&last), 0);
	daemon_stop(d);
}
END_TEST

/* On one node the kernel knows best. */
START_TEST(one_node)
{
	struct daemon *d = start("emulated:1");
	struct scene s = offer();
	cpu_set_t all;

	ck_assert_int_eq(sched_getaffinity(d->pid, sizeof(all), &all), 0);
	wait_until(stir(&s) && scan_threads(d).nr == 2, WAIT_MS, "a helper");
	ck_assert(all_on(d, &all));
	ck_assert_uint_eq(node_threads(d, 0), 0);
	end(d, &s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scan_place");
	TCase *tc = tcase_create("scan_place");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, threads_stay_on_their_node);
	tcase_add_test(tc, allowed_cpus_change);
	tcase_add_test(tc, node_without_cpus);
	tcase_add_test(tc, one_node);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
