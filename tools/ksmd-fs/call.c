/* SPDX-License-Identifier: MIT */
/* call.c - see call.h. */
#include "tools/ksmd-fs/call.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the caller's ids, for one thread: the C library's functions change those of all ---- */

static void must(long ret)
{
	if (ret) /* going on with another's ids is the one thing that must not happen */
		abort();
}

static int take_ids(const struct caller *who)
{
	if (syscall(SYS_setgroups, who->nr_groups, who->groups))
		return -errno;
	must(syscall(SYS_setresgid, -1, who->gid, -1));
	must(syscall(SYS_setresuid, -1, who->uid, -1));
	return 0;
}

static void give_ids_back(void)
{
	must(syscall(SYS_setresuid, -1, getuid(), -1));
	must(syscall(SYS_setresgid, -1, getgid(), -1));
	must(syscall(SYS_setgroups, 0, NULL));
}

static int connect_as(struct talk *t, const struct caller *who)
{
	bool other = getuid() == 0 && (who->uid != 0 || who->gid != getgid());
	int err = other ? take_ids(who) : 0;

	if (err)
		return err;
	err = talk_connect(t);
	if (other)
		give_ids_back();
	return err == 0 || err == -EACCES || err == -EINTR ? err : -EIO;
}

/* ---- the connection ---- */

static int open_new(struct talk *t, const char *path, const struct caller *who)
{
	int err = talk_socket(t, path);

	if (!err)
		err = connect_as(t, who);
	if (!err && !talk_trusted(t))
		err = -EIO;
	if (err)
		talk_close(t);
	return err == -ENAMETOOLONG ? -EIO : err;
}

/* ---- connections at rest ---- */

bool caller_same(const struct caller *a, const struct caller *b)
{
	return a->uid == b->uid && a->gid == b->gid && a->nr_groups == b->nr_groups &&
	       !memcmp(a->groups, b->groups, (size_t)a->nr_groups * sizeof(a->groups[0]));
}

/* The daemon has not hung up, nor said a word of farewell: there is nothing to be read. */
static bool at_rest(const struct talk *t)
{
	char c;

	return t->in.len == t->pos && recv(t->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
	       errno == EAGAIN;
}

/* The one that was used last. False: there is none. */
static bool take(struct call_pool *pool, const struct caller *who, struct talk *t)
{
	bool found = false;

	pthread_mutex_lock(&pool->lock);
	for (unsigned int i = pool->nr; i-- && !found;)
		if (caller_same(&pool->v[i].who, who)) {
			*t = pool->v[i].talk;
			pool->nr--;
			memmove(&pool->v[i], &pool->v[i + 1], (pool->nr - i) * sizeof(pool->v[0]));
			found = true;
		}
	pthread_mutex_unlock(&pool->lock);
	if (found && !at_rest(t)) {
		talk_close(t);
		return false;
	}
	return found;
}

/* Keep it; where there is no room the one that has rested longest goes. */
static void keep(struct call_pool *pool, const struct caller *who, const struct talk *t)
{
	struct talk oldest = { .fd = -1 };

	pthread_mutex_lock(&pool->lock);
	if (pool->nr == CALL_KEPT) {
		oldest = pool->v[0].talk;
		pool->nr--;
		memmove(&pool->v[0], &pool->v[1], pool->nr * sizeof(pool->v[0]));
	}
	pool->v[pool->nr].talk = *t;
	pool->v[pool->nr++].who = *who;
	pthread_mutex_unlock(&pool->lock);
	talk_close(&oldest);
}

int call_say(struct call_pool *pool, const char *path, const struct caller *who, const char *line,
	     bool store, struct text *body)
{
	struct text why = { 0 };
	struct talk t;
	int err = 0;

	if (store || !take(pool, who, &t))
		err = open_new(&t, path, who);
	if (err)
		return err;
	err = talk_say(&t, line, body, &why);
	/* After a refusal the connection is as good as before. */
	if ((err && !why.len) || why.failed)
		talk_close(&t);
	else
		keep(pool, who, &t);
	text_free(&why);
	return err;
}
