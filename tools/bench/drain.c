/* SPDX-License-Identifier: MIT */
/*
 * drain.c - see drain.h.
 *
 * Two processes have the same memory, and it has merged. Then one node of a daemon's two is taken
 * out of use, and the other after it. All the while each process reads its pages, writes a few
 * of them, and looks whether they hold what was written. The nodes are emulated: a machine with two
 * would add what its memory adds.
 */
#include "drain.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"
#include "ksm.h"
#include "message.h"
#include "own_daemon.h"
#include "rand.h"
#include "stop.h"

enum { CLIENTS = 2, MIB = 128, PAGES = MIB * 256, WRITTEN = PAGES / 100, ROUNDS = 4 };
enum { MERGED = PAGES - 2 * WRITTEN }; /* the rest may have been written meanwhile */
enum { READS = 256, MERGE_MS = 120000, DRAIN_MS = 300000, LOOK_MS = 2 };
#define FRAMES_PER_GIB (1u << 18)
#define SEED 88172645463325252ull

/* --- a client --- */

static uint64_t *page(char *m, uint64_t i)
{
	return (uint64_t *)(void *)(m + i * BENCH_PAGE);
}

/* A few hundred pages are read in each millisecond, and one of the last is written. */
static bool run(char *m, uint64_t *x)
{
	uint64_t i;

	for (int n = 0; n < READS; n++) {
		i = xorshift(x) % (PAGES - WRITTEN);
		if (*page(m, i) != i + 1)
			return false;
	}
	i = PAGES - 1 - xorshift(x) % WRITTEN;
	*page(m, i) = xorshift(x);
	usleep(1000);
	return true;
}

/* Its exit status says that a page held something else. */
static void client_main(uint64_t seed)
{
	char *m = mmap(NULL, (size_t)PAGES * BENCH_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t x = SEED + seed;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (m == MAP_FAILED)
		_exit(2);
	for (uint64_t i = 0; i < PAGES; i++)
		*page(m, i) = i + 1;
	if (ksm_madvise(m, (size_t)PAGES * BENCH_PAGE, MADV_MERGEABLE))
		_exit(2);
	while (run(m, &x))
		;
	_exit(1);
}

/* --- the daemon --- */

static int number(struct own_daemon *d, const char *path, uint64_t *v)
{
	char line[128], buf[128];
	int err;

	snprintf(line, sizeof(line), "get %s\n", path);
	err = own_daemon_request(d, line, buf, sizeof(buf));
	*v = err ? 0 : strtoull(buf, NULL, 10);
	return err;
}

/* Wait until a number is `least` or more. */
static int await(struct own_daemon *d, const char *path, uint64_t least, int ms)
{
	uint64_t end = clock_ms() + (uint64_t)ms, v = 0;
	int err = 0;

	while (!err && (err = number(d, path, &v)) == 0 && v < least) {
		if (clock_ms() > end) {
			complain("%s is %llu after %d s", path, (unsigned long long)v, ms / 1000);
			return -ETIMEDOUT;
		}
		err = stop_sleep_ms(LOOK_MS);
	}
	return err;
}

static int ask(struct own_daemon *d, int nid, const char *what)
{
	char line[64], buf[128];

	snprintf(line, sizeof(line), "set node/%d/%s all\n", nid, what);
	return own_daemon_request(d, line, buf, sizeof(buf));
}

/* The counts of a zone that is being emptied are read. *ms: the longest that took. */
static int read_counts(struct own_daemon *d, int nid, double *ms)
{
	uint64_t begun = clock_ns(), nr_free;
	double took;
	char path[64];
	int err;

	snprintf(path, sizeof(path), "zone/%d/free", nid);
	err = number(d, path, &nr_free);
	took = (double)(clock_ns() - begun) / 1e6;
	*ms = took > *ms ? took : *ms;
	return err;
}

struct drained {
	double ms;      /* how long it took */
	double read_ms; /* the longest that a reader of the zone's counts waited meanwhile */
	char result[256];
};

/* Take a node out of use. */
static int drain(struct own_daemon *d, int nid, struct drained *out)
{
	uint64_t begun = clock_ns(), end = clock_ms() + DRAIN_MS;
	char line[64], buf[128] = "";
	int err = ask(d, nid, "offline");

	out->read_ms = 0;
	snprintf(line, sizeof(line), "get node/%d/offline\n", nid);
	while (!err && strncmp(buf, "none", 4)) {
		if (clock_ms() > end)
			err = -ETIMEDOUT;
		err = err ? err : read_counts(d, nid, &out->read_ms);
		err = err ? err : stop_sleep_ms(LOOK_MS);
		err = err ? err : own_daemon_request(d, line, buf, sizeof(buf));
	}
	out->ms = (double)(clock_ns() - begun) / 1e6;
	snprintf(line, sizeof(line), "get node/%d/offline_result\n", nid);
	return err ? err : own_daemon_request(d, line, out->result, sizeof(out->result));
}

/* CPU time of a process, in s. */
static double cpu_of(pid_t pid)
{
	struct timespec ts = { 0 };
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu_of_all(const pid_t pid[CLIENTS])
{
	double sum = 0;

	for (int i = 0; i < CLIENTS; i++)
		sum += cpu_of(pid[i]);
	return sum;
}

static int print_drain(struct own_daemon *d, const pid_t pid[CLIENTS], int nid)
{
	double daemon = cpu_of(d->pid), clients = cpu_of_all(pid), gib;
	struct drained out;
	char path[64];
	uint64_t frames;
	int err;

	snprintf(path, sizeof(path), "zone/%d/used", nid);
	err = number(d, path, &frames);
	err = err ? err : drain(d, nid, &out);
	if (err)
		return err;
	daemon = cpu_of(d->pid) - daemon;
	clients = cpu_of_all(pid) - clients;
	gib = frames ? (double)frames / FRAMES_PER_GIB : 1;
	printf("| %d | %llu | %.0f | %.2f | %.2f | %.2f | %.1f | %.*s |\n", nid,
	       (unsigned long long)frames, out.ms, out.ms / 1000 / gib, daemon / gib, clients / gib,
	       out.read_ms, (int)strcspn(out.result, "\n"), out.result);
	fflush(stdout);
	return ask(d, nid, "online");
}

/* --- all of it --- */

static int clients_start(pid_t pid[CLIENTS])
{
	for (int i = 0; i < CLIENTS; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			return -errno;
		if (!pid[i])
			client_main((uint64_t)i);
	}
	return 0;
}

static int clients_end(const pid_t pid[CLIENTS])
{
	int err = 0;

	for (int i = 0; i < CLIENTS; i++) {
		int status;

		if (pid[i] <= 0)
			continue;
		kill(pid[i], SIGKILL);
		waitpid(pid[i], &status, 0);
		if (!WIFSIGNALED(status)) {
			complain("%s", WEXITSTATUS(status) == 1 ? "a page was wrong" :
								  "a client could not begin");
			err = -EIO;
		}
	}
	return err;
}

static int measure(struct own_daemon *d, const pid_t pid[CLIENTS])
{
	int err = own_daemon_set(d, "sleep_millisecs", "0");

	err = err ? err : own_daemon_set(d, "pages_to_scan", BENCH_PAGES_TO_SCAN);
	err = err ? err : await(d, "ksm/pages_sharing", MERGED, MERGE_MS);
	for (int i = 0; i < ROUNDS && !err; i++)
		err = print_drain(d, pid, i % 2);
	return err;
}

int drain_print(void)
{
	static const char *const nodes[] = { "--topology", "emulated:2", NULL };
	struct own_daemon d;
	pid_t pid[CLIENTS] = { 0 };
	int err, ended;

	printf("\nA node is taken out of use. %d processes of %d MiB run, and have merged.\n\n"
	       "| node | frames in use | ms | s per GiB of frames | of CPU: daemon | "
	       "clients, their own work included | longest wait for counts [ms] | result |\n"
	       "|---|---|---|---|---|---|---|---|\n",
	       CLIENTS, MIB);
	fflush(stdout);
	err = own_daemon_start_as(&d, nodes);
	err = err ? err : clients_start(pid);
	err = err ? err : measure(&d, pid);
	ended = clients_end(pid);
	own_daemon_stop(&d);
	return err ? err : ended;
}
