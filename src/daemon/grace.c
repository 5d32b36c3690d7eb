/* SPDX-License-Identifier: MIT */
/*
 * grace.c - see grace.h.
 *
 * Why a lock on a mapped file. Nobody tells the daemon of a forked child that does not run the
 * library, yet that child maps frames. flock(2) belongs to an open file description, and a mapping
 * holds the description: fork passes it on even when every descriptor is closed, and exit and exec
 * drop it. So the shared lock of a description that one process was handed lives exactly as long as
 * a descendant of that time does, or the process itself. The process gives it up by replacing its
 * own mapping, as it does when it is told of a new epoch.
 *
 * Nobody waits for a process that is stopped or slow: its frames stay retired until it moves on.
 *
 * A client that is alone could take the exclusive lock itself. Then the daemon gives up the file
 * for new clients (-EWOULDBLOCK), and what the liar holds stays retired, in its own domain.
 */
#include "daemon/grace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire/wire.h"

/* Each epoch costs a message to every client: five a second free memory soon enough, and nobody
 * notices them. */
#define ADVANCE_MS 200
/* A client answers within milliseconds; a forked child may live for hours. */
#define POLL_MIN_MS 100
#define POLL_MAX_MS 2000
/* More than one old epoch arises only when clients lock sentinels against us. */
#define MAX_OLD 64

static struct sentinel *sentinel_new(const struct vault *v, uint64_t epoch)
{
	struct sentinel *s = malloc(sizeof(*s));
	int err;

	if (!s)
		return NULL;
	s->epoch = epoch;
	err = vault_file_new(v, KSM_SENTINEL_NAME, KSM_PAGE_SIZE, VAULT_EMPTY, &s->file);
	if (!err)
		return s;
	free(s);
	errno = -err;
	return NULL;
}

static void sentinel_free(struct sentinel *s)
{
	vault_file_close(&s->file);
	free(s);
}

/* Something has changed in `old`. */
static void note_wait(struct grace *g)
{
	const struct sentinel *s = TAILQ_FIRST(&g->old);
	struct stat st = { 0 };

	if (s && !fstat(s->file.fd, &st)) {
		g->wait.dev = st.st_dev;
		g->wait.inode = st.st_ino;
	}
	g->wait.since_ms = s ? s->old_ms : 0;
}

int grace_init(struct grace *g, const struct vault *v, uint64_t epoch)
{
	g->vault = v;
	TAILQ_INIT(&g->old);
	g->nr_old = 0;
	g->next_poll_ms = CLOCK_NEVER;
	g->poll_ms = POLL_MIN_MS;
	g->next_advance_ms = 0;
	g->current = sentinel_new(g->vault, epoch);
	return g->current ? 0 : -errno;
}

void grace_deinit(struct grace *g)
{
	struct sentinel *s;

	while ((s = TAILQ_FIRST(&g->old))) {
		TAILQ_REMOVE(&g->old, s, link);
		sentinel_free(s);
	}
	if (g->current)
		sentinel_free(g->current);
	g->current = NULL;
}

int grace_open_shared(const struct grace *g)
{
	int fd = vault_file_share(&g->current->file), err;

	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_SH | LOCK_NB)) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

int grace_advance(struct grace *g, uint64_t epoch)
{
	struct sentinel *s;

	if (g->nr_old >= MAX_OLD)
		return -EMFILE;
	s = sentinel_new(g->vault, epoch);
	if (!s)
		return -errno;
	g->current->old_ms = clock_ms();
	TAILQ_INSERT_TAIL(&g->old, g->current, link);
	g->nr_old++;
	g->current = s;
	g->poll_ms = POLL_MIN_MS;
	g->next_poll_ms = clock_ms() + g->poll_ms;
	g->next_advance_ms = clock_ms() + ADVANCE_MS;
	note_wait(g);
	return 0;
}

bool grace_may_advance(const struct grace *g, uint64_t now_ms)
{
	return grace_idle(g) && now_ms >= g->next_advance_ms;
}

uint64_t grace_poll(struct grace *g, uint64_t now_ms)
{
	uint64_t upto = 0;
	struct sentinel *s;

	if (now_ms < g->next_poll_ms)
		return 0;
	while ((s = TAILQ_FIRST(&g->old)) && flock(s->file.fd, LOCK_EX | LOCK_NB) == 0) {
		upto = s->epoch;
		TAILQ_REMOVE(&g->old, s, link);
		g->nr_old--;
		sentinel_free(s);
	}
	if (upto)
		note_wait(g);
	g->poll_ms = upto ? POLL_MIN_MS : g->poll_ms * 2;
	if (g->poll_ms > POLL_MAX_MS)
		g->poll_ms = POLL_MAX_MS;
	g->next_poll_ms = grace_idle(g) ? CLOCK_NEVER : now_ms + g->poll_ms;
	return upto;
}
