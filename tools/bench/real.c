/* SPDX-License-Identifier: MIT */
/*
 * real.c - real programs as a workload: redis-server and memcached, several of each.
 *
 * They start as an operator would start them: under ksm-run for ksmd-user, with
 * prctl(PR_SET_MEMORY_MERGE) for the kernel's KSM. exec() keeps that flag from Linux 6.7 on;
 * /proc/PID/ksm_stat tells whether it did. Both sides run without address space randomisation, as
 * `make run` does. Each program of a kind gets the same records in the same order over its socket,
 * and must give all of them back at the end.
 *
 * A record's bytes depend on its number alone. So nothing is kept here: the comparison makes the
 * records again.
 */
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "file.h"
#include "fleet.h"
#include "message.h"
#include "rand.h"
#include "server.h"
#include "side.h"
#include "stop.h"
#include "wire/kernel_abi.h"

enum {
	MAX_RECORD = 60000,
	MAX_TEXT = MAX_RECORD + 256, /* a record and its protocol */
	BATCH_BYTES = 128 << 10,     /* sent before answers are read: fits the sockets' buffers */
	NR_KINDS = 2,
	START_MS = 10000,
};

/* A kind of program, and its protocol: formats of printf() for the number of a record. */
struct kind {
	const char *program;
	size_t record; /* bytes */
	/* To store: this, the record, a line break. The answer is always the same. */
	const char *store, *stored;
	/* To fetch: this. The answer: the head, the record, the tail. */
	const char *fetch, *head, *tail;
};

static const struct kind kinds[NR_KINDS] = {
	{ "redis-server", 4000, "*3\r\n$3\r\nSET\r\n$12\r\nkey:%08lu\r\n$4000\r\n", "+OK\r\n",
	  "*2\r\n$3\r\nGET\r\n$12\r\nkey:%08lu\r\n", "$4000\r\n", "\r\n" },
	{ "memcached", MAX_RECORD, "set key%lu 0 0 60000\r\n", "STORED\r\n", "get key%lu\r\n",
	  "VALUE key%lu 0 60000\r\n", "\r\nEND\r\n" },
};

/* Bytes that differ in every page, and are the same in every program of the kind. */
static void record_fill(const struct kind *k, uint64_t i, char *out)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull + k->record;

	for (size_t at = 0; at < k->record; at += sizeof(x)) {
		xorshift(&x);
		memcpy(out + at, &x, sizeof(x)); /* record sizes are multiples of 8 */
	}
}

/* ---- starting ---- */

static void child_exec(const struct side *s, char *const argv[])
{
	char run[600], *wrapped[32] = { run, "--fixed-layout", "--" };
	const char *name = "ksm-run";
	int null = open("/dev/null", O_RDWR), n = 3;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, 0);
	dup2(null, 1);
	if (s->id == SIDE_KERNEL) {
		personality(ADDR_NO_RANDOMIZE);
		if (!prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
			execvp(argv[0], argv);
	} else if (!file_of_project("KSM_RUN", &name, 1, run, sizeof(run))) {
		while (*argv && n < 31)
			wrapped[n++] = *argv++;
		execv(run, wrapped); /* $KSMD_RUNTIME_DIR says where the daemon is */
	}
	complain("cannot start %s: %s", argv[0], strerror(errno));
	_exit(127);
}

int real_program(struct side *s, const char *const argv[], struct fleet_tenant *w)
{
	w->fd = -1;
	w->pid = fork();
	if (w->pid < 0)
		return -errno;
	if (!w->pid)
		child_exec(s, (char *const *)(uintptr_t)argv);
	return 0;
}

static int child_start(struct side *s, int kind, const char *sock, unsigned int size_mib,
		       struct fleet_tenant *w)
{
	char memory[16];
	const char *const redis[] = { "redis-server", "--port", "0", "--unixsocket",
				      sock,           "--save", "",  "--appendonly",
				      "no",           NULL };
	const char *const memcached[] = { "memcached", "-s", sock, "-m",   memory, "-M",
					  "-t",        "2",  "-u", "root", NULL };
	const char *const *argv = kind ? memcached : redis;

	snprintf(memory, sizeof(memory), "%u", 2 * size_mib + 64);
	w->program = kind + 1;
	return real_program(s, argv, w);
}

/* Whether exec() kept the flag. */
static int merges_any(const struct fleet_tenant *w)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/%d/ksm_stat", (int)w->pid);
	if (file_read(path, text, sizeof(text)) < 0 || !strstr(text, "ksm_merge_any:"))
		return 0; /* older than that line */
	if (strstr(text, "ksm_merge_any: yes"))
		return 0;
	complain("this kernel's exec() drops PR_SET_MEMORY_MERGE");
	return -ENOTSUP;
}

static int wait_clients(struct side *s, uint64_t nr)
{
	uint64_t clients, deadline = clock_ns() + START_MS * 1000000ull;
	int err;

	do {
		err = side_get(s, "clients", &clients);
		if (err || clients >= nr)
			return err;
		if (clock_ns() > deadline) {
			complain("only %lu of %lu programs came to ksmd-user", clients, nr);
			return -ETIMEDOUT;
		}
		err = stop_sleep_ms(10);
	} while (!err);
	return err;
}

int real_wait(struct fleet *f, struct side *s)
{
	int err = 0;

	for (int i = 0; s->id == SIDE_KERNEL && i < f->nr && !err; i++)
		err = merges_any(&f->w[i]);
	return err || s->id == SIDE_KERNEL ? err : wait_clients(s, s->cfg->processes);
}

/* ---- talking ---- */

/* What is gathered of one direction. */
struct pile {
	char bytes[BATCH_BYTES + MAX_TEXT];
	size_t nr;
};

struct batch {
	struct pile ask, want, got;
	char record[MAX_RECORD];
};

/* Add a text for record i; with `tail`, the record and that behind it. */
static void put(struct pile *p, const char *fmt, uint64_t i, const char *record, size_t len,
		const char *tail)
{
	p->nr += (size_t)sprintf(p->bytes + p->nr, fmt, i);
	if (!tail)
		return;
	memcpy(p->bytes + p->nr, record, len);
	p->nr += len;
	p->nr += (size_t)sprintf(p->bytes + p->nr, "%s", tail);
}

/* Send what is gathered, and compare the answers. */
static int batch_do(struct batch *b, struct fleet_tenant *w)
{
	int err = server_transfer(w->fd, b->ask.bytes, b->ask.nr, true);

	err = err ? err : server_transfer(w->fd, b->got.bytes, b->want.nr, false);
	if (!err && memcmp(b->got.bytes, b->want.bytes, b->want.nr) != 0)
		err = -EILSEQ;
	b->ask.nr = b->want.nr = 0;
	return err;
}

static int records_do(struct fleet_tenant *w, unsigned int size_mib, bool store)
{
	static struct batch b;
	const struct kind *k = &kinds[w->program - 1];
	uint64_t nr = ((uint64_t)size_mib << 20) / k->record;
	int err = 0;

	b.ask.nr = b.want.nr = 0;
	for (uint64_t i = 0; i < nr && !err; i++) {
		record_fill(k, i, b.record);
		if (store) {
			put(&b.ask, k->store, i, b.record, k->record, "\r\n");
			put(&b.want, k->stored, i, NULL, 0, NULL);
		} else {
			put(&b.ask, k->fetch, i, NULL, 0, NULL);
			put(&b.want, k->head, i, b.record, k->record, k->tail);
		}
		if (b.ask.nr >= BATCH_BYTES || b.want.nr >= BATCH_BYTES || i == nr - 1)
			err = batch_do(&b, w);
	}
	if (err && err != -EINTR)
		complain("%s (process %d) %s: %s", k->program, (int)w->pid,
			 store ? "did not store what it was sent" : "does not give back its data",
			 err == -EILSEQ ? "other bytes" : strerror(-err));
	return err;
}

int real_verify(struct fleet *f, unsigned int size_mib)
{
	int err = 0;

	for (int i = 0; i < f->nr && !err; i++)
		err = records_do(&f->w[i], size_mib, false);
	return err;
}

int real_start(struct fleet *f, struct side *s, unsigned int size_mib)
{
	int err = 0;

	f->nr = 0;
	memset(f->w, 0, sizeof(f->w[0]) * s->cfg->processes);
	for (unsigned int i = 0; i < s->cfg->processes && !err; i++) {
		struct fleet_tenant *w = &f->w[i];
		char sock[64];

		snprintf(sock, sizeof(sock), "/tmp/ksm-bench.%d.%u", (int)getpid(), i);
		err = child_start(s, (int)(i % NR_KINDS), sock, size_mib, w);
		if (!err)
			f->nr++;
		err = err ? err :
			    server_connect(w->pid, kinds[w->program - 1].program, sock, &w->fd);
		err = err ? err : records_do(w, size_mib, true);
	}
	return err ? err : real_wait(f, s);
}
