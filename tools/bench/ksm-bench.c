/* SPDX-License-Identifier: MIT */
/*
 * ksm-bench - measure page deduplication.
 *
 * `ksm-bench kernel` runs one workload on the kernel's KSM and on ksmd-user in turn, several rounds in one
 * run, so that drift of the machine hits both. A lock makes sure that no other ksm-bench measures
 * or changes the kernel's knobs at the same time. Signals only set a flag; every wait looks at it and unwinds
 * to main(), which restores the knobs. What happens on SIGKILL is in bench_kernel.c.
 *
 * A side that fails in a round, or does not come to its end, is given up for this workload only: what was
 * measured is reported with a note, everything else goes on, and the exit status tells.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INCOMPLETE = 3 };

static void usage(FILE *f)
{
	fputs("Usage: ksm-bench kernel [--workload NAME[,NAME...]|all] [--size MiB] [--processes N]\n"
	      "                        [--rounds N] [--smart-scan 0|1] [--only kernel|ksmd-user]\n"
	      "                        [--limit SECONDS] [--merge-only] [--json]\n"
	      "       ksm-bench growth [--size MiB] [--rounds N] [--limit SECONDS] [--json]\n"
	      "       ksm-bench report [FILE...] [--summary] [--svg FILE] [--update FILE.md]\n"
	      "       ksm-bench costs\n"
	      "       ksm-bench restore\n\n"
	      "kernel   compare with the kernel's KSM; needs root, since the kernel's knobs are the\n"
	      "         machine's (they are put back afterwards). --only ksmd-user needs no root.\n"
	      "         --size is per process. --json: one line per workload on standard output.\n"
	      "         --merge-only: end when all is merged (for profiles).\n"
	      "growth   workload growth on ksmd-user alone; --size: per process, of the large case.\n"
	      "report   Markdown tables, and a plot, of what --json wrote.\n"
	      "costs    what this machine asks for the steps that any merge is made of.\n"
	      "restore  put the kernel's knobs back, should a run have been killed with its watchdog\n"
	      "         (the next run does that, too).\n\nWorkloads:\n",
	      f);
	for (const struct workload *w = workloads; w->name; w++)
		fprintf(f, "  %-10s %s (%u x %u MiB)\n", w->name, w->what, w->processes,
			w->size_mib);
}

static uint64_t started; /* measuring, when the lock was there */

static void on_signal(int sig)
{
	bench_stop = sig;
}

static void catch_signals(void)
{
	static const int sigs[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal };

	for (int i = 0; i < 3; i++)
		sigaction(sigs[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Held until exit, and by the watchdog a little longer. */
static int take_lock(void)
{
	static const char *const dirs[] = { "/run/lock", "/tmp" };
	char path[512];
	int fd = -1;

	for (int i = 0; i < 2 && fd < 0; i++)
		fd = open(bench_place(dirs[i], "ksm-bench.lock", path, sizeof(path)),
			  O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0) {
		complain("%s: %s", path, strerror(errno));
		return -errno;
	}
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	complain("another ksm-bench is at work; waiting for it");
	if (flock(fd, LOCK_EX))
		return bench_stop ? -EINTR : -errno;
	return 0;
}

static int number(const char *option, const char *text, unsigned int min, unsigned int max,
		  unsigned int *value)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end || end == text || *text == '-' || v < min || v > max) {
		complain("%s takes a number from %u to %u, not \"%s\"", option, min, max, text);
		return -EINVAL;
	}
	*value = (unsigned int)v;
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
	static const struct option options[] = {
		{ "workload", required_argument, NULL, 'w' },
		{ "size", required_argument, NULL, 's' },
		{ "processes", required_argument, NULL, 'p' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "smart-scan", required_argument, NULL, 'm' },
		{ "only", required_argument, NULL, 'o' },
		{ "limit", required_argument, NULL, 'l' },
		{ "json", no_argument, NULL, 'j' },
		{ "merge-only", no_argument, NULL, 'M' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned int smart = 0;
	int c, err = 0;

	while (!err && (c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'w':
			*names = optarg;
			break;
		case 's':
			err = number("--size", optarg, 1, 1 << 20, &cfg->size_mib);
			break;
		case 'p':
			err = number("--processes", optarg, 1, BENCH_MAX_PROCESSES,
				     &cfg->processes);
			break;
		case 'r':
			err = number("--rounds", optarg, 1, BENCH_MAX_ROUNDS, &cfg->rounds);
			break;
		case 'm':
			err = number("--smart-scan", optarg, 0, 1, &smart);
			cfg->smart_scan = (int)smart;
			break;
		case 'o':
			err = parse_side(cfg, optarg);
			break;
		case 'l':
			err = number("--limit", optarg, 1, 10 * BENCH_LIMIT_S, &cfg->limit_s);
			break;
		case 'j':
			cfg->json = true;
			break;
		case 'M':
			cfg->merge_only = true;
			break;
		default:
			err = -EINVAL;
		}
	}
	if (!err && optind < argc) {
		complain("what is \"%s\"?", argv[optind]);
		err = -EINVAL;
	}
	return err;
}

static void tell_round(const struct bench_config *cfg, int side, unsigned int round,
		       const struct round *out)
{
	static const enum metric told[] = { M_MERGED_PCT,    M_MERGE_S,       M_CPU_S,
					    M_REST_CPU_MS,   M_SAVED_NET_MIB, M_STORE_P999_US,
					    M_GROW_SIZE_CPU, M_GROW_MANY_CPU };
	static const char *const form[] = { "merged %.1f %%",
					    "in %.3f s",
					    "CPU %.3f s",
					    "a later pass %.3f ms",
					    "%.1f MiB saved net",
					    "99.9 %% of stores below %.0f us",
					    "16 times the size costs %.2f",
					    "many processes %.2f" };
	const char *comma = "";

	fprintf(stderr, "  [%3.0f s] round %u of %u, %-9s: ", (double)(now_ns() - started) / 1e9,
		round + 1, cfg->rounds, side_name[side]);
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		if (isnan(out->value[told[i]]))
			continue;
		fputs(comma, stderr);
		fprintf(stderr, form[i], out->value[told[i]]);
		comma = ", ";
	}
	if (out->value[M_OTHERS_PCT] > BENCH_BUSY_PCT)
		fprintf(stderr, "%sothers used %.0f %% of a CPU", comma, out->value[M_OTHERS_PCT]);
	fprintf(stderr, "%s\n", out->incomplete ? " (not complete)" : "");
}

static int round_on(const struct bench_config *cfg, struct bench_result *r, int side,
		    unsigned int round)
{
	static struct round out;
	char note[BENCH_NOTE];
	int err = cfg->workload->growth ? growth_round(cfg, side, &out) :
		  cfg->merge_only       ? measure_cost(cfg, side, &out) :
					  measure_round(cfg, side, &out);

	tell_round(cfg, side, round, &out);
	if (*out.knobs)
		memcpy(r->knobs[side], out.knobs, KNOBS_TEXT);
	for (int m = 0; m < M_NR; m++) {
		struct series *s = &r->series[side][m];

		s->v[s->nr++] = out.value[m];
	}
	if (out.incomplete) {
		r->incomplete[side] = true;
		snprintf(note, sizeof(note), "round %u: %.200s", round + 1, out.note);
		result_note(r, note);
	}
	return err;
}

/*
 * The sides take turns in going first. A side that failed would most likely do so again, and take
 * its time over it: it gets no further round. Returns the worst error; -ETIME is the mildest.
 */
static int run_rounds(const struct bench_config *cfg, struct bench_result *r)
{
	bool go[SIDE_NR] = { cfg->side[0], cfg->side[1] };
	int worst = 0;

	if (cfg->workload->growth && go[SIDE_USER])
		go[SIDE_KERNEL] = false;
	for (unsigned int round = 0; round < cfg->rounds; round++) {
		for (int i = 0; i < SIDE_NR; i++) {
			int side = (int)(round + (unsigned int)i) % SIDE_NR, err;

			if (!go[side])
				continue;
			err = round_on(cfg, r, side, round);
			if (err == -EINTR)
				return err;
			if (r->incomplete[side])
				go[side] = false;
			if (err && worst != -EIO)
				worst = err == -ETIME ? -ETIME : -EIO;
			if (!err && r->incomplete[side] && !worst)
				worst = -ETIME;
		}
	}
	return worst;
}

static void why_skipped(const struct bench_config *cfg, char why[BENCH_NOTE])
{
	uint64_t need = workload_bytes(cfg->workload, cfg->processes, cfg->size_mib),
		 have = memory_available();
	const char *missing = cfg->workload->real ? real_missing(cfg) : NULL;

	if (missing)
		snprintf(why, BENCH_NOTE, "%s", missing);
	else if (need > have)
		snprintf(why, BENCH_NOTE, "it needs %lu MiB of memory, %lu MiB are available",
			 need >> 20, have >> 20);
}

static void result_init(struct bench_result *r, const struct bench_config *cfg)
{
	time_t now = time(NULL);
	struct tm tm;

	memset(r, 0, sizeof(*r));
	machine_read(&r->machine);
	if (gmtime_r(&now, &tm))
		strftime(r->date, sizeof(r->date), "%Y-%m-%d", &tm);
	snprintf(r->workload, sizeof(r->workload), "%s", cfg->workload->name);
	r->size_mib = cfg->size_mib;
	r->processes = cfg->processes;
	r->rounds = cfg->rounds;
}

static int run_workload(const struct bench_config *base, const struct workload *w)
{
	static struct bench_result r;
	struct bench_config cfg = *base;
	int err = 0;

	cfg.workload = w;
	cfg.size_mib = cfg.size_mib ? cfg.size_mib : w->size_mib;
	cfg.processes = cfg.processes ? cfg.processes : w->processes;
	result_init(&r, &cfg);
	fprintf(stderr, "[%3.0f s] %s (%s): %u x %u MiB, on %s, %s\n",
		(double)(now_ns() - started) / 1e9, w->name, w->what, cfg.processes, cfg.size_mib,
		r.machine.cpu, r.machine.kernel);
	why_skipped(&cfg, r.skipped);
	if (*r.skipped)
		complain("%s: skipped: %s", w->name, r.skipped);
	else
		err = run_rounds(&cfg, &r);
	if (cfg.json)
		report_json(stdout, &r);
	else
		report_markdown(stdout, &r);
	fflush(stdout);
	return err;
}

/* -EINTR ends all; else the worst counts. */
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

/* All names, before anything has been started. */
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
	catch_signals();
	err = take_lock();
	started = now_ns();
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

	catch_signals();
	err = take_lock();
	return exit_status(err ? err : kernel_knobs_recover());
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--worker"))
		return worker_main(atoi(argv[2]));
	if (argc >= 2 && !strcmp(argv[1], "kernel"))
		return kernel_main(argc - 1, argv + 1, false);
	if (argc >= 2 && !strcmp(argv[1], "growth"))
		return kernel_main(argc - 1, argv + 1, true);
	if (argc >= 2 && !strcmp(argv[1], "report"))
		return report_main(argc - 1, argv + 1);
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
