/* SPDX-License-Identifier: MIT */
/*
 * movable.h - what the owner of something that can be moved owes whoever moves it.
 *
 * In the kernel mover A isolated a page, its owner freed it and cleared "isolated" but not
 * "movable", and mover B isolated it again. So the owner's side is written as a table of
 * operations, movers come through the functions below and no other way, and builds with assertions
 * hold the owner to its duties at every call:
 *
 *	register   what can be moved is movable, from when it is made until it is freed
 *	isolate    marks it isolated and returns true; or returns false, and has changed nothing.
 *	           It is true for what is movable and not isolated, and for nothing else
 *	putback    clears isolated, and leaves it movable unless it is freed with that
 *	release    before it is freed neither is set. An owner that wants to free what is isolated
 *	           leaves it to putback: it clears nothing
 *
 * It knows numbers only. The lock that covers the owner's flags is held by the caller.
 */
#ifndef KSM_MOVABLE_H
#define KSM_MOVABLE_H

#include <stdbool.h>
#include <stdint.h>

struct movable {
	bool movable, isolated;
};

struct movable_ops {
	struct movable (*state)(void *owner, uint32_t n); /* neither, if it is free */
	bool (*isolate)(void *owner, uint32_t n);
	void (*putback)(void *owner, uint32_t n);
};

/* Mover: have it, exactly once. False: another has, or it cannot be moved now. */
bool movable_isolate(const struct movable_ops *ops, void *owner, uint32_t n);
/* Mover: it has it, and gives it up, with what it moved or without. */
void movable_putback(const struct movable_ops *ops, void *owner, uint32_t n);
/* Owner: it is about to be freed. */
void movable_release(const struct movable_ops *ops, void *owner, uint32_t n);

#endif
