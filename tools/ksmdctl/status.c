/* SPDX-License-Identifier: MIT */
/* status.c - see status.h. */
#include "tools/ksmdctl/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/clients.h"
#include "tools/ksmdctl/held_up.h"
#include "tools/ksmdctl/outdated.h"
#include "tools/ksmdctl/sample.h"
#include "tools/ksmdctl/status_json.h"

#define PAGE ((double)KSM_PAGE_SIZE)

/* Bytes for people: three significant figures and a unit. Buffers rotate, for one printf. */
static const char *human(double bytes)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	static char buf[8][32];
	static unsigned int turn;
	char *out = buf[turn++ % 8];
	unsigned int u = 0;

	while ((bytes >= 1024 || bytes <= -1024) && u < 4) {
		bytes /= 1024;
		u++;
	}
	snprintf(out, sizeof(buf[0]), "%.*f %s", u ? 1 : 0, bytes, unit[u]);
	return out;
}

static void print_uptime(int64_t seconds)
{
	printf("up %" PRId64 ":%02d:%02d", seconds / 3600, (int)(seconds / 60 % 60),
	       (int)(seconds % 60));
}

static void print_head(struct talk *c, const struct sample *s)
{
	static const char *const run_name[] = { "stopped, merges are kept", "merging",
						"everything unmerged" };
	char *version = ctl_value(c, "daemon", "version"),
	     *domain = ctl_value(c, "daemon", "domain_mode");

	printf("ksmd-user %s, process %" PRId64 ", ", version ? version : "?",
	       ctl_number(c, "daemon", "pid"));
	print_uptime(ctl_number(c, "daemon", "uptime"));
	printf(", domains per %s, run %" PRId64 " (%s)\n\n", domain ? domain : "?", s->run,
	       s->run >= 0 && s->run <= 2 ? run_name[s->run] : "?");
	free(version);
	free(domain);
}

/* Bytes of memory that programs could still have, swap included; 0: not known. */
static int64_t available(void)
{
	static const char *const names[] = { "MemAvailable:", "SwapFree:" };
	FILE *f = fopen("/proc/meminfo", "re");
	int64_t kib, sum = 0;
	char line[256], name[64];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %" SCNd64, name, &kib) == 2 &&
		    (!strcmp(name, names[0]) || !strcmp(name, names[1])))
			sum += kib * 1024;
	if (f)
		fclose(f);
	return sum;
}

/*
 * What is shared is promised more than once. A frame goes only when its last page has been
 * written, so until then each of them needs a page of its own besides.
 */
static void print_debt(const struct sample *s)
{
	double debt = (double)s->debt, have = (double)available();

	printf("debt      %s would be needed if all of that were written at once", human(debt));
	if (have > 0)
		printf("; %s are available%s", human(have), debt > have ? ": TOO LITTLE" : "");
	if (s->debt_limit)
		printf("; limit %s%s", human((double)s->debt_limit),
		       s->nr_indebted ? ", REACHED: nothing more is merged" : "");
	putchar('\n');
	if (s->held)
		puts("held      nothing is merged while memory is not short "
		     "(merge_below_available, merge_on_pressure)");
}

static void print_summary(const struct sample *s, const struct rates *r)
{
	printf("saved     %s net: %s of memory less %s of metadata\n", human((double)s->profit),
	       human((double)(s->sharing + s->zero) * PAGE),
	       human((double)(s->sharing + s->zero) * PAGE - (double)s->profit));
	printf("memory    %s there and looked at: %s merged, %s unique so far, %s changing\n",
	       human((double)(s->tracked - s->zero) * PAGE),
	       human((double)(s->shared + s->sharing) * PAGE), human((double)s->unshared * PAGE),
	       human((double)s->unstable * PAGE));
	print_debt(s);
	printf("cost      %.1f %% of a CPU to scan, %.1f s so far; %.1f s in agents; ",
	       r->cpu_percent, (double)s->cpu_ns / 1e9, (double)s->agent_ns / 1e9);
	printf("%" PRId64 " mappings\n", s->added_vmas);
	printf("pages     %" PRId64 " shared, %" PRId64 " sharing, %" PRId64 " unshared, %" PRId64
	       " volatile, %" PRId64 " zero\n",
	       s->shared, s->sharing, s->unshared, s->unstable, s->zero);
	printf("frames    %" PRId64 " used, %" PRId64 " retired; %" PRId64
	       " merged pages written since\n",
	       s->frames_used, s->frames_retired, s->cow_breaks);
	printf("scanning  %.0f pages/s read, %.0f pages/s merged, %" PRId64 " full scans\n",
	       r->scanned, r->merged, s->full_scans);
}

/* "pinned 3.0 MiB, stack 16.0 KiB": the reasons that apply. */
static void print_left_out(struct talk *c, const char *dir)
{
	int64_t pages[KSM_LEFT_NR];
	bool any = false;

	if (!left_out_pages(c, dir, pages))
		return;
	for (int i = 0; i < KSM_LEFT_NR; i++) {
		if (!pages[i])
			continue;
		printf("%s%s %s", any ? ", " : "", left_out_name(i),
		       human((double)pages[i] * PAGE));
		any = true;
	}
	if (!any)
		fputs("nothing", stdout);
}

/* OFFERED is the memory that is there. The address space may be a thousand times as much. */
static void print_client(struct talk *c, const char *dir, bool first)
{
	char *comm = ctl_value(c, dir, "comm");

	if (!comm)
		return;
	if (first)
		printf("\n%7s %-15s %6s %10s %10s %10s %8s %8s  %s\n", "PID", "PROGRAM", "UID",
		       "OFFERED", "MERGED", "PROFIT", "MAPPINGS", "CPU", "LEFT OUT");
	printf("%7s %-15.15s %6" PRId64 " %10s %10s %10s %8" PRId64 " %6.1f s  ",
	       strchr(dir, '/') + 1, comm, ctl_number(c, dir, "uid"),
	       human((double)ctl_number(c, dir, "ksm_rmap_items") * PAGE),
	       human((double)(ctl_number(c, dir, "ksm_merging_pages") +
			      ctl_number(c, dir, "ksm_zero_pages")) *
		     PAGE),
	       human((double)ctl_number(c, dir, "ksm_process_profit")),
	       ctl_number(c, dir, "nr_vmas"), (double)ctl_number(c, dir, "agent_cpu_ns") / 1e9);
	if (ctl_number(c, dir, "stalled"))
		fputs("STALLED; ", stdout);
	print_left_out(c, dir);
	putchar('\n');
	free(comm);
}

void print_status(struct talk *c, const struct sample *s, const struct rates *r, int max)
{
	print_head(c, s);
	if (s->whole) {
		print_summary(s, r);
		fputs("left out  ", stdout);
		print_left_out(c, "ksm");
		putchar('\n');
		print_held_up(c);
		print_outdated(c);
		printf("clients   %" PRId64 "\n", s->clients);
	} else {
		puts("what is saved and left out in all, and other users' clients, are shown to "
		     "root,\nthe daemon's user and members of its --admin-group");
		printf("clients   %" PRId64 ", of which yours:\n", s->clients);
	}
	each_client(c, print_client, max);
	if (s->clients)
		puts("\nksmdctl why PID says more of a client, ksmdctl help REASON of a reason");
}

void cmd_status(struct talk *c, bool json)
{
	struct sample a, b;
	struct rates r;

	take_sample(c, &a);
	/* A rate needs time to pass. */
	nanosleep(&(struct timespec){ .tv_nsec = RATE_SAMPLE_MS * 1000000l }, NULL);
	take_sample(c, &b);
	r = rates_between(&a, &b);
	if (json)
		json_status(c, b.whole ? &r : NULL);
	else
		print_status(c, &b, &r, INT32_MAX);
}
