/* SPDX-License-Identifier: MIT */
/*
 * closer.c - see closer.h.
 *
 * close(2) may take as long as the one who made the file likes. The last reference to a TCP socket
 * with SO_LINGER waits for up to an hour; a file of a FUSE file system waits for its server, and
 * not even SIGKILL ends that. Any descriptor that a client passes may be such a file. Any socket of
 * a client may hold one in its queue, to be closed with the socket. So the threads that serve
 * receive everything that comes along (rights.h), lest the kernel close it for them, and hand it
 * over here with every socket that they are done with. A socket in whose queue no descriptor is
 * left (rights.h) waits for nobody, and is closed at once.
 *
 * Its threads close one thing after the other. A foreman, who closes nothing, looks after them: one
 * that has been at a file for STUCK_MS gets a signal, which ends a lingering close, and further
 * threads start when all are stuck. One user occupies at most THREADS_PER_UID of them, and what he
 * passes beyond that waits. Threads and what waits are charged to him. While MAX_WAITING of his
 * descriptors wait nothing more is received from him, and while MAX_WAITING of his connections do
 * he gets no other. Nobody can tell whose a connection is before it was accepted, and then its
 * queue may hold descriptors already. So while many wait the kernel lets no new connection bring
 * any before we have said so (accept.c).
 *
 * Only a FUSE server that never answers keeps a thread for good. That thread holds nothing but its
 * file, but the process cannot end before the server does. Receiving in a process of its own would
 * change that, at two switches of context for every join.
 */
#include "daemon/closer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/rights.h"

#define STUCK_MS 50
#define STOP_MS 1000
#define MAX_THREADS 16u
#define THREADS_PER_UID 4u
#define MAX_WAITING 32u
#define THREAD_STACK (64u << 10)

struct closing {
	int fd;
	uid_t uid;
	enum closer_kind kind;
	struct charge charge;
	uint64_t since_ms; /* when `by` began with it */
	pthread_t by;
	TAILQ_ENTRY(closing) link;
};

/* ---- closing ---- */

/* Unread messages would make the peer see ECONNRESET instead of our last words. */
static void drain(int sock)
{
	char c;

	while (recv(sock, &c, 1, MSG_DONTWAIT) > 0)
		;
}

static void let_go(enum closer_kind kind, int fd)
{
	if (kind == CLOSER_SOCKET)
		drain(fd);
	close(fd);
}

/* Hung up, so nothing more can come; and what is in its queue may be all there is. */
static bool harmless(enum closer_kind kind, int fd)
{
	if (kind != CLOSER_SOCKET)
		return false;
	shutdown(fd, SHUT_RDWR);
	return rights_drain(fd);
}

#define ANY_KIND CLOSER_KINDS

static unsigned int count(const struct closings *list, uid_t uid, enum closer_kind kind)
{
	const struct closing *i;
	unsigned int nr = 0;

	TAILQ_FOREACH(i, list, link)
	nr += i->uid == uid && (kind == ANY_KIND || kind == i->kind);
	return nr;
}

/* Threads are charged like everything else: some are left, however many users take theirs. */
static bool charge_thread(struct closer *c, struct closing *i)
{
	return i->kind == CLOSER_LISTENER ||
	       charge_set(c->accounts, &i->charge, i->uid, ACCOUNT_CLOSERS, 1) != -EDQUOT;
}

/*
 * The first of a user who does not occupy his share of threads, or NULL. `take`: a thread is
 * charged to him.
 */
static struct closing *pick(struct closer *c, bool take) NEEDS(c->lock)
{
	struct closing *i;
	uid_t full = (uid_t)-1; /* so that a long queue of one user is not counted over and over */

	TAILQ_FOREACH(i, &c->queue, link)
	{
		if (i->uid == full)
			continue;
		if (count(&c->busy, i->uid, ANY_KIND) < THREADS_PER_UID &&
		    (!take || charge_thread(c, i)))
			return i;
		full = i->uid;
	}
	return NULL;
}

static struct closing *wait_for_work(struct closer *c) NEEDS(c->lock)
{
	struct closing *i;

	while (!(i = pick(c, true)) && !c->stopping) {
		c->nr_idle++;
		pthread_cond_wait(&c->work, &c->lock.m);
		c->nr_idle--;
	}
	return i;
}

static void *closing_thread(void *arg)
{
	struct closer *c = arg;
	struct closing *i;

	lock_take(&c->lock);
	while ((i = wait_for_work(c))) {
		TAILQ_REMOVE(&c->queue, i, link);
		TAILQ_INSERT_TAIL(&c->busy, i, link);
		i->since_ms = clock_ms();
		i->by = pthread_self();
		lock_give(&c->lock);
		let_go(i->kind, i->fd);
		lock_take(&c->lock);
		TAILQ_REMOVE(&c->busy, i, link);
		c->nr[i->kind]--;
		charge_drop(&i->charge);
		free(i);
	}
	c->nr_threads--;
	pthread_cond_broadcast(&c->attention);
	lock_give(&c->lock);
	return NULL;
}

static int add_thread(struct closer *c) NEEDS(c->lock)
{
	pthread_attr_t attr;
	pthread_t t;
	int err;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&t, &attr, closing_thread, c);
	pthread_attr_destroy(&attr);
	if (err)
		return -err;
	pthread_setname_np(t, "ksmd-close");
	c->nr_threads++;
	return 0;
}

/* ---- the foreman ---- */

/* Signals those that are stuck. Returns how many threads are not. */
static unsigned int nudge(struct closer *c) NEEDS(c->lock)
{
	uint64_t now = clock_ms();
	unsigned int stuck = 0;
	struct closing *i;

	TAILQ_FOREACH(i, &c->busy, link)
	{
		if (i->since_ms + STUCK_MS > now)
			continue;
		pthread_kill(i->by, SIGUSR1); /* again and again: one may come before the wait */
		stuck++;
	}
	return c->nr_threads - stuck;
}

static void *foreman(void *arg)
{
	struct closer *c = arg;

	lock_take(&c->lock);
	while (!c->stopping || c->nr_threads) {
		struct timespec until = clock_in_ms(STUCK_MS);

		if (TAILQ_EMPTY(&c->busy) && TAILQ_EMPTY(&c->queue) && !c->stopping)
			pthread_cond_wait(&c->attention, &c->lock.m);
		else if (pthread_cond_timedwait(&c->attention, &c->lock.m, &until) == ETIMEDOUT &&
			 !nudge(c) && c->nr_threads < MAX_THREADS && pick(c, false))
			add_thread(c); /* if it fails, it is tried again in STUCK_MS */
	}
	lock_give(&c->lock);
	return NULL;
}

/* ---- from outside ---- */

void closer_init(struct closer *c, struct account_table *accounts)
{
	pthread_condattr_t attr;

	*c = (struct closer){ .accounts = accounts };
	account_limit(accounts, ACCOUNT_CLOSERS, MAX_THREADS);
	lock_init(&c->lock);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->work, &attr);
	pthread_cond_init(&c->attention, &attr);
	pthread_condattr_destroy(&attr);
	TAILQ_INIT(&c->queue);
	TAILQ_INIT(&c->busy);
}

static void woken(int sig)
{
	(void)sig;
}

int closer_start(struct closer *c)
{
	struct sigaction wake = { .sa_handler = woken }; /* no SA_RESTART */
	int err;

	sigaction(SIGUSR1, &wake, NULL);
	lock_take(&c->lock);
	err = add_thread(c);
	if (!err)
		err = -pthread_create(&c->foreman, NULL, foreman, c);
	c->started = !err;
	c->stopping = err; /* a thread that was started ends */
	lock_give(&c->lock);
	if (!err)
		pthread_setname_np(c->foreman, "ksmd-foreman");
	return err;
}

static void enqueue(struct closer *c, struct closing *i) NEEDS(c->lock)
{
	/* Above his share, or without memory for an account, it is closed all the same. */
	if (i->kind != CLOSER_LISTENER)
		charge_set(c->accounts, &i->charge, i->uid, ACCOUNT_DESCRIPTORS, 1);
	/* The foreman sleeps unless there was something before. */
	if (TAILQ_EMPTY(&c->busy) && TAILQ_EMPTY(&c->queue))
		pthread_cond_signal(&c->attention);
	TAILQ_INSERT_TAIL(&c->queue, i, link);
	c->nr[i->kind]++;
	pthread_cond_signal(&c->work);
}

void closer_take(struct closer *c, enum closer_kind kind, int fd, uid_t uid)
{
	struct closing *i;

	if (harmless(kind, fd)) {
		close(fd);
		return;
	}
	i = calloc(1, sizeof(*i));
	lock_take(&c->lock);
	if (i && c->started) {
		*i = (struct closing){ .fd = fd, .uid = uid, .kind = kind };
		enqueue(c, i);
		i = NULL;
		fd = -1;
	}
	lock_give(&c->lock);
	free(i);
	/* Out of memory, or a test without threads: a descriptor that leaks is gone for ever. */
	if (fd >= 0)
		let_go(kind, fd);
}

bool closer_crowded(struct closer *c, enum closer_kind kind, uid_t uid)
{
	bool crowded;

	if (c->nr[kind] < MAX_WAITING)
		return false;
	lock_take(&c->lock);
	crowded = count(&c->queue, uid, kind) + count(&c->busy, uid, kind) >= MAX_WAITING;
	lock_give(&c->lock);
	return crowded;
}

bool closer_guards(const struct closer *c)
{
	return c->nr[CLOSER_SOCKET] >= MAX_WAITING;
}

/* The accounts end before what is stuck. */
static void give_back(struct closings *list)
{
	struct closing *i;

	TAILQ_FOREACH(i, list, link)
	charge_drop(&i->charge);
}

void closer_stop(struct closer *c)
{
	struct timespec until = clock_in_ms(STOP_MS);
	bool ended;

	if (!c->started)
		return;
	lock_take(&c->lock);
	c->stopping = true;
	pthread_cond_broadcast(&c->work);
	pthread_cond_broadcast(&c->attention);
	while (c->nr_threads &&
	       pthread_cond_timedwait(&c->attention, &c->lock.m, &until) != ETIMEDOUT)
		;
	ended = !c->nr_threads;
	give_back(&c->busy);
	give_back(&c->queue);
	lock_give(&c->lock);
	if (ended)
		pthread_join(c->foreman, NULL);
}
