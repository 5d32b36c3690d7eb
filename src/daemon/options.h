/* SPDX-License-Identifier: MIT */
/* options.h - the daemon's command line. */
#ifndef KSMD_OPTIONS_H
#define KSMD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/domain.h"
#include "daemon/peer.h"

#define ARENA_LIMIT_AUTO UINT64_MAX

struct options {
	const char *runtime_dir; /* NULL: the default */
	const char *topology;
	enum domain_mode domain;
	const char *domains_file; /* who may join which named domain */
	uint64_t arena_limit;     /* bytes; 0: no limit; ARENA_LIMIT_AUTO: by the memory there is */
	const char *pressure;     /* the file that says how much programs wait for memory */
	uint64_t zone_span;       /* bytes of frames of each zone; 0: the default */
	bool guard_frames;        /* a frame is kept empty beside each run of frames */
	uint64_t contig_reserve;  /* bytes of frames of each zone, whole pageblocks */
	/* Besides root and our own user: who may be a client, who may set knobs and see all. */
	struct group_set allowed, operators;
};

/*
 * Fill in what the command line says, defaults for the rest, and set the log level. --help,
 * --version and every mistake end the process, the latter with exit code 2 and a line on stderr.
 */
void options_parse(struct options *o, int argc, char **argv);
/* Frames of --contig-reserve; ends the process unless a zone has more. */
uint32_t options_reserve(const struct options *o, uint32_t zone_frames);
/* End the process because an option has no such value. */
void options_bad_value(const char *option, const char *value) __attribute__((noreturn));
/* The same, with the reason. */
void options_refuse(const char *option, const char *value, const char *why)
	__attribute__((noreturn));

#endif
