/* SPDX-License-Identifier: MIT */
/* session_input.h - what a client says is received, checked for form and order, and handed on. */
#ifndef KSMD_SESSION_INPUT_H
#define KSMD_SESSION_INPUT_H

struct session;

/* Receive and carry out what has come, up to a fair share. Client thread. */
void session_input(struct session *s);

#endif
