/* SPDX-License-Identifier: MIT */
/*
 * command.h - one line of the control socket, and its answer.
 *
 *	get PATH          ok LENGTH, then the value
 *	set PATH VALUE    ok 0
 *	ls [PATH]         ok LENGTH, then the names
 *	ls -l [PATH]      ok LENGTH, then each name after its mode: "0644 run", "0555 left_out/"
 *	dump PATH         ok LENGTH, then all values of a directory: "run 1", "left_out/stack 16"
 *	do PATH [ARGS]    ok LENGTH, then what the action says
 *	                  error ERRNAME message
 *
 * Everybody may get, ls and dump what attr.h lets them see; only operators may set. An action is
 * for whoever owns its subject, and for operators.
 */
#ifndef KSMD_COMMAND_H
#define KSMD_COMMAND_H

#include <stddef.h>

#include "base/text.h"

#define COMMAND_MAX 4095u /* bytes of a line; the longest command there is needs 100 */

struct attr_tree;
struct attr_viewer;

/*
 * Carry out a line of `v`, any bytes but at most COMMAND_MAX, and append the answer. Returns 0, or
 * an outcome of attr_set(): then nothing is answered yet.
 */
int command_run(const struct attr_tree *t, const struct attr_viewer *v, const char *line,
		size_t len, struct text *answer);
/* Answer a set whose outcome came later, as attr_finish() said it: 0, or -errno and why. */
void command_finished(struct text *answer, int err, const char *why);
/* Answer "error ERRNAME why"; error is a positive errno. */
void command_error(struct text *answer, int error, const char *why);

#endif
