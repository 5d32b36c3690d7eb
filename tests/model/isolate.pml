/* SPDX-License-Identifier: MIT */
/*
 * isolate.pml - is a frame isolated by one mover at a time? Every interleaving is tried.
 *
 * The real thing: src/engine/stable.c (stable_isolate(), stable_putback()), settle.c (drop_node()),
 * migrate.c. The model has one frame number, the stable node that stands on it, movers, and an
 * owner. That is whoever gives the frame sites and takes them away: clients that merge, write and
 * exit. When the last site has gone the owner frees the frame, and may use the number again for
 * another node. In the kernel mover A isolated a page, the owner freed it and cleared "isolated"
 * but not "movable", and mover B isolated it again.
 *
 * An atomic step is what happens under one hold of the engine lock. What is under way while the
 * lock is free, the copy and the orders, is the gap between two steps of a mover. `life` tells one
 * node on the frame from the next.
 *
 * Asserted: a node is had by one mover at most, and is not freed while one has it; a mover puts
 * back the node that it isolated; in the end a node without sites is gone.
 *
 * With -DBROKEN_x one protection is left out, and an assertion must fail (tests/model/run.sh):
 *	TWICE	a mover takes a node that another has
 *	FREE	the owner frees a node that is isolated
 *	CLEAR	the owner does, and clears "isolated" first, as in the kernel
 *	JOIN	pages join a node that is isolated, and no mover looks again whether some have
 *	STALE	a mover isolates what it looked up under an earlier hold of the lock
 *	TOUCH	nobody looks at a node that was put back, so one without sites stays
 */
#ifndef MOVERS
#define MOVERS 2
#endif
#ifndef LIVES
#define LIVES 3
#endif

bool live = false, isolated = false;
byte sites = 0, life = 0;
byte holders = 0;	   /* movers that believe they have it */
byte done = 0;		   /* movers that have ended */
bool emptied = false;	   /* the mover has seen it without sites */

/* settle.c, at the end of each hold of the lock in which the node was touched. */
inline settle()
{
	if
#ifdef BROKEN_FREE
	:: live && sites == 0 ->
#else
#ifdef BROKEN_CLEAR
	:: live && sites == 0 ->
		isolated = false;
#else
	:: live && sites == 0 && !isolated ->
#endif
#endif
		assert(holders == 0);
		live = false;
	:: else
	fi
}

active [MOVERS] proctype mover()
{
	byte mine;
	bool found;
	byte rounds = 0;

	do
	:: rounds < 2 ->
		rounds++;
		found = false;
#ifdef BROKEN_STALE
		atomic { found = live && !isolated; mine = life }
		atomic {
			if
			:: found ->
				assert(live && life == mine);
				isolated = true;
				holders++;
				assert(holders == 1);
			:: else
			fi
		}
#else
		atomic { /* isolate */
			if
#ifdef BROKEN_TWICE
			:: live ->
#else
			:: live && !isolated ->
#endif
				isolated = true;
				holders++;
				assert(holders == 1);
				mine = life;
				found = true;
				emptied = false;
			:: else
			fi
		}
#endif
		if
		:: found ->
			/* migrate: sites go one by one, or stay. */
			do
			:: atomic { live && sites > 0 -> sites-- }
			:: break
			od;
			atomic { emptied = (sites == 0) }
			atomic { /* putback: it is the same node, and nobody joined an empty one. */
				assert(live && life == mine && isolated);
				assert(!emptied || sites == 0);
				isolated = false;
				holders--;
#ifndef BROKEN_TOUCH
				settle();
#endif
			}
		:: else
		fi
	:: break
	od;
	done++
}

active proctype owner()
{
	do
	:: atomic { /* a new node on the frame */
		!live && life < LIVES ->
		live = true;
		life++;
		sites = 1;
		isolated = false
	}
#ifdef BROKEN_JOIN
	:: atomic { live && sites > 0 && sites < 2 -> sites++ }
	:: atomic { live && isolated && sites == 0 -> sites++ }
#else
	:: atomic { live && !isolated && sites < 2 -> sites++ }
#endif
	:: atomic { live && sites > 0 -> sites--; settle() }
	:: break
	od;
	/* The last clients go. */
	atomic { sites = 0; settle() }
	done == MOVERS;
	assert(!live && !isolated && holders == 0)
}
