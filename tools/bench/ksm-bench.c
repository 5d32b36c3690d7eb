/* SPDX-License-Identifier: MIT */
/*
 * ksm-bench - measure page deduplication: the command line.
 *
 * `ksm-bench kernel` runs workloads on the kernel's KSM and on ksmd-user in turn (turns.c). It
 * changes knobs that are the machine's. So a lock keeps any other ksm-bench away, signals only set
 * a flag, and this file puts the knobs back at the end. kernel.c says what happens on SIGKILL.
 */
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "costs.h"
#include "kernel.h"
#include "lock.h"
#include "message.h"
#include "report.h"
#include "stop.h"
#include "turns.h"
#include "tenant.h"
#include "workload.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INCOMPLETE = 3 };

static const char usage_text[] =
	"Usage: ksm-bench kernel [--workload NAME[,NAME...]|all] [--size MiB]\n"
	"                        [--processes N] [--rounds N] [--smart-scan 0|1]\n"
	"                        [--only kernel|ksmd-user] [--limit SECONDS]\n"
	"                        [--merge-only] [--json]\n"
	"       ksm-bench growth [--size MiB] [--rounds N] [--limit SECONDS] [--json]\n"
	"       ksm-bench report [FILE...] [--summary|--figures] [--svg FILE]\n"
	"                        [--update FILE.md]\n"
	"       ksm-bench costs\n"
	"       ksm-bench restore\n\n"
	"kernel   compare with the kernel's KSM; needs root, because the kernel's knobs\n"
	"         are the machine's (they are put back afterwards). --only ksmd-user\n"
	"         needs no root. --size is that of each process. --json: one line for\n"
	"         each workload on standard output. --merge-only: end when all is merged\n"
	"         (for profiles).\n"
	"growth   workload growth on ksmd-user alone; --size: of each process, in the\n"
	"         large case.\n"
	"report   Markdown tables, and a plot, of what --json wrote.\n"
	"costs    what this machine asks for the steps that any merge is made of.\n"
	"restore  put the kernel's knobs back after a run was killed with its watchdog\n"
	"         (the next run does that, too).\n\nWorkloads:\n";

static void usage(FILE *f)
{
	fputs(usage_text, f);
	for (const struct workload *w = workloads; w->name; w++)
		fprintf(f, "  %-10s %s (%u x %u MiB)\n", w->name, w->what, w->processes,
			w->size_mib);
}

/* Options that take a number, and where it goes. */
static const struct number {
	const char *option;
	unsigned int min, max;
	size_t at; /* in struct bench_config */
} numbers[] = {
	{ "size", 1, 1 << 20, offsetof(struct bench_config, size_mib) },
	{ "processes", 1, BENCH_MAX_PROCESSES, offsetof(struct bench_config, processes) },
	{ "rounds", 1, BENCH_MAX_ROUNDS, offsetof(struct bench_config, rounds) },
	{ "smart-scan", 0, 1, offsetof(struct bench_config, smart_scan) },
	{ "limit", 1, 10 * BENCH_LIMIT_S, offsetof(struct bench_config, limit_s) },
};

static int number(const struct number *n, const char *text, struct bench_config *cfg)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end || end == text || *text == '-' || v < n->min || v > n->max) {
		complain("--%s takes a number from %u to %u, not \"%s\"", n->option, n->min, n->max,
			 text);
		return -EINVAL;
	}
	memcpy((char *)cfg + n->at, &(int){ (int)v }, sizeof(int));
	return 0;
}

static int parse_side(struct bench_config *cfg, const char *name)
{
	for (int s = 0; s < SIDE_NR; s++)
		cfg->side[s] = !strcmp(name, side_name[s]);
	if (cfg->side[SIDE_KERNEL] || cfg->side[SIDE_USER])
		return 0;
	complain("--only takes kernel or ksmd-user, not \"%s\"", name);
	return -EINVAL;
}

static int parse(int argc, char **argv, struct bench_config *cfg, const char **names)
{
	/* The numbers by their places in numbers[]. */
	static const struct option options[] = {
		{ "size", required_argument, NULL, 0 },
		{ "processes", required_argument, NULL, 1 },
		{ "rounds", required_argument, NULL, 2 },
		{ "smart-scan", required_argument, NULL, 3 },
		{ "limit", required_argument, NULL, 4 },
		{ "workload", required_argument, NULL, 'w' },
		{ "only", required_argument, NULL, 'o' },
		{ "json", no_argument, NULL, 'j' },
		{ "merge-only", no_argument, NULL, 'M' },
		{ NULL, 0, NULL, 0 },
	};
	int c, err = 0;

	while (!err && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c < (int)(sizeof(numbers) / sizeof(numbers[0])))
			err = number(&numbers[c], optarg, cfg);
		else if (c == 'w')
			*names = optarg;
		else if (c == 'o')
			err = parse_side(cfg, optarg);
		else if (c == 'j')
			cfg->json = true;
		else if (c == 'M')
			cfg->merge_only = true;
		else
			err = -EINVAL;
	}
	if (!err && optind < argc) {
		complain("what is \"%s\"?", argv[optind]);
		err = -EINVAL;
	}
	return err;
}

/* The worse of two errors: -EINTR, which ends everything, then all others, then -ETIME, then 0. */
static int worse(int a, int b)
{
	static const int order[] = { 0, -ETIME };

	if (a == -EINTR || b == -EINTR)
		return -EINTR;
	for (int i = 0; i < 2; i++) {
		if (a == order[i])
			return b;
		if (b == order[i])
			return a;
	}
	return a;
}

/* Where the operator gave no size or number of processes, the workload has one. */
static int run_workload(const struct bench_config *base, const struct workload *w)
{
	struct bench_config cfg = *base;

	cfg.workload = w;
	cfg.size_mib = cfg.size_mib ? cfg.size_mib : w->size_mib;
	cfg.processes = cfg.processes ? cfg.processes : w->processes;
	return turns_run(&cfg);
}

static int run_named(const struct bench_config *cfg, char *names)
{
	char *save = NULL;
	int err = 0;

	if (!strcmp(names, "all")) {
		for (const struct workload *w = workloads; w->name && err != -EINTR; w++)
			err = worse(err, run_workload(cfg, w));
		return err;
	}
	for (char *n = strtok_r(names, ",", &save); n && err != -EINTR;
	     n = strtok_r(NULL, ",", &save))
		err = worse(err, run_workload(cfg, workload_find(n)));
	return err;
}

/* Look at all names before anything starts. */
static int check_names(const char *names)
{
	char *copy = strdup(names), *save = NULL;
	int err = copy ? 0 : -ENOMEM;

	if (copy && strcmp(names, "all") != 0)
		for (char *n = strtok_r(copy, ",", &save); n && !err;
		     n = strtok_r(NULL, ",", &save))
			if (!workload_find(n)) {
				complain("there is no workload \"%s\"", n);
				err = -EINVAL;
			}
	free(copy);
	return err;
}

static int exit_status(int err)
{
	if (bench_stop)
		return 128 + bench_stop;
	if (err == -ETIME)
		return EXIT_INCOMPLETE;
	return err ? EXIT_FAILED : 0;
}

static int kernel_main(int argc, char **argv, bool growth)
{
	struct bench_config cfg = { .rounds = 3, .smart_scan = -1, .limit_s = BENCH_LIMIT_S };
	const char *names = growth ? "growth" : "clones";
	char *copy;
	int err;

	cfg.side[SIDE_KERNEL] = !growth;
	cfg.side[SIDE_USER] = true;
	if (parse(argc, argv, &cfg, &names) || check_names(names)) {
		usage(stderr);
		return EXIT_USAGE;
	}
	stop_catch_signals();
	err = bench_lock();
	if (!err && cfg.side[SIDE_KERNEL])
		err = kernel_knobs_save();
	copy = strdup(names);
	if (!err)
		err = copy ? run_named(&cfg, copy) : -ENOMEM;
	free(copy);
	kernel_knobs_restore();
	return exit_status(err);
}

static int restore_main(void)
{
	int err;

	stop_catch_signals();
	err = bench_lock();
	return exit_status(err ? err : kernel_knobs_recover());
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--tenant"))
		return tenant_main(atoi(argv[2]));
	if (argc >= 2 && !strcmp(argv[1], "kernel"))
		return kernel_main(argc - 1, argv + 1, false);
	if (argc >= 2 && !strcmp(argv[1], "growth"))
		return kernel_main(argc - 1, argv + 1, true);
	if (argc >= 2 && !strcmp(argv[1], "report"))
		return report_exec(argv + 1) ? EXIT_FAILED : 0;
	if (argc == 2 && !strcmp(argv[1], "costs"))
		return costs_print() ? EXIT_FAILURE : EXIT_SUCCESS;
	if (argc == 2 && !strcmp(argv[1], "restore"))
		return restore_main();
	if (argc == 2 && !strcmp(argv[1], "--help")) {
		usage(stdout);
		return 0;
	}
	usage(stderr);
	return EXIT_USAGE;
}
