/* SPDX-License-Identifier: MIT */
/*
 * smaps.c - see smaps.h.
 *
 * A mapping has a line as in /proc/PID/maps and then lines "Field: value", of which VmFlags is the
 * last (Documentation/filesystems/proc.rst).
 */
#include "tools/memory/smaps.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "wire/abi.h"

#define LINE 8192 /* the path of a file has up to 4096 bytes, escaped */

FILE *smaps_open(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	return fopen(path, "re");
}

/* A program chooses its files' names: what could move the cursor of a terminal becomes '?'. */
static void take_name(struct mapping *m, const char *path)
{
	size_t len = strcspn(path, "\n"), skip = len < sizeof(m->name) ? 0 : len - 40;

	/* The end of a long path says more than its beginning. */
	snprintf(m->name, sizeof(m->name), "%.*s", (int)(len - skip), path + skip);
	for (char *c = m->name; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* What its first line tells. False: that is no such line. */
static bool take_head(struct mapping *m, const char *line)
{
	char prot[5];
	uint64_t inode;
	int at = 0;

	*m = (struct mapping){ 0 };
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64 " %n", &m->start,
		   &m->end, prot, &inode, &at) != 4)
		return false;
	take_name(m, line + at);
	if (prot[3] == 's')
		m->kind = "shared";
	else if (strstr(m->name, KSM_ARENA_NAME))
		m->kind = "merged";
	else if (!strncmp(m->name, "[stack", 6))
		m->kind = "stack";
	else if (inode)
		m->kind = "file";
	else if (prot[0] != 'r' || prot[1] != 'w')
		m->kind = "prot";
	else
		m->kind = "not_offered";
	return true;
}

static void take_flags(struct mapping *m, const char *flags)
{
	static const struct {
		const char *flag, *kind;
	} v[] = { { " ht", "hugetlb" }, { " lo", "mlocked" },     { " wf", "wipeonfork" },
		  { " sl", "sealed" },  { " um", "userfaultfd" }, { " uw", "userfaultfd" } };

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		if (!strcmp(m->kind, "not_offered") && strstr(flags, v[i].flag))
			m->kind = v[i].kind;
}

int smaps_next(FILE *f, struct mapping *m)
{
	char line[LINE];

	do
		if (!fgets(line, sizeof(line), f))
			return 0;
	while (!take_head(m, line));
	while (fgets(line, sizeof(line), f)) {
		uint64_t kib;

		if (sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			m->rss = kib * 1024;
		else if (sscanf(line, "Anonymous: %" SCNu64, &kib) == 1)
			m->anonymous = kib * 1024;
		else if (sscanf(line, "Swap: %" SCNu64, &kib) == 1)
			m->swap = kib * 1024;
		else if (sscanf(line, "ProtectionKey: %" SCNu64, &kib) == 1 && kib &&
			 !strcmp(m->kind, "not_offered"))
			m->kind = "pkey";
		else if (!strncmp(line, "VmFlags:", 8)) {
			take_flags(m, line);
			return 1;
		}
	}
	return 1;
}
