/* SPDX-License-Identifier: MIT */
/*
 * ksm-bench - measure page deduplication.
 *
 * `ksm-bench kernel` runs one workload on the kernel's KSM and on ksmd-user in turn, several rounds in one
 * run, so that drift of the machine hits both. A lock makes sure that no other ksm-bench measures
 * or changes the kernel's knobs at the same time. Signals only set a flag; every wait looks at it and unwinds
 * to main(), which restores the knobs. What happens on SIGKILL is in bench_kernel.c.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static void usage(FILE *f)
{
	fputs("Usage: ksm-bench kernel [--workload NAME[,NAME...]|all] [--size MiB] [--processes N]\n"
	      "                        [--rounds N] [--smart-scan 0|1] [--only kernel|ksmd-user] [--json]\n"
	      "       ksm-bench report [FILE.json] [--svg FILE]\n\n"
	      "kernel   compare with the kernel's KSM; needs root, since the kernel's knobs are the\n"
	      "         machine's (they are put back afterwards). --only ksmd-user needs no root.\n"
	      "         --size is per process. --json: one line per workload on standard output.\n"
	      "report   Markdown tables, and a plot, of what --json wrote.\n\nWorkloads:\n",
	      f);
	for (const struct workload *w = workloads; w->name; w++)
		fprintf(f, "  %-10s %s (%u x %u MiB)\n", w->name, w->what, w->processes,
			w->size_mib);
}

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
	static const char *const paths[] = { "/run/lock/ksm-bench.lock", "/tmp/ksm-bench.lock" };
	int fd = -1;

	for (int i = 0; i < 2 && fd < 0; i++)
		fd = open(paths[i], O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
	if (fd < 0) {
		complain("%s: %s", paths[1], strerror(errno));
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
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned int smart;
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
		case 'j':
			cfg->json = true;
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

static void tell_round(int side, unsigned int round, const double v[M_NR])
{
	fprintf(stderr,
		"  round %u, %-9s: merged %.1f %% in %.3f s with %.3f s CPU, a later pass %.3f ms,"
		" %.1f MiB saved net\n",
		round + 1, side_name[side], v[M_MERGED_PCT], v[M_MERGE_S], v[M_CPU_S],
		v[M_REST_CPU_MS], v[M_SAVED_NET_MIB]);
}

/* The sides take turns in going first. */
static int run_rounds(const struct bench_config *cfg, struct bench_result *r)
{
	for (unsigned int round = 0; round < cfg->rounds; round++) {
		for (int i = 0; i < SIDE_NR; i++) {
			int side = (int)(round + (unsigned int)i) % SIDE_NR, err;
			double v[M_NR];

			if (!cfg->side[side])
				continue;
			err = measure_round(cfg, side, v, r->knobs[side]);
			if (err)
				return err;
			tell_round(side, round, v);
			for (int m = 0; m < M_NR; m++) {
				struct series *s = &r->series[side][m];

				s->v[s->nr++] = v[m];
			}
		}
	}
	return 0;
}

static int run_workload(const struct bench_config *base, const struct workload *w)
{
	static struct bench_result r;
	struct bench_config cfg = *base;
	int err;

	memset(&r, 0, sizeof(r));
	cfg.workload = w;
	cfg.size_mib = cfg.size_mib ? cfg.size_mib : w->size_mib;
	cfg.processes = cfg.processes ? cfg.processes : w->processes;
	machine_read(&r.machine);
	snprintf(r.workload, sizeof(r.workload), "%s", w->name);
	r.size_mib = cfg.size_mib;
	r.processes = cfg.processes;
	r.rounds = cfg.rounds;
	fprintf(stderr, "%s (%s): %u x %u MiB, on %s, %s\n", w->name, w->what, cfg.processes,
		cfg.size_mib, r.machine.cpu, r.machine.kernel);
	err = run_rounds(&cfg, &r);
	if (err)
		return err;
	if (cfg.json)
		report_json(stdout, &r);
	else
		report_markdown(stdout, &r);
	fflush(stdout);
	return 0;
}

static int run_named(const struct bench_config *cfg, char *names)
{
	char *save = NULL;
	int err = 0;

	if (!strcmp(names, "all")) {
		for (const struct workload *w = workloads; w->name && !err; w++)
			err = run_workload(cfg, w);
		return err;
	}
	for (char *n = strtok_r(names, ",", &save); n && !err; n = strtok_r(NULL, ",", &save))
		err = run_workload(cfg, workload_find(n));
	return err;
}

/* All names, before anything has been started. */
static int check_names(const char *names)
{
	char *copy = strdup(names), *save = NULL;
	int err = copy ? 0 : -ENOMEM;

	if (copy && strcmp(names, "all"))
		for (char *n = strtok_r(copy, ",", &save); n && !err;
		     n = strtok_r(NULL, ",", &save))
			if (!workload_find(n)) {
				complain("there is no workload \"%s\"", n);
				err = -EINVAL;
			}
	free(copy);
	return err;
}

static int kernel_main(int argc, char **argv)
{
	struct bench_config cfg = { .rounds = 3, .smart_scan = -1, .side = { true, true } };
	const char *names = "clones";
	char *copy;
	int err;

	if (parse(argc, argv, &cfg, &names) || check_names(names)) {
		usage(stderr);
		return 2;
	}
	catch_signals();
	err = take_lock();
	if (!err && cfg.side[SIDE_KERNEL])
		err = kernel_knobs_save();
	copy = strdup(names);
	if (!err)
		err = copy ? run_named(&cfg, copy) : -ENOMEM;
	free(copy);
	kernel_knobs_restore();
	if (bench_stop)
		return 128 + bench_stop;
	return err ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--worker"))
		return worker_main(atoi(argv[2]));
	if (argc >= 2 && !strcmp(argv[1], "kernel"))
		return kernel_main(argc - 1, argv + 1);
	if (argc >= 2 && !strcmp(argv[1], "report"))
		return report_main(argc - 1, argv + 1);
	if (argc == 2 && !strcmp(argv[1], "--help")) {
		usage(stdout);
		return 0;
	}
	usage(stderr);
	return 2;
}
