/* SPDX-License-Identifier: MIT */
/*
 * fuzz_control.c - any bytes on the control socket, in any pieces, from several peers.
 *
 * An input is the text that a peer sends. Bytes 1 to 8 are stage directions: another peer, the end
 * of a piece, of the peer's side, time, turns of the threads. A small world stands behind it: two
 * clients with merged memory, so that every path of the tree exists and stores have something to
 * act on.
 *
 * Oracles. While the connection lasts, every line gets exactly one answer, in order, of the form
 * that command.h promises. Strangers can change nothing. No process id reaches anybody but
 * operators and the process's own user. A get after all of it works. Nothing crashes.
 *
 * Seen to fail (a stranger is told of a process) with may_know() of attr.c always true.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OWNER 500 /* of two of the clients, which merge with each other */
#define NEIGHBOUR 700
#define MEMBER 1001 /* of the operators' group */
#define OPERATORS 4242
#define ACTORS 3
#define PEERS 6
static const uid_t uids[PEERS] = { 0, 0, 1000, 0, OWNER, MEMBER };

struct peer {
	struct os_sock *sock;
	bool last_piece_whole; /* ended with a newline */
	uint64_t lines, answers;
	char *out;
	size_t out_len;
	uid_t uid;
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	world_init();
	return 0;
}

static void set_scene(struct world *w, struct actors *as)
{
	as->w = w;
	as->crowd = true;
	for (int nr = 0; nr < ACTORS; nr++) {
		struct actor *a = actor_new(as, nr < 2 ? OWNER : NEIGHBOUR);

		for (unsigned int i = 0; i < 8; i++)
			actor_store(a, i, 100 + i);
		actor_connect(as, a);
	}
	for (int i = 0; i < 5; i++) {
		world_clients(w);
		for (int a = 0; a < ACTORS; a++)
			while (actor_read(as, &as->v[a]))
				;
		world_scan(w, 100, true);
	}
}

/* ---- answers ---- */

static void collect(struct peer *p)
{
	struct os_msg *m;

	while (p->sock && (m = os_peer_recv(p->sock))) {
		p->out = realloc(p->out, p->out_len + m->len);
		memcpy(p->out + p->out_len, m->data, m->len);
		p->out_len += m->len;
		os_msg_free(m);
	}
}

/* One whole answer at the front; its length, or 0. */
static size_t answer_length(const char *s, size_t len)
{
	const char *nl = memchr(s, '\n', len);
	size_t body;
	char line[256];

	if (!nl)
		return 0;
	os_must((size_t)(nl - s) < sizeof(line));
	memcpy(line, s, (size_t)(nl - s));
	line[nl - s] = '\0';
	if (sscanf(line, "ok %zu", &body) == 1)
		return (size_t)(nl + 1 - s) + body <= len ? (size_t)(nl + 1 - s) + body : 0;
	os_must(!strncmp(line, "error E", 7) && strchr(line + 7, ' '), "an answer: %s", line);
	return (size_t)(nl + 1 - s);
}

/*
 * Is a process id of another user's in the answer? A number that has a line of its own may be a
 * knob's value: an operator chose it.
 */
static void must_not_tell(const struct peer *p, const char *s, size_t len)
{
	struct proc **procs;
	unsigned int nr;

	if (p->uid == 0 || p->uid == MEMBER)
		return;
	procs = os_procs(&nr);
	for (unsigned int i = 0; i < nr; i++) {
		char pid[16];
		size_t digits = (size_t)snprintf(pid, sizeof(pid), "%d", procs[i]->pid);
		const char *at = s;

		if (procs[i]->uid == p->uid)
			continue;
		while ((at = memmem(at, (size_t)(s + len - at), pid, digits))) {
			bool begins = at == s || at[-1] == '\n';

			at += digits;
			os_must(begins && at < s + len && *at == '\n', "user %u was told of %s",
				p->uid, pid);
		}
	}
}

static void count_answers(struct peer *p)
{
	size_t at = 0, n;

	collect(p);
	if (!p->out_len)
		return;
	while ((n = answer_length(p->out + at, p->out_len - at))) {
		must_not_tell(p, p->out + at, n);
		at += n;
		p->answers++;
	}
	memmove(p->out, p->out + at, p->out_len - at);
	p->out_len -= at;
}

/* ---- stage ---- */

static void send_piece(struct peer *p, const uint8_t *s, size_t len)
{
	if (!len || !p->sock || p->sock->shut || p->sock->peer_closed)
		return;
	for (size_t i = 0; i < len; i++)
		p->lines += s[i] == '\n';
	os_peer_send(p->sock, s, len, NULL, 0);
}

static void appear(struct world *w, struct peer *p, int nr)
{
	if (p->sock)
		return;
	p->uid = uids[nr];
	p->sock = os_connect(w->control_listen, 4000000 + nr, p->uid, true);
	if (p->sock && p->uid == MEMBER)
		p->sock->group = OPERATORS;
}

static void turn(struct world *w, struct actors *as, struct peer *peers)
{
	world_control(w);
	world_scan(w, 100, true);
	world_clients(w);
	for (int i = 0; i < ACTORS; i++)
		while (as->v[i].proc && actor_read(as, &as->v[i]))
			;
	for (int i = 0; i < PEERS; i++)
		count_answers(&peers[i]);
}

/* A letter of the script below 9. Returns the peer that speaks from now on. */
static int direct(struct world *w, struct actors *as, struct peer *peers, int who, uint8_t what)
{
	switch (what) {
	case 1:
	case 2:
		who = (who + what) % PEERS;
		appear(w, &peers[who], who);
		break;
	case 3:
		turn(w, as, peers);
		break;
	case 4:
		os_advance_ms(20000);
		break;
	case 5:
		if (peers[who].sock)
			peers[who].sock->peer_closed = true;
		break;
	case 6:
		if (peers[who].sock)
			peers[who].sock->room = 1; /* reads slowly */
		break;
	case 7:
		as->faults = true;
		os_fault(3, 1);
		break;
	default:
		actor_hang_up(&as->v[0]);
	}
	return who;
}

static void play(struct world *w, struct actors *as, struct peer *peers, const uint8_t *s,
		 size_t len)
{
	size_t from = 0, at;
	int who = 0;

	appear(w, &peers[0], 0);
	for (at = 0; at <= len; at++) {
		if (at < len && (!s[at] || s[at] > 8))
			continue;
		send_piece(&peers[who], s + from, at - from);
		from = at + 1;
		if (at < len)
			who = direct(w, as, peers, who, s[at]);
	}
}

/* Whether the daemon has input left to read. It takes one piece in a turn. */
static bool unread(const struct peer *peers)
{
	for (int i = 0; i < PEERS; i++) {
		const struct os_sock *s = peers[i].sock;

		if (s && s->in.nr && !s->shut)
			return true;
	}
	return false;
}

static void finish(struct world *w, struct actors *as, struct peer *peers)
{
	uint64_t before = 0, answers = 0;

	/* The first of these while something is read or answered, twenty more for what waits. */
	for (int i = 0, nr = 0; i < 20; i += !unread(peers) && answers == before, nr++) {
		os_must(nr < 100000, "a peer's lines are never read");
		os_advance_ms(100); /* longer, and the idle would be sent away */
		turn(w, as, peers);
		before = answers;
		answers = 0;
		for (int p = 0; p < PEERS; p++)
			answers += peers[p].answers;
	}
	for (int i = 0; i < PEERS; i++) {
		struct peer *p = &peers[i];

		if (!p->sock)
			continue;
		os_must(p->answers <= p->lines + 1, "%lu answers to %lu lines", p->answers,
			p->lines);
		/* One that was not sent away has all its answers. */
		os_must(p->sock->shut || p->answers == p->lines || as->v[0].proc->liar,
			"%lu answers to %lu lines", p->answers, p->lines);
		os_must(p->sock->shut || !p->out_len);
		os_sock_put(p->sock);
		free(p->out);
	}
}

static void must_answer(struct world *w)
{
	static const char ask[] = "get ksm/run\n";
	struct os_sock *s = os_connect(w->control_listen, 4000100, 1000, true);
	struct os_msg *m;

	os_peer_send(s, ask, sizeof(ask) - 1, NULL, 0);
	world_control(w);
	world_control(w);
	m = os_peer_recv(s);
	os_must(m && m->len == 7 && !memcmp(m->data, "ok 2\n", 5));
	os_msg_free(m);
	os_sock_put(s);
	world_control(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer peers[PEERS] = { 0 };
	static struct world w;
	static struct actors as;

	memset(&as, 0, sizeof(as));
	os_reset();
	os_must(world_start(&w, DOMAIN_UID, 2));
	w.d.operators = (struct group_set){ .nr = 1, .gid = { OPERATORS } };
	set_scene(&w, &as);
	play(&w, &as, peers, data, size);
	os_fault(0, 0);
	finish(&w, &as, peers);
	must_answer(&w);
	world_check(&w);
	for (int i = 0; i < MAX_ACTORS; i++)
		if (as.v[i].proc)
			actor_exit(&as.v[i]);
	world_stop(&w);
	return 0;
}
