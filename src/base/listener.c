/* SPDX-License-Identifier: MIT */
/* listener.c - see listener.h. */
#include "base/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"

#define BATCH 64   /* connections of one turn; then others have theirs */
#define REST_MS 20 /* a connection that is turned away is closed by then */

static void reserve(struct listener *l)
{
	if (l->spare < 0)
		l->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void release(struct listener *l)
{
	if (l->spare >= 0)
		close(l->spare);
	l->spare = -1;
}

static void look_away(struct listener *l)
{
	loop_watch_set(&l->watch, 0);
	loop_timer_set(&l->rest, clock_ms() + REST_MS);
}

/* Returns whether a connection was taken off the queue. */
static bool use_reserve(struct listener *l)
{
	int sock;

	release(l);
	sock = accept4(l->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (sock >= 0)
		l->turn_away(l, sock);
	reserve(l);
	return sock >= 0 && l->spare >= 0;
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct listener *l = container_of(w, struct listener, watch);

	(void)events;
	for (int i = 0; i < BATCH && w->loop; i++) {
		int sock = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (sock >= 0) {
			l->admit(l, sock);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno == EMFILE || errno == ENFILE) {
			if (!use_reserve(l)) {
				look_away(l);
				return;
			}
		} else if (errno != ECONNABORTED && errno != EINTR) { /* short of memory */
			look_away(l);
			return;
		}
	}
}

static void rested(struct loop_timer *t, uint64_t now_ms)
{
	struct listener *l = container_of(t, struct listener, rest);

	(void)now_ms;
	reserve(l);
	/* The first descriptor that is free again is the reserve, not a connection's. */
	if (l->watch.loop && (l->spare < 0 || loop_watch_set(&l->watch, EPOLLIN)))
		look_away(l);
}

void listener_init(struct listener *l, struct loop *loop, int fd,
		   void (*admit)(struct listener *l, int sock),
		   void (*turn_away)(struct listener *l, int sock))
{
	*l = (struct listener){ .watch.fd = fd, .spare = -1 };
	l->admit = admit;
	l->turn_away = turn_away;
	loop_timer_add(loop, &l->rest, rested);
}

int listener_start(struct listener *l, struct loop *loop)
{
	reserve(l);
	if (l->spare < 0)
		return -errno;
	return loop_watch(loop, &l->watch, l->watch.fd, EPOLLIN, ready);
}

int listener_close(struct listener *l)
{
	loop_unwatch(&l->watch);
	release(l);
	return l->watch.fd;
}
