/* SPDX-License-Identifier: MIT */
/*
 * grace.pml - may a frame be given back while some process maps it? Every interleaving is tried.
 *
 * The real thing: docs/design.md ("Order of what the daemon is told", "Grace periods"),
 * src/daemon/grace.c, epochs.c (look()), src/client/connect.c (take_welcome()), sentinel.c
 * (sentinel_epoch(), sentinel_drop_old()). The model has one frame and NPROC processes: clients,
 * children of fork(3) that become clients, children of a raw clone(2) that the daemon never hears
 * of. The daemon punches a freed frame and uses it again; so the one assertion is that no process
 * maps it in that moment.
 *
 * What stands for what:
 *  - messages wait in sockets, in order, as long as they like; each side takes them when it likes;
 *  - a sentinel is held by processes that map it and by messages that carry it (an open file
 *    description in flight keeps its lock);
 *  - a connection may be ended at any time by either side; what the daemon has sent may still be
 *    read after it has forgotten the session;
 *  - an order is fresh as long as the client has said nothing since (the numbers of wire.h, which
 *    only matter for equality);
 *  - a process may change its user: it then connects to a domain that does not know the frame. A
 *    new daemon with a new arena is the same, with nobody left who could free the frame;
 *  - all_moved_on() of epochs.c, which only makes the daemon wait longer, is left out: the scheme
 *    must hold without it;
 *  - epochs may be begun while an older one is not over, as when a client locks a sentinel.
 *
 * Bounds: the number of epochs and of processes, and messages per socket. With -DBROKEN_x one
 * protection is left out, and the assertion must fail (tests/model/run.sh):
 *	GRACE		no grace period: a frame is freed with its last site
 *	INHERIT		a forked child does not hold its parent's sentinels
 *	OLDER		only the epoch in which a frame was retired is waited for, none before it
 *	UNCONFIRMED	a sentinel is dropped when the next comes, not when the daemon has all
 *	STALE		orders are carried out although they are older than the client's last change
 *	EARLY_DROP	a new connection drops the old sentinels before its frames were adopted
 *	FOREIGN		the same for frames that stand in another domain's arena
 *	SWAP		one sentinel is unmapped before the next is mapped; a fork comes between
 */

#ifndef NPROC
#define NPROC 2
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define NOTHING 7 /* no epoch */

mtype = { WELCOME, EPOCH, TXN, STATR, READY, GONE, ADOPT, DONE, STAT };
mtype = { FREE, LIVE, RETIRED };

/* The frame, and the daemon's epochs: those in [oldest, now) are waited for. */
mtype frame = FREE;
byte retired_in = 0, now = 0, oldest = 0;

/* Processes. */
/* moved: to the other domain */
bool alive[NPROC], raw[NPROC], maps[NPROC], conn[NPROC], moved[NPROC];
byte cur[NPROC], old[NPROC]; /* epoch of the newest sentinel; bit set of those of before WELCOME */
byte prev[NPROC];            /* the one before, until the daemon has taken in what was said then */
bool fresh[NPROC];           /* the order under way is up to date */
byte swap[NPROC];            /* BROKEN_SWAP: between unmapping one sentinel and mapping the next */

/* Sessions, as the daemon sees them. */
bool sess[NPROC], ready[NPROC], other[NPROC]; /* other: of the domain without the frame */
/* out: an order is not answered; ordered: and counts */
bool site[NPROC], ordered[NPROC], out[NPROC];
byte told[NPROC];

chan c2d[NPROC] = [3] of { mtype, byte };
chan d2c[NPROC] = [2] of { mtype, byte };
byte inflight[NPROC]; /* bit set of sentinels in d2c */

byte i, e;
bool any;

inline drain(ch)
{
	do
	:: ch?_, _
	:: empty(ch) -> break
	od
}

/* The last site, or order, may have gone. */
inline retire_if_unused()
{
	any = false;
	for (i : 0 .. NPROC - 1) {
		any = any || site[i] || ordered[i]
	}
	if
	:: frame == LIVE && !any ->
#ifdef BROKEN_GRACE
		free_frame()
#else
		frame = RETIRED;
		retired_in = now
#endif
	:: else
	fi
}

inline free_frame()
{
	for (i : 0 .. NPROC - 1) {
		assert(!maps[i])
	}
	frame = FREE;
	retired_in = 0
}

/* any = somebody holds the sentinel of epoch x */
inline held(x)
{
	any = false;
	for (i : 0 .. NPROC - 1) {
		any = any || cur[i] == x || prev[i] == x || (old[i] >> x) & 1 ||
			(inflight[i] >> x) & 1
	}
}

/* ---- daemon ---- */

inline forget_session(p)
{
	drain(c2d[p]);
	sess[p] = false;
	ready[p] = false;
	other[p] = false;
	site[p] = false;
	ordered[p] = false;
	out[p] = false;
	told[p] = 0;
	retire_if_unused()
}

inline daemon_hears(p)
{
	if
	:: c2d[p]?READY, _ -> ready[p] = true
	:: c2d[p]?GONE, _ ->
		/*
		 * With what is known of the range goes the order for it; its answer will be
		 * ignored.
		 */
		site[p] = false;
		ordered[p] = false;
		retire_if_unused()
	:: c2d[p]?ADOPT, _ ->
		if
		:: frame != FREE ->
			frame = LIVE;
			retired_in = 0;
			site[p] = true
		:: else
		fi
	:: c2d[p]?DONE, e ->
		site[p] = site[p] || (ordered[p] && e);
		ordered[p] = false;
		out[p] = false;
		retire_if_unused()
	:: c2d[p]?STAT, e ->
		d2c[p]!STATR, e
	fi;
	e = 0
}

inline daemon_orders(p)
{
	frame = LIVE;
	retired_in = 0;
	ordered[p] = true;
	out[p] = true;
	/* Older than what the client has said meanwhile? */
	fresh[p] = !(c2d[p] ?? [GONE, _]) && !(c2d[p] ?? [ADOPT, _]);
	d2c[p]!TXN, 0
}

inline daemon_announces(p)
{
	told[p] = now;
	inflight[p] = inflight[p] | (1 << now);
	d2c[p]!EPOCH, now
}

/* One old epoch, the oldest first. */
inline daemon_polls()
{
#ifdef BROKEN_OLDER
	held(retired_in);
	if
	:: !any && frame == RETIRED && retired_in < now -> free_frame()
	:: else
	fi;
#endif
	held(oldest);
	if
	:: !any ->
		oldest++;
		if
		:: frame == RETIRED && retired_in < oldest -> free_frame()
		:: else
		fi
	:: else
	fi
}

/* ---- client ---- */

inline hang_up(p)
{
	drain(d2c[p]);
	inflight[p] = 0;
	conn[p] = false;
	fresh[p] = false
}

inline connect(p)
{
	conn[p] = true;
	sess[p] = true;
	other[p] = moved[p];
	told[p] = now;
	if
	:: moved[p] -> d2c[p]!WELCOME, NOTHING
	:: else ->
		inflight[p] = inflight[p] | (1 << now);
		d2c[p]!WELCOME, now
	fi
}

/* The sentinels of before are kept until the daemon has taken in what we stand on. */
inline on_welcome(p)
{
	if
	:: prev[p] != NOTHING -> old[p] = old[p] | (1 << prev[p])
	:: prev[p] == NOTHING && cur[p] != NOTHING -> old[p] = old[p] | (1 << cur[p])
	:: else
	fi;
	prev[p] = NOTHING;
	cur[p] = e;
	if
	:: e != NOTHING -> inflight[p] = inflight[p] & ~(1 << e)
	:: else
	fi;
#ifdef BROKEN_EARLY_DROP
	old[p] = 0;
#endif
	c2d[p]!READY, 0;
	if
	:: maps[p] && e != NOTHING -> c2d[p]!ADOPT, 0
	:: else
	fi;
	if
	:: old[p] -> c2d[p]!STAT, NOTHING
	:: else
	fi
}

/* The older of two that are not confirmed is enough: epochs end in order. */
inline next_sentinel(p, x)
{
#ifndef BROKEN_UNCONFIRMED
	if
	:: prev[p] == NOTHING -> prev[p] = cur[p]
	:: else
	fi;
#endif
	cur[p] = x;
	inflight[p] = inflight[p] & ~(1 << x);
	if
	:: sess[p] ->
#ifndef BROKEN_UNCONFIRMED
		c2d[p]!STAT, x
#else
		skip
#endif
	:: else
	fi
}

inline client_hears(p)
{
	if
	:: d2c[p]?WELCOME, e -> on_welcome(p)
	:: d2c[p]?TXN, _ ->
		if
#ifdef BROKEN_STALE
		:: true ->
#else
		:: fresh[p] ->
#endif
			maps[p] = true;
			c2d[p]!DONE, 1
		:: true -> c2d[p]!DONE, 0 /* contents differ, or it is stale */
		fi;
		fresh[p] = false
	:: d2c[p]?EPOCH, e ->
#ifdef BROKEN_SWAP
		cur[p] = NOTHING;
		swap[p] = e
#else
		next_sentinel(p, e)
#endif
	:: d2c[p]?STATR, e ->
		if
		:: e != NOTHING && e == cur[p] -> prev[p] = NOTHING
		/* An epoch came meanwhile, and another answer will. */
		:: e != NOTHING && e != cur[p] -> skip
#ifdef BROKEN_FOREIGN
		:: e == NOTHING -> old[p] = 0
#else
		:: e == NOTHING && !(maps[p] && cur[p] == NOTHING) -> old[p] = 0
		/* Frames of another arena. */
		:: e == NOTHING && maps[p] && cur[p] == NOTHING -> skip
#endif
		fi
	fi;
	e = 0
}

/* Space for everything that a message can make a client say. */
#define room(p) (len(c2d[p]) == 0)
/* What it has said in a session that is over goes nowhere; nothing is lost by not saying it. */
#define may_say(p) (conn[p] && (room(p) || !sess[p]))

inline say_gone(p)
{
	fresh[p] = false;
	if
	:: sess[p] && ready[p] -> c2d[p]!GONE, 0
	:: else
	fi
}

inline fork(p, q, is_raw)
{
	alive[q] = true;
	raw[q] = is_raw;
	maps[q] = maps[p];
	moved[q] = moved[p];
	cur[q] = NOTHING;
	prev[q] = NOTHING;
#ifndef BROKEN_INHERIT
	old[q] = old[p];
	if
	:: prev[p] != NOTHING -> old[q] = old[q] | (1 << prev[p])
	:: else
	fi;
	if
	:: cur[p] != NOTHING -> old[q] = old[q] | (1 << cur[p])
	:: else
	fi
#endif
}

inline exits(p)
{
	hang_up(p);
	alive[p] = false;
	raw[p] = false;
	maps[p] = false;
	moved[p] = false;
	cur[p] = NOTHING;
	prev[p] = NOTHING;
	old[p] = 0;
	swap[p] = NOTHING
}

/* ---- everything that can happen next ---- */

#define declared(p) (cur[p] != NOTHING)
#define free_slot(q) (!alive[q] && !sess[q])

proctype world()
{
	byte p = 0, q = 0;

	do
	/* daemon */
	:: atomic {
		frame == RETIRED && now < EPOCHS - 1 -> now++
	}
	:: atomic {
		oldest < now -> daemon_polls()
	}
	:: atomic {
		select (p : 0 .. NPROC - 1);
		if
		:: sess[p] && nempty(c2d[p]) && nfull(d2c[p]) -> daemon_hears(p)
		:: sess[p] && ready[p] && !other[p] && !out[p] && !site[p] && frame != RETIRED &&
		   conn[p] && nfull(d2c[p]) -> daemon_orders(p)
		:: sess[p] && ready[p] && !other[p] && told[p] < now && conn[p] && nfull(d2c[p]) ->
			daemon_announces(p)
		/* the connection ended, or the daemon ends it */
		:: sess[p] && (conn[p] || empty(c2d[p])) -> forget_session(p)

		/* client */
		:: swap[p] != NOTHING && may_say(p) ->
			next_sentinel(p, swap[p]);
			swap[p] = NOTHING
		:: swap[p] == NOTHING && may_say(p) && nempty(d2c[p]) ->
			client_hears(p);
			if
			:: !sess[p] -> drain(c2d[p])
			:: else
			fi
		:: swap[p] == NOTHING && conn[p] && !sess[p] && empty(d2c[p]) -> hang_up(p)
		:: swap[p] == NOTHING && alive[p] && !raw[p] && !conn[p] && !sess[p] -> connect(p)
		:: swap[p] == NOTHING && conn[p] -> hang_up(p)
		:: maps[p] -> maps[p] = false /* a store broke copy-on-write */
		:: maps[p] && !raw[p] && conn[p] && declared(p) && may_say(p) ->
			maps[p] = false; /* munmap, MADV_DONTNEED */
			say_gone(p)
		:: maps[p] && !raw[p] && conn[p] && declared(p) && may_say(p) && sess[p] &&
		   ready[p] && !other[p] ->
			say_gone(p); /* mremap: gone there, come here */
			c2d[p]!ADOPT, 0
#ifdef MOVES
		:: alive[p] && !moved[p] && !raw[p] && swap[p] == NOTHING ->
			moved[p] = true;
			if
			:: conn[p] -> hang_up(p)
			:: else
			fi
#endif
		:: alive[p] -> exits(p)
		:: alive[p] ->
			q = (p + 1) % NPROC;
			if
			:: free_slot(q) -> fork(p, q, true)
			:: free_slot(q) -> fork(p, q, false)
			:: else
			fi
		:: else
		fi;
		p = 0;
		q = 0;
		i = 0;
		any = false
	}
	od
}

init
{
	atomic {
		for (i : 0 .. NPROC - 1) {
			cur[i] = NOTHING;
			prev[i] = NOTHING;
			swap[i] = NOTHING
		}
		i = 0;
		alive[0] = true;
		run world()
	}
}
