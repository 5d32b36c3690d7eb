/* SPDX-License-Identifier: MIT */
/* join.c - see join.h. */
#include "daemon/join.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/container.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/family.h"
#include "daemon/runs_on.h"
#include "daemon/session_send.h"

static int welcome(struct session *s)
{
	int fd = domain_open_sentinel(s->domain), err;

	if (fd < 0)
		return fd;
	s->epoch = domain_epoch(s->domain);
	err = session_send_welcome(s, s->epoch, fd);
	close(fd);
	return err;
}

static void process_ended(struct loop_watch *w, uint32_t events)
{
	(void)events;
	client_drop(container_of(w, struct session, pidfd_watch));
}

/* Its parent is a client: then what the parent was found to be holds for it, too. */
static bool known_family(void *clients, pid_t pid, uint64_t *family)
{
	const struct session *s;

	rcu_read_lock();
	s = clients_find(clients, pid);
	if (s)
		*family = s->family;
	rcu_read_unlock();
	return s;
}

/* From here on the engine knows it; client_drop() undoes it. */
static int enter(struct session *s, const struct ksm_msg_hello *hello)
{
	struct mm_slot *mm;
	int err = loop_watch(&s->clients->loop, &s->pidfd_watch, s->fds[CLIENT_PIDFD], EPOLLIN,
			     process_ended);

	if (err)
		return err;
	mm = engine_mm_new(s->domain->engine, s, s->id);
	if (!mm) {
		loop_unwatch(&s->pidfd_watch);
		return -ENOMEM;
	}
	s->family = family_of(s->pid, known_family, s->clients);
	engine_mm_set_family(mm, s->family);
	engine_mm_set_vmas(mm, hello->nr_vmas, hello->max_map_count);
	/* Before its pages are seen, whose records are to lie there; readers.c looks again. */
	if (s->d->topology->nr_nodes > 1)
		engine_mm_set_reader(mm, runs_on(s->d->topology, s->pid, 1));
	s->mm = mm;
	clients_enter(s);
	return 0;
}

/* The key of the domain that the client is let into. Returns 0, -EDOM (not that one), or -errno. */
static int choose(struct session *s, const char *label, struct identity *id, struct domain_key *key)
{
	struct daemon *d = s->d;
	int err = 0;

	if (*label || domain_mode_looks(d->domains.mode))
		err = identity_look(id, s->sock, &id->cred, &d->witness);
	if (err)
		return err;
	if (!*label)
		domain_key_of(key, d->domains.mode, id, s->id);
	else if (labels_allow(&d->labels, label, id, s->sock))
		domain_key_named(key, label);
	else
		return -EDOM;
	if (key->kind == KIND_ALONE && d->domains.mode != DOMAIN_PROCESS)
		s->clients->alone++;
	return 0;
}

/*
 * Let the client into its domain. A process is in one domain at a time, or pages of one would be
 * offered in the other. A process that lies keeps what it has read; nothing takes that back.
 */
static int join_domain(struct session *s, const char *label)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct domain_key key;
	struct identity id;
	int err = getsockopt(s->sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) ? -errno : 0;

	if (err)
		return err;
	id = identity_unknown(&cred);
	err = choose(s, label, &id, &key);
	if (!err) {
		s->domain = domain_join(&s->d->domains, &key, &id);
		err = s->domain ? 0 : -errno;
	}
	identity_drop(&id);
	return !err && clients_elsewhere(s) ? -EBUSY : err;
}

static int become_client(struct session *s, const struct ksm_msg_hello *hello)
{
	int err;

	s->flags = hello->flags;
	s->max_map_count = hello->max_map_count;
	s->id = s->clients->next_id++;
	s->orders = calloc(ORDERS_REMEMBERED, sizeof(*s->orders));
	if (!s->orders)
		return -ENOMEM;
	err = join_domain(s, hello->domain);
	if (!err)
		err = session_charge_client(s);
	s->account = charge_account(&s->charge);
	if (!err)
		err = enter(s, hello);
	if (!err)
		err = welcome(s);
	if (!err && !session_move(s, SESSION_WELCOME))
		err = -EPROTO;
	return err;
}

/* It asked for these walls, so it is not put into a wider domain instead. */
static void refuse_domain(struct session *s, const char *label)
{
	s->clients->domains_refused++;
	client_fail(s, ERR_NOT_ALLOWED, EDOM, "it may not join the domain %s: see --domains-file",
		    label);
}

/* A program that tries again, as each does, is one. */
static void remember_outdated(struct clients *c, pid_t pid, uint32_t version)
{
	unsigned int i = 0;

	c->other_version++;
	while (i < CLIENTS_OUTDATED && c->outdated[i] >> 32 != (uint32_t)pid)
		i++;
	if (i == CLIENTS_OUTDATED)
		i = c->next_outdated++ % CLIENTS_OUTDATED;
	c->outdated[i] = (uint64_t)(uint32_t)pid << 32 | version;
}

void join_other_version(struct session *s, uint32_t version)
{
	remember_outdated(s->clients, s->pid, version);
	client_fail(s, ERR_PROTOCOL, EPROTONOSUPPORT,
		    "its libksm speaks version %u, this daemon only %u: start it again with the "
		    "libksm of this daemon",
		    version, KSM_WIRE_VERSION);
}

bool join_hello(struct session *s, const struct ksm_msg_hello *hello, const int *fds, int nr_fds,
		bool more)
{
	char why[100];
	int err;

	if (!ksm_label_field_valid(hello->domain)) {
		client_fail(s, ERR_PROTOCOL, EINVAL, "the domain that it asks for is no label");
		return false;
	}
	if (nr_fds != CLIENT_FDS_NR || more) {
		client_fail(s, ERR_DESCRIPTORS, EBADF,
			    "need three descriptors: pidfd, pagemap and mem; got %d%s", nr_fds,
			    more ? " and more" : "");
		return false;
	}
	err = client_fds_check(fds, s->pid, why, sizeof(why));
	if (err) {
		client_fail(s,
			    err == -EBADF ? ERR_DESCRIPTORS :
			    err == -ESRCH ? ERR_ENDED :
					    ERR_RESOURCES,
			    -err, "%s", why);
		return false;
	}
	memcpy(s->fds, fds, sizeof(s->fds));
	err = become_client(s, hello);
	if (err == -EDOM)
		refuse_domain(s, hello->domain);
	else if (err)
		client_fail(s, err == -EPIPE || err == -ESRCH ? ERR_ENDED : ERR_RESOURCES, -err,
			    "cannot take another client: %s", strerror(-err));
	return true;
}

void join_ready(struct session *s, const union ksm_msg *msg)
{
	(void)msg;
	if (!session_move(s, SESSION_READY)) {
		client_fail(s, ERR_PROTOCOL, EPROTO, "cannot get ready now");
		return;
	}
	clients_finished(s);
	s->epoch_done = s->epoch;
	/* It may have missed the beginning of an epoch while it was getting ready. */
	session_want(s, s->epoch != domain_epoch(s->domain) ? WANT_EPOCH : 0);
	log_msg(LOG_DEBUG, "client %d of user %u in domain %u", (int)s->pid, s->uid, s->domain->id);
}
