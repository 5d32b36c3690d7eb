/* SPDX-License-Identifier: MIT */
/*
 * corunner.c - a server that has nothing to do with merging, and shares the machine with it.
 *
 * Merging takes processors, caches and memory bandwidth from everybody. How much is felt by who has
 * nothing of it is what this measures: a redis-server, pinned with the thread that asks it to the
 * last processor, where merging may run as well. Questions are due by an absolute clock, at random
 * around 4,000 a second, and an answer counts from when its question was due: a stall
 * is felt by all questions that came due in it, as it would be by users who know nothing of each
 * other. Both together need a quarter of the processor.
 *
 * Values are of one page each, more of them than caches hold, and every answer is compared.
 */
#include "corunner.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "file.h"
#include "message.h"
#include "rand.h"
#include "server.h"

enum {
	VALUE_WORDS = 512, /* a page */
	VALUES = 16384,    /* 64 MiB */
	PERIOD_NS = 250000,
};
#define VALUE_BYTES (VALUE_WORDS * sizeof(uint64_t))

struct corunner {
	pid_t pid;
	int fd;
	pthread_t thread;
	bool asking;
	atomic_bool stop;
	atomic_int tid;
	/* The thread owns these until it is joined. */
	struct hist seen;
	int err;
};

static void value_make(uint64_t key, uint64_t *out)
{
	uint64_t x = (key + 1) * 0x9e3779b97f4a7c15ull;

	for (int i = 0; i < VALUE_WORDS; i++)
		out[i] = xorshift(&x);
}

static int pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((int)sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

static int value_store(struct corunner *c, uint64_t key)
{
	static const char stored[] = "+OK\r\n";
	char text[VALUE_BYTES + 128], got[sizeof(stored)];
	uint64_t value[VALUE_WORDS];
	size_t n = (size_t)sprintf(text, "*3\r\n$3\r\nSET\r\n$12\r\nkey:%08lu\r\n$%zu\r\n", key,
				   VALUE_BYTES);
	int err;

	value_make(key, value);
	memcpy(text + n, value, VALUE_BYTES);
	memcpy(text + n + VALUE_BYTES, "\r\n", 2);
	err = server_transfer(c->fd, text, n + VALUE_BYTES + 2, true);
	err = err ? err : server_transfer(c->fd, got, sizeof(stored) - 1, false);
	if (!err && memcmp(got, stored, sizeof(stored) - 1) != 0)
		err = -EPROTO;
	return err;
}

static int value_ask(struct corunner *c, uint64_t key)
{
	char text[64], head[16], got[VALUE_BYTES + 32];
	uint64_t value[VALUE_WORDS];
	size_t n = (size_t)sprintf(text, "*2\r\n$3\r\nGET\r\n$12\r\nkey:%08lu\r\n", key),
	       len = (size_t)sprintf(head, "$%zu\r\n", VALUE_BYTES);
	int err = server_transfer(c->fd, text, n, true);

	err = err ? err : server_transfer(c->fd, got, len + VALUE_BYTES + 2, false);
	if (err)
		return err;
	value_make(key, value);
	return memcmp(got, head, len) || memcmp(got + len, value, VALUE_BYTES) ? -EILSEQ : 0;
}

static void *ask_main(void *arg)
{
	struct corunner *c = arg;
	uint64_t due = clock_ns(), rnd = due | 1;

	c->err = pin();
	prctl(PR_SET_TIMERSLACK, 1);
	atomic_store(&c->tid, (int)gettid());
	while (!atomic_load(&c->stop) && !c->err) {
		struct timespec ts;

		due += PERIOD_NS / 2 + xorshift(&rnd) % PERIOD_NS;
		ts.tv_sec = (time_t)(due / 1000000000);
		ts.tv_nsec = (long)(due % 1000000000);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
		c->err = value_ask(c, xorshift(&rnd) % VALUES);
		hist_add(&c->seen, clock_ns() - due);
	}
	return NULL;
}

int corunner_ask(struct corunner *c)
{
	int err;

	memset(&c->seen, 0, sizeof(c->seen));
	c->err = 0;
	atomic_store(&c->stop, false);
	err = pthread_create(&c->thread, NULL, ask_main, c);
	c->asking = !err;
	return -err;
}

int corunner_told(struct corunner *c, struct hist *h)
{
	atomic_store(&c->stop, true);
	pthread_join(c->thread, NULL);
	c->asking = false;
	*h = c->seen;
	if (c->err)
		complain("redis-server beside the merging (process %d): %s", (int)c->pid,
			 c->err == -EILSEQ ? "answers other bytes" : strerror(-c->err));
	return c->err;
}

static void server_exec(const char *sock)
{
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, 0);
	dup2(null, 1);
	if (!pin())
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", sock,
		       "--save", "", "--appendonly", "no", (char *)NULL);
	_exit(127);
}

int corunner_start(struct corunner **out)
{
	struct corunner *c = calloc(1, sizeof(*c));
	char sock[64];
	int err;

	if (!c)
		return -ENOMEM;
	snprintf(sock, sizeof(sock), "/tmp/ksm-bench.%d.beside", (int)getpid());
	c->fd = -1;
	c->pid = fork();
	if (!c->pid)
		server_exec(sock);
	*out = c;
	err = c->pid < 0 ? -errno : server_connect(c->pid, "redis-server", sock, &c->fd);
	for (uint64_t i = 0; i < VALUES && !err; i++)
		err = value_store(c, i);
	if (err && err != -EINTR)
		complain("no redis-server beside the merging: %s", strerror(-err));
	return err;
}

void corunner_stop(struct corunner **out)
{
	struct corunner *c = *out;
	struct hist h;

	if (!c)
		return;
	*out = NULL;
	if (c->asking)
		corunner_told(c, &h);
	if (c->fd >= 0)
		close(c->fd);
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	free(c);
}

static uint64_t cpu_ns(const char *path)
{
	uint64_t ns = 0;

	file_number(path, "", &ns);
	return ns;
}

uint64_t corunner_cpu_ns(const struct corunner *c)
{
	char server[64], asks[64];

	if (!c)
		return 0;
	snprintf(server, sizeof(server), "/proc/%d/schedstat", (int)c->pid);
	snprintf(asks, sizeof(asks), "/proc/self/task/%d/schedstat", atomic_load(&c->tid));
	return cpu_ns(server) + cpu_ns(asks);
}
