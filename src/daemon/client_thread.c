/* SPDX-License-Identifier: MIT */
/*
 * client_thread.c - see client_thread.h.
 *
 * Timers fire in the order in which they are added: silent clients are dropped first, so that the
 * unmerge job and grace periods do not count them, and the dead of the whole turn are buried last.
 */
#include "daemon/client_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <urcu.h>

#include "base/container.h"
#include "daemon/accept.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/epochs.h"
#include "daemon/release.h"
#include "daemon/session_answer.h"
#include "daemon/session_range.h"
#include "daemon/unmerge.h"

static void bury(struct loop_timer *t, uint64_t now)
{
	(void)now;
	clients_bury(container_of(t, struct clients, bury_timer));
}

static void answer(struct bell *b, uint32_t bits)
{
	struct clients *c = container_of(b, struct daemon, client_bell)->clients;

	if (bits & CLIENTS_PING)
		c->d->beats[BEAT_CLIENTS]++;
	if (bits & CLIENTS_UNMERGE)
		unmerge_poll(c);
	if (bits & CLIENTS_RELEASE)
		release_poll(c);
	if (bits & CLIENTS_RETIRED)
		clients_epochs_soon(c);
	if (bits & CLIENTS_LIAR)
		session_answer_liars(c);
	if (bits & CLIENTS_STOP)
		loop_stop(&c->loop);
}

static int set_up(struct clients *c, struct daemon *d, int listen_fd)
{
	int err = clients_init(c, d);

	d->client_bell.event = -1;
	accept_init(c, listen_fd);
	unmerge_init(c);
	epochs_init(c);
	session_range_init(c);
	loop_timer_add(&c->loop, &c->bury_timer, bury);
	if (!err)
		err = bell_init(&d->client_bell);
	if (!err)
		err = bell_hang(&d->client_bell, &c->loop, answer);
	if (!err)
		err = accept_start(c);
	return err;
}

struct clients *client_thread_new(struct daemon *d, int listen_fd)
{
	struct clients *c = calloc(1, sizeof(*c));
	int err;

	if (!c) {
		close(listen_fd);
		return NULL;
	}
	err = set_up(c, d, listen_fd);
	if (!err)
		return c;
	client_thread_free(c);
	errno = -err;
	return NULL;
}

static void *thread_main(void *arg)
{
	struct clients *c = arg;

	rcu_register_thread();
	loop_run(&c->loop);
	rcu_unregister_thread();
	return NULL;
}

int client_thread_start(struct clients *c)
{
	int err = pthread_create(&c->thread, NULL, thread_main, c);

	if (err)
		return -err;
	c->started = true;
	pthread_setname_np(c->thread, "ksmd-client");
	return 0;
}

void client_thread_stop(struct clients *c)
{
	struct session *s;

	if (c->started) {
		bell_ring(&c->d->client_bell, CLIENTS_STOP);
		pthread_join(c->thread, NULL);
		c->started = false;
	}
	while ((s = TAILQ_FIRST(&c->all)))
		client_drop(s);
	while (!TAILQ_EMPTY(&c->dead))
		clients_bury(c);
	rcu_barrier(); /* until the engine has let go of every client */
}

void client_thread_free(struct clients *c)
{
	accept_deinit(c);
	bell_deinit(&c->d->client_bell);
	clients_deinit(c);
	free(c);
}

void client_thread_turn(struct clients *c)
{
	loop_turn(&c->loop);
}
