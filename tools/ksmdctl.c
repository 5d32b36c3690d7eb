/* SPDX-License-Identifier: MIT */
/*
 * ksmdctl.c - look at and steer a running ksmd-user over its control socket.
 *
 * Everything shown comes from the tree of the control socket (`ksmdctl ls`), so what this program can
 * say, a shell script with socat can say too. It keeps no state and needs no privilege to look.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "wire/runtime_dir.h"
#include "wire/wire.h"

enum exit_code {
	EXIT_OK,
	EXIT_REFUSED, /* the daemon answered with an error */
	EXIT_USAGE,
	EXIT_NO_DAEMON, /* nobody answers */
};

#define RATE_SAMPLE_MS 200 /* between two looks, for rates */
#define PAGE ((double)KSM_PAGE_SIZE)

static const char usage_text[] =
	"usage: ksmdctl [OPTION]... COMMAND\n"
	"\n"
	"  get PATH          show a value, for example ksm/pages_sharing\n"
	"  set PATH VALUE    change a setting, for example ksm/run 1\n"
	"  ls [PATH]         list names; help/... explains each\n"
	"  status            what is saved, how fast, for whom, and what was left out\n"
	"  top               the same, again and again; q or Ctrl-C ends\n"
	"\n"
	"  --runtime-dir DIR where the daemon is [$KSMD_RUNTIME_DIR, else /run/ksmd-user for root,\n"
	"                    else $XDG_RUNTIME_DIR/ksmd-user]\n"
	"  --json            get, ls, status: print JSON\n"
	"  -d, --delay SEC   top: seconds between two looks [1]\n"
	"  -n, --count N     top: end after N looks\n"
	"  --help, --version\n"
	"\n"
	"Exit code: 0 done, 1 the daemon refused, 2 wrong usage, 3 no daemon there.\n";

struct options {
	const char *runtime_dir;
	bool json;
	double delay;
	unsigned long count; /* 0: until told to stop */
};

/* The connection; one per run. */
struct ctl {
	int fd;
	char in[4096];
	size_t in_pos, in_len;
};

static void die(enum exit_code code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3), noreturn));

static void die(enum exit_code code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("ksmdctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(code);
}

/* ---- the protocol ---- */

static void ctl_open(struct ctl *c, const char *dir)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	c->in_pos = c->in_len = 0;
	if (ksm_runtime_path(sun.sun_path, sizeof(sun.sun_path), dir, KSM_CONTROL_SOCKET))
		die(EXIT_NO_DAEMON, "no runtime directory: give --runtime-dir");
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sun, sizeof(sun)))
		die(EXIT_NO_DAEMON, "no daemon at %s: %s", sun.sun_path, strerror(errno));
}

static char next_byte(struct ctl *c)
{
	if (c->in_pos == c->in_len) {
		ssize_t n;

		do
			n = read(c->fd, c->in, sizeof(c->in));
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			die(EXIT_NO_DAEMON, "the daemon ended the connection");
		c->in_pos = 0;
		c->in_len = (size_t)n;
	}
	return c->in[c->in_pos++];
}

/*
 * One command. Returns the body (NUL-terminated, to be freed), or NULL and the answer's "ERRNAME
 * message" in err.
 */
static char *ctl_ask(struct ctl *c, const char *command, char *err, size_t size)
{
	size_t len = strlen(command), n = 0;
	char head[512], *body;

	if (send(c->fd, command, len, MSG_NOSIGNAL) != (ssize_t)len ||
	    send(c->fd, "\n", 1, MSG_NOSIGNAL) != 1)
		die(EXIT_NO_DAEMON, "the daemon ended the connection");
	while (n < sizeof(head) - 1 && (head[n] = next_byte(c)) != '\n')
		n++;
	head[n] = '\0';
	if (strncmp(head, "ok ", 3)) {
		snprintf(err, size, "%s", !strncmp(head, "error ", 6) ? head + 6 : head);
		return NULL;
	}
	len = strtoul(head + 3, NULL, 10);
	body = malloc(len + 1);
	if (!body)
		die(EXIT_REFUSED, "out of memory");
	for (n = 0; n < len; n++)
		body[n] = next_byte(c);
	body[len] = '\0';
	return body;
}

/* The daemon's refusal: "EBUSY not while ..." is shown as "EBUSY: not while ...". */
static void refused(char *err)
{
	char *space = strchr(err, ' ');

	if (space)
		*space = '\0';
	die(EXIT_REFUSED, "%s: %s", err, space ? space + 1 : "");
}

__attribute__((format(printf, 2, 3))) static char *ask(struct ctl *c, const char *fmt, ...)
{
	char command[8192], err[512], *body;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(command) || strchr(command, '\n'))
		die(EXIT_USAGE, "argument too long, or with a line break");
	body = ctl_ask(c, command, err, sizeof(err));
	if (!body)
		refused(err);
	return body;
}

/* Value at DIR/name without newline, or NULL when it is gone (a client that ended). To be freed. */
static char *value(struct ctl *c, const char *dir, const char *name)
{
	char command[512], err[512], *body;

	snprintf(command, sizeof(command), "get %s/%s", dir, name);
	body = ctl_ask(c, command, err, sizeof(err));
	if (body)
		body[strcspn(body, "\n")] = '\0';
	return body;
}

static int64_t number(struct ctl *c, const char *dir, const char *name)
{
	char *v = value(c, dir, name);
	int64_t n = v ? strtoll(v, NULL, 10) : 0;

	free(v);
	return n;
}

/* ---- JSON ---- */

static void json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < ' ')
			printf("\\u%04x", *s);
		else
			putchar(*s);
	}
	putchar('"');
}

/* A number as a number, anything else as a string. */
static void json_value(const char *s)
{
	const char *digits = s + (*s == '-');

	if (*digits && strspn(digits, "0123456789") == strlen(digits))
		fputs(s, stdout);
	else
		json_string(s);
}

/* ---- get, set, ls ---- */

static void cmd_get(struct ctl *c, const struct options *o, const char *path)
{
	char *body = ask(c, "get %s", path);

	if (o->json) {
		body[strcspn(body, "\n")] = '\0';
		putchar('{');
		json_string(path);
		fputs(": ", stdout);
		json_value(body);
		puts("}");
	} else {
		fputs(body, stdout);
	}
	free(body);
}

static void cmd_set(struct ctl *c, const char *path, const char *text)
{
	free(ask(c, "set %s %s", path, text));
}

static void cmd_ls(struct ctl *c, const struct options *o, const char *path)
{
	char *body = path ? ask(c, "ls %s", path) : ask(c, "ls"), *save = NULL;
	const char *separator = "";

	if (!o->json) {
		fputs(body, stdout);
		free(body);
		return;
	}
	putchar('[');
	for (char *n = strtok_r(body, "\n", &save); n; n = strtok_r(NULL, "\n", &save)) {
		fputs(separator, stdout);
		json_string(n);
		separator = ", ";
	}
	puts("]");
	free(body);
}

/* ---- status ---- */

/* What the daemon as a whole says, at one time. */
struct sample {
	double at; /* seconds */
	int64_t run, shared, sharing, unshared, unstable, zero, tracked;
	int64_t scanned, merged, full_scans, cpu_ns, cow_breaks;
	int64_t profit, metadata, added_vmas, frames_used, frames_retired, clients;
};

static double now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void take_sample(struct ctl *c, struct sample *s)
{
	s->run = number(c, "ksm", "run");
	s->shared = number(c, "ksm", "pages_shared");
	s->sharing = number(c, "ksm", "pages_sharing");
	s->unshared = number(c, "ksm", "pages_unshared");
	s->unstable = number(c, "ksm", "pages_volatile");
	s->zero = number(c, "ksm", "ksm_zero_pages");
	s->tracked = number(c, "ksm", "pages_tracked");
	s->full_scans = number(c, "ksm", "full_scans");
	s->cow_breaks = number(c, "ksm", "cow_breaks");
	s->profit = number(c, "ksm", "general_profit");
	s->metadata = number(c, "ksm", "metadata_bytes");
	s->added_vmas = number(c, "ksm", "added_vmas");
	s->frames_used = number(c, "ksm", "frames_used");
	s->frames_retired = number(c, "ksm", "frames_retired");
	s->clients = number(c, "ksm", "clients");
	/* Those that rates are made of together, and last. */
	s->scanned = number(c, "ksm", "pages_scanned");
	s->merged = number(c, "ksm", "pages_merged");
	s->cpu_ns = number(c, "ksm", "scan_cpu_ns");
	s->at = now_seconds();
}

struct rates {
	double scanned, merged, cpu_percent;
};

/* Counters can be reset by a restart of the daemon in between. */
static double rate(int64_t from, int64_t to, double seconds)
{
	return to > from && seconds > 0 ? (double)(to - from) / seconds : 0;
}

static struct rates rates_between(const struct sample *a, const struct sample *b)
{
	double s = b->at - a->at;

	return (struct rates){
		.scanned = rate(a->scanned, b->scanned, s),
		.merged = rate(a->merged, b->merged, s),
		.cpu_percent = rate(a->cpu_ns, b->cpu_ns, s) / 1e7,
	};
}

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

static void print_head(struct ctl *c, const struct sample *s)
{
	static const char *const run_name[] = { "stopped, merges are kept", "merging",
						"everything unmerged" };
	char *version = value(c, "daemon", "version"), *domain = value(c, "daemon", "domain_mode");

	printf("ksmd-user %s, process %" PRId64 ", ", version ? version : "?",
	       number(c, "daemon", "pid"));
	print_uptime(number(c, "daemon", "uptime"));
	printf(", domains per %s, run %" PRId64 " (%s)\n\n", domain ? domain : "?", s->run,
	       s->run >= 0 && s->run <= 2 ? run_name[s->run] : "?");
	free(version);
	free(domain);
}

static void print_summary(const struct sample *s, const struct rates *r)
{
	printf("saved     %s net: %s of memory less %s of metadata\n", human((double)s->profit),
	       human((double)(s->sharing + s->zero) * PAGE),
	       human((double)(s->sharing + s->zero) * PAGE - (double)s->profit));
	printf("pages     %" PRId64 " shared, %" PRId64 " sharing, %" PRId64 " unshared, %" PRId64
	       " volatile, %" PRId64 " zero\n",
	       s->shared, s->sharing, s->unshared, s->unstable, s->zero);
	printf("frames    %" PRId64 " used, %" PRId64 " retired; %" PRId64
	       " mappings added; %" PRId64 " merged pages written since\n",
	       s->frames_used, s->frames_retired, s->added_vmas, s->cow_breaks);
	printf("scanning  %.0f pages/s read, %.0f pages/s merged, %.1f %% CPU, %" PRId64
	       " full scans\n",
	       r->scanned, r->merged, r->cpu_percent, s->full_scans);
}

/* "pinned 3, stack 16": reasons that apply; JSON: all of them. */
static void print_left_out(struct ctl *c, const char *dir, bool json)
{
	static const char *const names[] = KSM_LEFT_NAMES;
	char path[256];
	bool any = false;

	snprintf(path, sizeof(path), "%s/left_out", dir);
	if (json)
		putchar('{');
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int64_t n = number(c, path, names[i]);

		if (!n && !json)
			continue;
		printf(json ? "%s\"%s\": %" PRId64 : "%s%s %" PRId64, any ? ", " : "", names[i], n);
		any = true;
	}
	fputs(json ? "}" : any ? "" : "nothing", stdout);
}

/* Call fn for every client, with its directory, as long as lines are left. */
static void each_client(struct ctl *c, void (*fn)(struct ctl *c, const char *dir, bool first),
			int max)
{
	char *body = ask(c, "ls client"), *save = NULL, dir[64];
	bool first = true;

	for (char *n = strtok_r(body, "\n/", &save); n && max > 0;
	     n = strtok_r(NULL, "\n/", &save)) {
		snprintf(dir, sizeof(dir), "client/%s", n);
		fn(c, dir, first);
		first = false;
		max--;
	}
	free(body);
}

static void print_client(struct ctl *c, const char *dir, bool first)
{
	char *comm = value(c, dir, "comm");

	if (!comm)
		return;
	if (first)
		printf("\n%7s %-15s %6s %10s %10s %10s %8s  %s\n", "PID", "PROGRAM", "UID",
		       "OFFERED", "MERGED", "PROFIT", "MAPPINGS", "LEFT OUT (PAGES)");
	printf("%7s %-15.15s %6" PRId64 " %10s %10s %10s %8" PRId64 "  ", strchr(dir, '/') + 1,
	       comm, number(c, dir, "uid"), human((double)number(c, dir, "region_bytes")),
	       human((double)(number(c, dir, "ksm_merging_pages") +
			      number(c, dir, "ksm_zero_pages")) *
		     PAGE),
	       human((double)number(c, dir, "ksm_process_profit")), number(c, dir, "nr_vmas"));
	if (number(c, dir, "stalled"))
		fputs("STALLED; ", stdout);
	print_left_out(c, dir, false);
	putchar('\n');
	free(comm);
}

static void print_status(struct ctl *c, const struct sample *s, const struct rates *r, int max)
{
	print_head(c, s);
	print_summary(s, r);
	fputs("left out  ", stdout);
	print_left_out(c, "ksm", false);
	printf("\nclients   %" PRId64 "\n", s->clients);
	each_client(c, print_client, max);
}

/* Every value of a directory but its subdirectories, as members of an object. */
static void json_members(struct ctl *c, const char *dir)
{
	char command[256], err[512], *body, *save = NULL;
	const char *separator = "";

	snprintf(command, sizeof(command), "ls %s", dir);
	body = ctl_ask(c, command, err, sizeof(err));
	if (!body)
		return;
	for (char *n = strtok_r(body, "\n", &save); n; n = strtok_r(NULL, "\n", &save)) {
		char *v = strchr(n, '/') ? NULL : value(c, dir, n);

		if (!v)
			continue;
		fputs(separator, stdout);
		json_string(n);
		fputs(": ", stdout);
		json_value(v);
		separator = ", ";
		free(v);
	}
	free(body);
}

static void json_client(struct ctl *c, const char *dir, bool first)
{
	printf("%s\n    {\"pid\": %s, ", first ? "" : ",", strchr(dir, '/') + 1);
	json_members(c, dir);
	fputs(", \"left_out\": ", stdout);
	print_left_out(c, dir, true);
	putchar('}');
}

static void json_status(struct ctl *c, const struct rates *r)
{
	fputs("{\n  \"daemon\": {", stdout);
	json_members(c, "daemon");
	fputs("},\n  \"ksm\": {", stdout);
	json_members(c, "ksm");
	printf("},\n  \"rates\": {\"pages_scanned_per_s\": %.1f, \"pages_merged_per_s\": %.1f, "
	       "\"scan_cpu_percent\": %.2f},\n  \"left_out\": ",
	       r->scanned, r->merged, r->cpu_percent);
	print_left_out(c, "ksm", true);
	fputs(",\n  \"clients\": [", stdout);
	each_client(c, json_client, INT32_MAX);
	puts("]\n}");
}

static void cmd_status(struct ctl *c, const struct options *o)
{
	struct sample a, b;
	struct rates r;

	take_sample(c, &a);
	/* A rate needs time to pass. */
	nanosleep(&(struct timespec){ .tv_nsec = RATE_SAMPLE_MS * 1000000l }, NULL);
	take_sample(c, &b);
	r = rates_between(&a, &b);
	if (o->json)
		json_status(c, &r);
	else
		print_status(c, &b, &r, INT32_MAX);
}

/* ---- top ---- */

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* Wait for the time given; true when the user wants to end. */
static bool wait_for_quit(double seconds)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	double end = now_seconds() + seconds;
	bool terminal = isatty(STDIN_FILENO);
	char key;

	while (!interrupted) {
		double left = end - now_seconds();

		if (left <= 0)
			return false;
		if (poll(&in, terminal ? 1 : 0, (int)(left * 1000) + 1) > 0 &&
		    (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
			return true;
	}
	return true;
}

/* Lines for clients on this screen; without a terminal, all of them. */
static int client_lines(void)
{
	struct winsize w;

	/* 10: the lines above the first client. */
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || w.ws_row == 0)
		return INT32_MAX;
	return w.ws_row > 11 ? w.ws_row - 10 : 1;
}

static void top_loop(struct ctl *c, const struct options *o)
{
	bool terminal = isatty(STDOUT_FILENO);
	struct sample before, now;
	struct rates r;

	take_sample(c, &before);
	for (unsigned long i = 0; !o->count || i < o->count; i++) {
		/* The first look needs a rate, too, but nobody wants to wait a whole delay for it. */
		if (wait_for_quit(i ? o->delay : RATE_SAMPLE_MS / 1000.0))
			return;
		take_sample(c, &now);
		r = rates_between(&before, &now);
		if (terminal)
			fputs("\033[H\033[2J", stdout); /* home, clear */
		print_status(c, &now, &r, client_lines());
		if (!terminal)
			putchar('\n');
		fflush(stdout);
		before = now;
	}
}

static void cmd_top(struct ctl *c, const struct options *o)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct termios saved, raw;
	bool terminal = tcgetattr(STDIN_FILENO, &saved) == 0;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (terminal) {
		raw = saved;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	top_loop(c, o);
	if (terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

/* ---- command line ---- */

static void bad_usage(const char *what)
{
	die(EXIT_USAGE, "%s; see ksmdctl --help", what);
}

static void parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "delay", required_argument, NULL, 'd' },
		{ "count", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "d:n:", longopts, NULL)) != -1) {
		if (c == 'r') {
			o->runtime_dir = optarg;
		} else if (c == 'j') {
			o->json = true;
		} else if (c == 'd') {
			o->delay = strtod(optarg, &end);
			if (end == optarg || *end || !(o->delay >= 0.01 && o->delay <= 86400))
				bad_usage("--delay takes seconds, from 0.01 to 86400");
		} else if (c == 'n') {
			o->count = strtoul(optarg, &end, 10);
			if (*optarg < '0' || *optarg > '9' || *end || !o->count)
				bad_usage("--count takes a number above 0");
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

static void need(int argc, int min, int max)
{
	if (argc - 1 < min || argc - 1 > max)
		bad_usage("wrong number of arguments");
}

/* argv[0] is the command. */
static void run_command(const struct options *o, int argc, char **argv)
{
	const char *name = argv[0];
	struct ctl c;

	if (!strcmp(name, "get"))
		need(argc, 1, 1);
	else if (!strcmp(name, "set"))
		need(argc, 2, 2);
	else if (!strcmp(name, "ls"))
		need(argc, 0, 1);
	else if (!strcmp(name, "status") || !strcmp(name, "top"))
		need(argc, 0, 0);
	else
		bad_usage("no such command");
	ctl_open(&c, o->runtime_dir);
	if (!strcmp(name, "get"))
		cmd_get(&c, o, argv[1]);
	else if (!strcmp(name, "set"))
		cmd_set(&c, argv[1], argv[2]);
	else if (!strcmp(name, "ls"))
		cmd_ls(&c, o, argc > 1 ? argv[1] : NULL);
	else if (!strcmp(name, "status"))
		cmd_status(&c, o);
	else
		cmd_top(&c, o);
	close(c.fd);
}

int main(int argc, char **argv)
{
	struct options o = { .delay = 1 };

	parse_options(argc, argv, &o);
	if (optind == argc)
		bad_usage("no command");
	run_command(&o, argc - optind, argv + optind);
	return fflush(stdout) || ferror(stdout) ? EXIT_REFUSED : EXIT_OK;
}
