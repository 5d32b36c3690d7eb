/* SPDX-License-Identifier: MIT */
/*
 * main.c - ksmdctl: look at and steer a running ksmd-user over its control socket.
 *
 * Everything shown comes from the tree of the control socket (`ksmdctl ls`), so what this program
 * says, a shell script with socat can say too. It keeps no state. What the daemon shows depends on
 * who asks: everything to operators, to others what is theirs.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/act.h"
#include "tools/ksmdctl/die.h"
#include "tools/ksmdctl/forecast.h"
#include "tools/ksmdctl/kinds.h"
#include "tools/ksmdctl/metrics.h"
#include "tools/ksmdctl/paths.h"
#include "tools/ksmdctl/pool.h"
#include "tools/ksmdctl/status.h"
#include "tools/ksmdctl/top.h"
#include "tools/ksmdctl/why.h"

static const char usage_text[] =
	"usage: ksmdctl [OPTION]... COMMAND\n"
	"\n"
	"  get PATH          show an attribute, for example ksm/pages_sharing\n"
	"  set PATH VALUE    set a knob, for example ksm/run 1\n"
	"  ls [-l] [PATH]    list attributes; help/... explains each. With -l, modes, too:\n"
	"                    0644 a knob, 0444 a counter, 0555 a directory\n"
	"  status            what is saved, how fast, for whom, and what was left out\n"
	"  top               the same, again and again; q or Ctrl-C ends\n"
	"  why PID           what has become of its memory, range by range, and the reasons\n"
	"  estimate PID...   what merging the memory of programs would save; nothing is merged\n"
	"  merge PID         have its memory merged now; with --wait: until that is done\n"
	"  release PID       make its memory private until it is to join, as for a checkpoint\n"
	"  join PID          have a released program come back\n"
	"  help [REASON]     what a reason means and what to do about it\n"
	"  pool [svg]        a map of the pageblocks of frames, or an image of it\n"
	"  metrics [totals]  all that you may see, as OpenMetrics (Prometheus); totals: only\n"
	"                    what tells of no one client, user or domain\n"
	"\n"
	"  --runtime-dir DIR where the daemon is [$KSMD_RUNTIME_DIR, else\n"
	"                    $XDG_RUNTIME_DIR/ksmd-user, else root's in /run/ksmd-user]\n"
	"  --json            get, ls, status, why, estimate: print JSON\n"
	"  -a, --all         why: every range, not just those with most memory\n"
	"  -w, --wait        merge: wait until everything that is there now has been merged\n"
	"  -t, --timeout SEC merge, release, join: wait no longer [30]\n"
	"  -d, --delay SEC   top: seconds between two reports [1]\n"
	"  -n, --count N     top: end after N reports\n"
	"  --help, --version\n"
	"\n"
	"Exit code: 0 done, 1 the daemon refused, 2 wrong usage, 3 no daemon there.\n";

struct options {
	const char *runtime_dir;
	bool json, modes, all, wait;
	double delay, timeout; /* seconds */
	unsigned long count;   /* 0: until told to stop */
};

__attribute__((noreturn)) static void bad_usage(const char *what)
{
	die(EXIT_USAGE, "%s; see ksmdctl --help", what);
}

static double seconds(const char *text, const char *what)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0.01 && v <= 86400))
		bad_usage(what);
	return v;
}

static void parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "all", no_argument, NULL, 'a' },
		{ "wait", no_argument, NULL, 'w' },
		{ "timeout", required_argument, NULL, 't' },
		{ "delay", required_argument, NULL, 'd' },
		{ "count", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "d:n:lawt:", longopts, NULL)) != -1) {
		if (c == 'r') {
			o->runtime_dir = optarg;
		} else if (c == 'j') {
			o->json = true;
		} else if (c == 'd') {
			o->delay = seconds(optarg, "--delay takes seconds, from 0.01 to 86400");
		} else if (c == 't') {
			o->timeout = seconds(optarg, "--timeout takes seconds, from 0.01 to 86400");
		} else if (c == 'w') {
			o->wait = true;
		} else if (c == 'n') {
			o->count = strtoul(optarg, &end, 10);
			if (*optarg < '0' || *optarg > '9' || *end || !o->count)
				bad_usage("--count takes a number above 0");
		} else if (c == 'l') {
			o->modes = true;
		} else if (c == 'a') {
			o->all = true;
		} else if (c == 'h') {
			fputs(usage_text, stdout);
			exit(EXIT_OK);
		} else if (c == 'v') {
			puts("ksmdctl " KSMD_VERSION);
			exit(EXIT_OK);
		} else {
			exit(EXIT_USAGE);
		}
	}
}

/* ---- commands ---- */

static void get(struct talk *c, const struct options *o, char **arg)
{
	cmd_get(c, arg[0], o->json);
}

static void set(struct talk *c, const struct options *o, char **arg)
{
	(void)o;
	cmd_set(c, arg[0], arg[1]);
}

static void ls(struct talk *c, const struct options *o, char **arg)
{
	cmd_ls(c, arg[0], o->modes, o->json);
}

static void status(struct talk *c, const struct options *o, char **arg)
{
	(void)arg;
	cmd_status(c, o->json);
}

static void top(struct talk *c, const struct options *o, char **arg)
{
	(void)arg;
	cmd_top(c, o->delay, o->count);
}

static void metrics(struct talk *c, const struct options *o, char **arg)
{
	(void)o;
	if (arg[0] && strcmp(arg[0], "totals") != 0)
		bad_usage("metrics takes nothing, or totals");
	cmd_metrics(c, arg[0]);
}

static void why(struct talk *c, const struct options *o, char **arg)
{
	cmd_why(c, arg[0], o->all, o->json);
}

static void merge(struct talk *c, const struct options *o, char **arg)
{
	cmd_merge(c, arg[0], o->wait, o->timeout);
}

static void release(struct talk *c, const struct options *o, char **arg)
{
	cmd_release(c, arg[0], o->timeout);
}

static void join(struct talk *c, const struct options *o, char **arg)
{
	cmd_join(c, arg[0], o->timeout);
}

static void estimate(struct talk *c, const struct options *o, char **arg)
{
	(void)c;
	cmd_estimate(arg, o->json);
}

static void pool(struct talk *c, const struct options *o, char **arg)
{
	(void)o;
	if (arg[0] && strcmp(arg[0], "svg") != 0)
		bad_usage("pool takes svg, or nothing");
	cmd_pool(c, arg[0] != NULL);
}

static void help(struct talk *c, const struct options *o, char **arg)
{
	(void)c;
	(void)o;
	cmd_help(arg[0]);
}

static const struct command {
	const char *name;
	int min_args, max_args;
	void (*run)(struct talk *c, const struct options *o, char **arg); /* arg ends with NULL */
} commands[] = {
	{ "get", 1, 1, get },
	{ "set", 2, 2, set },
	{ "ls", 0, 1, ls },
	{ "status", 0, 0, status },
	{ "top", 0, 0, top },
	{ "metrics", 0, 1, metrics },
	{ "why", 1, 1, why },
	{ "help", 0, 1, help },
	{ "pool", 0, 1, pool },
	{ "merge", 1, 1, merge },
	{ "release", 1, 1, release },
	{ "join", 1, 1, join },
	{ "estimate", 1, 1024, estimate },
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	bad_usage("no such command");
}

int main(int argc, char **argv)
{
	struct options o = { .delay = 1, .timeout = 30 };
	const struct command *cmd;
	struct talk c;
	int nr_args;
	bool asks;

	parse_options(argc, argv, &o);
	if (optind == argc)
		bad_usage("no command");
	cmd = find_command(argv[optind]);
	nr_args = argc - optind - 1;
	if (nr_args < cmd->min_args || nr_args > cmd->max_args)
		bad_usage("wrong number of arguments");
	if (o.modes && cmd->run != ls)
		bad_usage("-l goes with ls");
	asks = cmd->run != help && cmd->run != estimate;
	if (asks)
		ctl_open(&c, o.runtime_dir);
	cmd->run(&c, &o, argv + optind + 1);
	if (asks)
		talk_close(&c);
	return fflush(stdout) || ferror(stdout) ? EXIT_REFUSED : EXIT_OK;
}
