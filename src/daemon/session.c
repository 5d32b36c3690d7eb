/* SPDX-License-Identifier: MIT */
/*
 * session.c - connections from accept to release. See session.h, session_priv.h.
 *
 * Strangers first. Anyone may connect, say nothing, and do so a thousand times. A connection that is
 * not READY within five seconds is dropped, and of one user's unfinished ones the oldest gives way to
 * the newest, so that however many there are, a client that does speak is served. They cost a
 * descriptor and 600 bytes each.
 *
 * Death. The end of the connection and the end of the process (pidfd) both end a session: a process
 * that closed its end on purpose wants no more merging, and a child that inherited the socket must
 * not keep a dead parent's session. What its descendants still map is guarded by the grace period.
 *
 * Dropping during a round of events: the rest of the round may name the session, so it is only marked
 * and put on a list, which is worked off after the round.
 */
#include "daemon/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/session_priv.h"

/* A client that connects and says nothing must not hold a place; one on a loaded machine gets here
 * within milliseconds. */
#define HANDSHAKE_MS 5000
#define MAX_UNFINISHED_PER_UID 256
#define MAX_UNFINISHED 1024
/* Descriptors of a client (socket, pidfd, pagemap, mem), and with a domain of its own its arena and
 * two sentinels, with one to spare. */
#define FDS_PER_CLIENT 8
#define FDS_RESERVED 256   /* control connections, listening sockets, devices */
#define ACCEPT_BATCH 64    /* then others have their turn */
#define GRACE_DELAY_MS 200 /* collect retired frames before asking every client to move on */
#define UNMERGE_TIMEOUT_MS 30000
#define UNMERGE_POLL_MS 500 /* how soon a client that has stalled meanwhile is noticed */
#define EVENTS 128

/* ---- dropping ---- */

static void forget_unfinished(struct session *s)
{
	if (s->state != SESSION_HELLO && s->state != SESSION_WELCOME)
		return;
	TAILQ_REMOVE(&s->owner->unfinished, s, unfinished);
	s->owner->nr_unfinished--;
}

/* Out of the table, the trees and the counters. */
static void leave(struct session *s)
{
	struct sessions *ss = s->owner;

	epoll_ctl(ss->epoll, EPOLL_CTL_DEL, s->fds[CLIENT_PIDFD], NULL);
	rcu_read_lock();
	cds_lfht_del(ss->by_pid, &s->by_pid);
	rcu_read_unlock();
	engine_mm_exit(s->mm);
	ss->nr_clients--;
	sessions_grace_soon(ss);
}

/* Closing with unread messages would make the peer see ECONNRESET instead of our last words. */
static void hang_up(int sock)
{
	char c;

	shutdown(sock, SHUT_RDWR);
	while (recv(sock, &c, 1, MSG_DONTWAIT) > 0)
		;
}

void session_drop(struct session *s)
{
	struct sessions *ss = s->owner;

	if (s->state == SESSION_DEAD)
		return;
	forget_unfinished(s);
	s->state = SESSION_DEAD;
	epoll_ctl(ss->epoll, EPOLL_CTL_DEL, s->sock, NULL);
	hang_up(s->sock);
	if (s->mm)
		leave(s);
	if (s->unmerge_awaited) {
		s->unmerge_awaited = false;
		ss->nr_unmerge_awaited--;
		ss->unmerge_due_ms = 0;
	}
	TAILQ_REMOVE(&ss->all, s, link);
	TAILQ_INSERT_TAIL(&ss->dead, s, link);
}

void session_fail(struct session *s, enum error_kind kind, int error, const char *fmt, ...)
{
	char text[116];
	va_list ap;

	if (s->state == SESSION_DEAD)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	session_send_error(s, error, text);
	if (kind != ERR_TIMEOUT && kind != ERR_LIMIT && kind != ERR_ENDED)
		s->owner->protocol_errors++;
	log_limited(&s->owner->limit[kind], kind == ERR_ENDED ? KSMD_DEBUG : KSMD_WARNING,
		    "client %d of user %u dropped: %s", (int)s->pid, s->uid, text);
	session_drop(s);
}

static void free_connection(struct session *s)
{
	for (int i = 0; i < CLIENT_FDS_NR; i++)
		if (s->fds[i] >= 0)
			close(s->fds[i]);
	close(s->sock);
	if (s->domain)
		domain_leave(s->domain);
	s->owner->nr_connections--;
	pthread_mutex_destroy(&s->send_lock);
	free(s->orders);
	free(s);
}

static void bury_dead(struct sessions *ss)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&ss->dead))) {
		TAILQ_REMOVE(&ss->dead, s, link);
		if (s->mm)
			mm_put(s->mm); /* client_release does the rest, after readers are done */
		else
			free_connection(s);
	}
}

/* ---- the way to READY ---- */

static unsigned long pid_hash(pid_t pid)
{
	/* Knuth's multiplicative hash: neighbouring pids into different buckets. */
	return (unsigned long)pid * 2654435761ul;
}

/* A descriptor of the domain's current sentinel, in a new epoch if the file is locked against us. */
static int open_sentinel(struct domain *d)
{
	int fd = grace_open_shared(&d->grace), err;

	if (fd != -EWOULDBLOCK)
		return fd;
	err = grace_advance(&d->grace, engine_epoch_advance(d->engine));
	return err ? err : grace_open_shared(&d->grace);
}

static int welcome(struct session *s)
{
	int fd = open_sentinel(s->domain), err;

	if (fd < 0)
		return fd;
	s->epoch = s->domain->grace.current->epoch;
	err = session_send_welcome(s, s->epoch, fd);
	close(fd);
	return err;
}

/* From here on the engine knows it; session_drop() undoes it. */
static int enter(struct session *s, const struct ksm_msg_hello *hello)
{
	struct sessions *ss = s->owner;
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &s->pidfd_source };
	struct mm_slot *mm;

	if (epoll_ctl(ss->epoll, EPOLL_CTL_ADD, s->fds[CLIENT_PIDFD], &ev))
		return -errno;
	mm = engine_mm_new(s->domain->engine, s, s->id);
	if (!mm) {
		epoll_ctl(ss->epoll, EPOLL_CTL_DEL, s->fds[CLIENT_PIDFD], NULL);
		return -ENOMEM;
	}
	ss->nr_clients++;
	engine_mm_set_vmas(mm, hello->nr_vmas, hello->max_map_count);
	s->mm = mm;
	rcu_read_lock();
	cds_lfht_add(ss->by_pid, pid_hash(s->pid), &s->by_pid);
	rcu_read_unlock();
	return 0;
}

int session_become_client(struct session *s, const struct ksm_msg_hello *hello)
{
	struct sessions *ss = s->owner;
	int err;

	s->flags = hello->flags;
	s->own_vmas = hello->nr_vmas;
	s->max_map_count = hello->max_map_count;
	s->id = ss->next_id++;
	s->orders = calloc(ORDER_SLOTS, sizeof(*s->orders));
	if (!s->orders)
		return -ENOMEM;
	s->domain = domain_join(&ss->d->domains, s->uid, s->id);
	if (!s->domain)
		return -errno;
	err = enter(s, hello);
	if (!err)
		err = welcome(s);
	if (!err)
		s->state = SESSION_WELCOME;
	return err;
}

void session_become_ready(struct session *s)
{
	forget_unfinished(s);
	s->state = SESSION_READY;
	s->epoch_done = s->epoch;
	/* It may have missed the beginning of an epoch while it was getting ready. */
	if (s->epoch != s->domain->grace.current->epoch)
		s->want |= WANT_EPOCH;
	session_flush(s);
	log_msg(KSMD_DEBUG, "client %d of user %u in domain %u", (int)s->pid, s->uid,
		s->domain->id);
}

/* ---- accepting ---- */

/* The oldest unfinished connection of this user when it has too many, or of anybody. */
static struct session *unfinished_to_evict(struct sessions *ss, uid_t uid)
{
	struct session *s, *oldest = NULL;
	unsigned int nr = 0;

	TAILQ_FOREACH(s, &ss->unfinished, unfinished)
	{
		if (s->uid != uid)
			continue;
		nr++;
		if (!oldest)
			oldest = s;
	}
	if (nr >= MAX_UNFINISHED_PER_UID)
		return oldest;
	return ss->nr_unfinished >= MAX_UNFINISHED ? TAILQ_FIRST(&ss->unfinished) : NULL;
}

/* Turn a peer away before it costs anything. */
static void refuse(struct sessions *ss, int sock, int error, const char *text)
{
	struct ksm_msg_error msg = { .hdr = { KSM_MSG_ERROR, sizeof(msg) }, .error = error };

	snprintf(msg.text, sizeof(msg.text), "%s", text);
	send(sock, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL);
	log_limited(&ss->limit[ERR_LIMIT], KSMD_WARNING, "connection refused: %s", text);
	hang_up(sock);
	close(sock);
}

static struct session *session_new(struct sessions *ss, int sock, const struct ucred *peer)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->owner = ss;
	s->state = SESSION_HELLO;
	s->sock = sock;
	s->pid = peer->pid;
	s->uid = peer->uid;
	for (int i = 0; i < CLIENT_FDS_NR; i++)
		s->fds[i] = -1;
	s->sock_source = (struct source){ SOURCE_SOCKET, s };
	s->pidfd_source = (struct source){ SOURCE_PIDFD, s };
	s->accepted_ms = clock_ms();
	pthread_mutex_init(&s->send_lock, NULL);
	return s;
}

static void admit(struct sessions *ss, int sock)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct session *s;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.pid <= 0) {
		refuse(ss, sock, ESRCH, "your process cannot be seen from here (pid namespace)");
		return;
	}
	if (ss->nr_connections >= ss->max_connections) {
		refuse(ss, sock, EMFILE,
		       "too many clients: raise the daemon's limit of open files");
		return;
	}
	s = unfinished_to_evict(ss, peer.uid);
	if (s)
		session_fail(s, ERR_LIMIT, EAGAIN, "too many unfinished connections");
	s = session_new(ss, sock, &peer);
	if (!s) {
		refuse(ss, sock, ENOMEM, "out of memory");
		return;
	}
	ev.data.ptr = &s->sock_source;
	ss->nr_connections++;
	TAILQ_INSERT_TAIL(&ss->all, s, link);
	TAILQ_INSERT_TAIL(&ss->unfinished, s, unfinished);
	ss->nr_unfinished++;
	if (epoll_ctl(ss->epoll, EPOLL_CTL_ADD, sock, &ev))
		session_fail(s, ERR_LIMIT, errno, "cannot be watched");
}

/* No descriptor left: use the spare one to take the peer off the queue, or it would wake us for
 * ever. */
static void turn_away(struct sessions *ss)
{
	int sock;

	if (ss->spare >= 0) /* it may not have been got back the last time */
		close(ss->spare);
	sock = accept4(ss->listen, NULL, NULL, SOCK_CLOEXEC);
	if (sock >= 0)
		refuse(ss, sock, EMFILE, "the daemon has no descriptors left");
	ss->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void accept_some(struct sessions *ss)
{
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int sock = accept4(ss->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (sock >= 0) {
			admit(ss, sock);
		} else if (errno == EMFILE || errno == ENFILE) {
			turn_away(ss);
		} else if (errno != ECONNABORTED && errno != EINTR) {
			return;
		}
	}
}

static uint64_t drop_silent(struct sessions *ss, uint64_t now)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&ss->unfinished))) {
		if (s->accepted_ms + HANDSHAKE_MS > now)
			return s->accepted_ms + HANDSHAKE_MS;
		session_fail(s, ERR_TIMEOUT, ETIMEDOUT, "handshake not finished within %d ms",
			     HANDSHAKE_MS);
	}
	return CLOCK_NEVER;
}

/* ---- grace periods ---- */

void sessions_grace_soon(struct sessions *ss)
{
	ss->grace_due_ms = clock_min(ss->grace_due_ms, clock_ms() + GRACE_DELAY_MS);
}

/* Ask every client of the domain that has not been asked to move on. */
static void announce_epoch(struct sessions *ss, struct domain *d)
{
	struct session *s;

	TAILQ_FOREACH(s, &ss->all, link)
	{
		if (s->domain != d || s->state != SESSION_READY ||
		    s->epoch >= d->grace.current->epoch)
			continue;
		s->want |= WANT_EPOCH;
		session_flush(s);
	}
}

static bool all_told(struct sessions *ss, const struct domain *d)
{
	const struct session *s;

	TAILQ_FOREACH(s, &ss->all, link)
	{
		if (s->domain == d && s->state == SESSION_READY &&
		    s->epoch < d->grace.current->epoch)
			return false;
	}
	return true;
}

/*
 * A client could not be told when no descriptor was left for its sentinel, or when another had locked
 * the file against us. It would hold up this epoch, and with it all later ones, for ever.
 */
static void announce_again(struct sessions *ss, struct domain *d)
{
	int fd;

	if (all_told(ss, d))
		return;
	fd = grace_open_shared(&d->grace);
	if (fd >= 0)
		close(fd);
	else if (fd == -EWOULDBLOCK && grace_advance(&d->grace, engine_epoch_advance(d->engine)))
		return;
	announce_epoch(ss, d);
}

/*
 * A client unmaps its old sentinel when it is told of an epoch, and what it said before (that pages moved
 * and stand on frames that look retired here) may still lie in its socket. Its answer comes behind that.
 */
static bool all_moved_on(struct sessions *ss, const struct domain *d)
{
	const struct session *s;

	TAILQ_FOREACH(s, &ss->all, link)
	{
		if (s->domain == d && s->state == SESSION_READY &&
		    s->epoch_done < d->grace.current->epoch)
			return false;
	}
	return true;
}

/* Returns when to look again. */
static uint64_t domain_grace(struct sessions *ss, struct domain *d, uint64_t now)
{
	uint64_t upto = all_moved_on(ss, d) ? grace_poll(&d->grace, now) : 0;

	if (upto)
		engine_epoch_free(d->engine, upto);
	if (!TAILQ_EMPTY(&d->grace.old))
		announce_again(ss, d);
	if (!TAILQ_EMPTY(&d->grace.old)) /* an answer wakes us sooner */
		return d->grace.next_poll_ms > now ? d->grace.next_poll_ms : now + GRACE_DELAY_MS;
	if (!engine_nr_retired(d->engine))
		return CLOCK_NEVER;
	if (!grace_may_advance(&d->grace, now))
		return d->grace.next_advance_ms;
	if (grace_advance(&d->grace, engine_epoch_advance(d->engine))) {
		/* No descriptor for a sentinel: the frames stay in the engine's older epoch, and
		 * are freed with the next one that is begun. */
		return now + GRACE_DELAY_MS;
	}
	announce_epoch(ss, d);
	return d->grace.next_poll_ms;
}

static uint64_t run_grace(struct sessions *ss, uint64_t now)
{
	unsigned int nr;
	struct domain **v;

	if (now < ss->grace_due_ms)
		return ss->grace_due_ms;
	ss->grace_due_ms = CLOCK_NEVER;
	v = domain_table_snapshot(&ss->d->domains, &nr);
	for (unsigned int i = 0; i < nr; i++)
		ss->grace_due_ms = clock_min(ss->grace_due_ms, domain_grace(ss, v[i], now));
	domain_snapshot_free(v, nr);
	domain_table_reap(&ss->d->domains); /* the last frames may just have been freed */
	return ss->grace_due_ms;
}

/* ---- unmerging everything ---- */

static void unmerge_finish(struct sessions *ss, int error, int pid)
{
	struct unmerge_job *job = &ss->d->unmerge;
	struct session *s;

	TAILQ_FOREACH(s, &ss->all, link)
	s->unmerge_awaited = false;
	ss->nr_unmerge_awaited = 0;
	job->error = error;
	job->pid = pid;
	if (unmerge_job_move(job, UNMERGE_DONE))
		bell_ring(&ss->d->main_bell, MAIN_UNMERGED);
}

static void unmerge_begin(struct sessions *ss, uint64_t now)
{
	struct session *s;

	ss->d->unmerge.id++;
	ss->nr_unmerge_awaited = 0;
	ss->unmerge_due_ms = 0;
	ss->unmerge_deadline_ms = now + UNMERGE_TIMEOUT_MS;
	unmerge_job_move(&ss->d->unmerge, UNMERGE_WAIT);
	TAILQ_FOREACH(s, &ss->all, link)
	{
		if (s->state != SESSION_READY)
			continue;
		s->unmerge_awaited = true;
		ss->nr_unmerge_awaited++;
		/* One that still owes an answer is not asked twice. */
		if (!s->unmerging)
			s->want |= WANT_UNMERGE;
		session_flush(s);
	}
}

/* Stop waiting for clients that answer nothing; returns the first that is still awaited. */
static struct session *unmerge_awaited(struct sessions *ss)
{
	struct session *s, *first = NULL;

	TAILQ_FOREACH(s, &ss->all, link)
	{
		if (s->unmerge_awaited && session_stalled(s)) {
			s->unmerge_awaited = false;
			ss->nr_unmerge_awaited--;
		}
		if (s->unmerge_awaited && !first)
			first = s;
	}
	return first;
}

/* Returns when to look again. */
static uint64_t run_unmerge(struct sessions *ss, uint64_t now)
{
	struct session *s;

	if (ss->d->unmerge.state == UNMERGE_SEND)
		unmerge_begin(ss, now);
	if (ss->d->unmerge.state != UNMERGE_WAIT)
		return CLOCK_NEVER;
	if (now < ss->unmerge_due_ms)
		return ss->unmerge_due_ms;
	s = unmerge_awaited(ss);
	if (s && now < ss->unmerge_deadline_ms) {
		ss->unmerge_due_ms = now + UNMERGE_POLL_MS;
		return ss->unmerge_due_ms;
	}
	unmerge_finish(ss, s ? ETIMEDOUT : 0, s ? (int)s->pid : 0);
	return CLOCK_NEVER;
}

void session_unmerge_done(struct session *s, int error)
{
	struct sessions *ss = s->owner;

	if (!s->unmerge_awaited)
		return;
	s->unmerge_awaited = false;
	ss->nr_unmerge_awaited--;
	if (error)
		unmerge_finish(ss, error, (int)s->pid);
	else if (ss->nr_unmerge_awaited == 0)
		ss->unmerge_due_ms = 0;
}

/* ---- the thread ---- */

static void handle_event(struct sessions *ss, const struct epoll_event *ev)
{
	struct source *src = ev->data.ptr;

	switch (src->kind) {
	case SOURCE_LISTEN:
		accept_some(ss);
		return;
	case SOURCE_EVENT:
		if (bell_wait(&ss->d->client_bell, 0) & CLIENTS_RETIRED)
			sessions_grace_soon(ss);
		return;
	case SOURCE_PIDFD:
		session_drop(src->session);
		return;
	case SOURCE_SOCKET:
		if (src->session->state == SESSION_DEAD)
			return;
		if (ev->events & EPOLLOUT)
			session_flush(src->session);
		if (ev->events & ~(uint32_t)EPOLLOUT)
			session_input(src->session);
	}
}

uint64_t sessions_round(struct sessions *ss, uint64_t due)
{
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(ss->epoll, ev, EVENTS, clock_timeout(due));
	uint64_t now;

	for (int i = 0; i < n; i++)
		handle_event(ss, &ev[i]);
	now = clock_ms();
	due = drop_silent(ss, now);
	due = clock_min(due, run_unmerge(ss, now));
	due = clock_min(due, run_grace(ss, now));
	bury_dead(ss);
	return due;
}

static void *sessions_main(void *arg)
{
	struct sessions *ss = arg;
	uint64_t due = CLOCK_NEVER;

	rcu_register_thread();
	while (!ss->stop)
		due = sessions_round(ss, due);
	rcu_unregister_thread();
	return NULL;
}

/* ---- views ---- */

uint64_t session_added_vmas(struct session *s, const struct mm_counters *c)
{
	return c->nr_vmas > s->own_vmas ? c->nr_vmas - s->own_vmas : 0;
}

int64_t session_profit(struct session *s, const struct mm_counters *c)
{
	int64_t saved = (int64_t)((c->merging_pages + c->zero_pages) * KSM_PAGE_SIZE);

	return saved - (int64_t)c->metadata_bytes - (int64_t)(session_added_vmas(s, c) * VMA_BYTES);
}

/* Not the list macros of liburcu, which step back from a null pointer at the end. */
static struct session *node_session(struct cds_lfht_node *node)
{
	struct session *s = caa_container_of(node, struct session, by_pid);

	(void)atomic_load_explicit(&s->mm, memory_order_acquire); /* see session_priv.h */
	return s;
}

static int match_pid(struct cds_lfht_node *node, const void *key)
{
	return node_session(node)->pid == *(const pid_t *)key;
}

static void view(struct session *s, struct client_view *v)
{
	memset(v, 0, sizeof(*v));
	v->pid = s->pid;
	v->uid = s->uid;
	v->id = s->id;
	v->domain_id = s->domain->id;
	v->merge_any = s->flags & KSM_INFO_MERGE_ANY;
	v->stalled = session_stalled(s);
	v->own_vmas = s->own_vmas;
	v->max_map_count = s->max_map_count;
	v->agent_cpu_ns = s->agent_cpu_ns;
	v->connected_ms = clock_ms() - s->accepted_ms;
	mm_counters(s->mm, &v->mm);
	for (int i = 0; i < KSM_LEFT_NR; i++)
		v->left_out[i] = v->mm.left_out[i];
	for (int i = 0; i < KSM_LEFT_CLIENT_NR; i++)
		v->left_out[i] += s->left_out[i];
	v->added_vmas = session_added_vmas(s, &v->mm);
	v->profit = session_profit(s, &v->mm);
}

int sessions_view(struct sessions *ss, pid_t pid, struct client_view *v)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;
	int ret = -ENOENT;

	rcu_read_lock();
	cds_lfht_lookup(ss->by_pid, pid_hash(pid), match_pid, &pid, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (node) {
		view(node_session(node), v);
		ret = 0;
	}
	rcu_read_unlock();
	return ret;
}

static int compare_pids(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

pid_t *sessions_pids(struct sessions *ss, unsigned int *nr)
{
	size_t room = ss->nr_clients + 64, found = 0; /* some more may come meanwhile */
	pid_t *v = malloc(room * sizeof(*v));
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	*nr = 0;
	if (!v)
		return NULL;
	rcu_read_lock();
	cds_lfht_for_each(ss->by_pid, &iter, node)
		if (found < room)
			v[found++] = node_session(node)->pid;
	rcu_read_unlock();
	qsort(v, found, sizeof(*v), compare_pids);
	for (size_t i = 0; i < found; i++)
		if (!i || v[i] != v[i - 1])
			v[(*nr)++] = v[i];
	return v;
}

void sessions_stats(struct sessions *ss, struct session_stats *out)
{
	struct cds_lfht_iter iter;
	struct cds_lfht_node *node;

	memset(out, 0, sizeof(*out));
	out->nr_clients = ss->nr_clients;
	out->nr_connections = ss->nr_connections;
	out->protocol_errors = ss->protocol_errors;
	rcu_read_lock();
	cds_lfht_for_each(ss->by_pid, &iter, node) {
		struct session *s = node_session(node);
		struct mm_counters c = { 0 };

		mm_counters(s->mm, &c);
		out->added_vmas += session_added_vmas(s, &c);
		for (int i = 0; i < KSM_LEFT_CLIENT_NR; i++)
			out->left_out[i] += s->left_out[i];
	}
	rcu_read_unlock();
}

/* ---- life ---- */

static int watch(struct sessions *ss, int fd, struct source *src)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = src };

	return epoll_ctl(ss->epoll, EPOLL_CTL_ADD, fd, &ev);
}

struct sessions *sessions_new(struct daemon *d, int listen_fd)
{
	struct sessions *ss = calloc(1, sizeof(*ss));
	struct rlimit nofile = { 0 };
	int err;

	if (!ss) {
		close(listen_fd);
		return NULL;
	}
	TAILQ_INIT(&ss->all);
	TAILQ_INIT(&ss->unfinished);
	TAILQ_INIT(&ss->dead);
	ss->d = d;
	ss->listen = listen_fd;
	ss->next_id = 1;
	ss->grace_due_ms = CLOCK_NEVER;
	ss->listen_source.kind = SOURCE_LISTEN;
	ss->event_source.kind = SOURCE_EVENT;
	getrlimit(RLIMIT_NOFILE, &nofile);
	ss->max_connections =
		nofile.rlim_cur > FDS_RESERVED + FDS_PER_CLIENT ?
			(unsigned int)((nofile.rlim_cur - FDS_RESERVED) / FDS_PER_CLIENT) :
			1;
	ss->epoll = epoll_create1(EPOLL_CLOEXEC);
	err = bell_init(&d->client_bell);
	ss->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ss->by_pid = cds_lfht_new(64, 64, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING, NULL);
	if (ss->epoll >= 0 && !err && ss->spare >= 0 && ss->by_pid &&
	    !watch(ss, ss->listen, &ss->listen_source) &&
	    !watch(ss, d->client_bell.event, &ss->event_source))
		return ss;
	err = errno;
	sessions_free(ss);
	errno = err;
	return NULL;
}

int sessions_start(struct sessions *ss)
{
	int err = pthread_create(&ss->thread, NULL, sessions_main, ss);

	if (err)
		return -err;
	ss->started = true;
	pthread_setname_np(ss->thread, "ksmd-client");
	return 0;
}

void sessions_stop(struct sessions *ss)
{
	struct session *s;

	if (ss->started) {
		ss->stop = true;
		bell_ring(&ss->d->client_bell, CLIENTS_STOP);
		pthread_join(ss->thread, NULL);
		ss->started = false;
	}
	while ((s = TAILQ_FIRST(&ss->all)))
		session_drop(s);
	bury_dead(ss);
	rcu_barrier(); /* until the engine has let go of every client */
}

void sessions_free(struct sessions *ss)
{
	if (ss->by_pid)
		cds_lfht_destroy(ss->by_pid, NULL);
	if (ss->spare >= 0)
		close(ss->spare);
	bell_deinit(&ss->d->client_bell);
	if (ss->epoll >= 0)
		close(ss->epoll);
	close(ss->listen);
	free(ss);
}
