/* SPDX-License-Identifier: MIT */
/*
 * held_up.c - see held_up.h.
 *
 * The daemon knows its clients. Of a child that is no client it sees only that somebody still maps
 * a file. Who that is can be read in /proc by whoever may: root, mostly.
 */
#include "tools/ksmdctl/held_up.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/ask.h"
#include "wire/abi.h"

#define LONG_MS 2000 /* a client answers within milliseconds */

/* file: "MAJOR:MINOR INODE", as in the lines of maps. */
static bool maps_file(const char *pid, const char *file)
{
	size_t len = strlen(file), room = 0;
	char path[300], *line = NULL, *at;
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "re");
	while (f && !found && getline(&line, &room, f) > 0) {
		at = strstr(line, file);
		found = at && at > line && at[-1] == ' ' && at[len] == ' ';
	}
	if (f)
		fclose(f);
	free(line);
	return found;
}

/* The name of a process; what could move the cursor of a terminal becomes '?'. */
static void print_process(const char *pid)
{
	char path[300], name[64] = "?";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (f && !fgets(name, sizeof(name), f))
		strcpy(name, "?");
	if (f)
		fclose(f);
	name[strcspn(name, "\n")] = '\0';
	for (char *p = name; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	printf(" %s (%s)", pid, name);
}

/* The clients of a list of pids. False: it is empty. */
static bool print_clients(char *pids)
{
	char *save = NULL;
	bool any = false;

	for (char *p = strtok_r(pids, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
		print_process(p);
		any = true;
	}
	return any;
}

/* Everybody who maps the file. False: nobody that we may look at does. */
static bool print_mappers(const char *file)
{
	DIR *proc = *file ? opendir("/proc") : NULL;
	struct dirent *d;
	bool any = false;

	while (proc && (d = readdir(proc))) {
		if (d->d_name[0] < '0' || d->d_name[0] > '9' || !maps_file(d->d_name, file))
			continue;
		print_process(d->d_name);
		any = true;
	}
	if (proc)
		closedir(proc);
	return any;
}

static void print_domain(struct talk *c, const char *dir)
{
	int64_t waited = ctl_number(c, dir, "waited_ms");
	int64_t retired = ctl_number(c, dir, "frames_retired");
	char *by, *file;

	if (waited < LONG_MS || !retired)
		return;
	by = ctl_value(c, dir, "held_up_by");
	file = ctl_value(c, dir, "waits_for");
	printf("held up   %s: %" PRId64 " frames (%" PRId64 " KiB) for %" PRId64 " s by", dir,
	       retired, retired * (int64_t)KSM_PAGE_SIZE / 1024, waited / 1000);
	if (!(by && print_clients(by)) && !(file && print_mappers(file)))
		fputs(" a process that you may not look at", stdout);
	putchar('\n');
	free(by);
	free(file);
}

void print_held_up(struct talk *c)
{
	char *body = ctl_ask(c, "ls domain"), *save = NULL, dir[64];

	for (char *n = strtok_r(body, "\n/", &save); n; n = strtok_r(NULL, "\n/", &save)) {
		snprintf(dir, sizeof(dir), "domain/%s", n);
		print_domain(c, dir);
	}
	free(body);
}
