/* SPDX-License-Identifier: MIT */
/*
 * requests.c - what the Python program asks for, and the answers.
 *
 * A request is one packet. Its answer is lines of text; the last is "end" and 0 or a negative
 * errno, among them -EINTR when the operator asked to stop, and -ETIME when something did not come
 * to its end, and nothing else is wrong.
 *
 * "begin SIDES" waits for the machine's lock; with "both" it keeps the kernel's knobs, too.
 *
 * "measure", followed by side, extent, contents, manner, MiB, processes, smart_scan, limit and
 * max_map_count, is one round. The extent is "all", or "merge" to end when all is merged; contents
 * and manner are those of workload.h. Lines of round.h say what the round gave.
 */
#include "requests.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "kernel.h"
#include "lock.h"
#include "measure.h"
#include "message.h"
#include "round.h"
#include "side.h"
#include "stop.h"

/* Place of a word among `nr`; -1 when it is none of them. */
static int place(const char *word, const char *const words[], int nr)
{
	while (--nr >= 0 && strcmp(word, words[nr]) != 0)
		;
	return nr;
}

static int begin(const char *sides)
{
	int err = bench_lock();

	return err || strcmp(sides, "both") != 0 ? err : kernel_knobs_save();
}

static int measure(const char *what, FILE *to)
{
	struct bench_config cfg = { .smart_scan = -1 };
	struct round out = { .to = to };
	char side[16], extent[16], contents[16], manner[16];
	int s, c, m;

	if (sscanf(what, "%15s %15s %15s %15s %u %u %d %u %u", side, extent, contents, manner,
		   &cfg.size_mib, &cfg.processes, &cfg.smart_scan, &cfg.limit_s,
		   &cfg.max_map_count) != 9)
		return -EINVAL;
	s = place(side, side_name, SIDE_NR);
	c = place(contents, contents_name, CONTENTS_NR);
	m = place(manner, manner_name, MANNER_NR);
	if (s < 0 || c < 0 || m < 0 || !cfg.processes || cfg.processes > BENCH_MAX_PROCESSES ||
	    cfg.limit_s > BENCH_MAX_LIMIT_S)
		return -EINVAL;
	cfg.workload = (struct workload){ (enum contents)c, (enum manner)m };
	return strcmp(extent, "merge") ? measure_round(&cfg, s, &out) : measure_cost(&cfg, s, &out);
}

/* A signal ends recv(), too, and the program must still be able to say what it has so far. */
void requests_serve(int fd)
{
	FILE *to = fdopen(fd, "w");
	char line[256], verb[16];
	int at = 0, err;
	ssize_t n;

	stop_at_hangup(fd);
	while (to && ((n = recv(fd, line, sizeof(line) - 1, 0)) > 0 || (n < 0 && errno == EINTR))) {
		if (n < 0)
			continue;
		line[n] = 0;
		err = -EINVAL;
		if (sscanf(line, "%15s %n", verb, &at) != 1)
			complain("no request: %s", line);
		else if (!strcmp(verb, "begin"))
			err = begin(line + at);
		else if (!strcmp(verb, "measure"))
			err = measure(line + at, to);
		fprintf(to, "end %d\n", bench_stop ? -EINTR : err);
		fflush(to);
	}
	stop_at_hangup(-1);
	if (to)
		fclose(to);
	else
		close(fd);
}
