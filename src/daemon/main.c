/* SPDX-License-Identifier: MIT */
/*
 * main.c - ksmd-user: options, start-up in order, the main thread's loop, the end in reverse order.
 *
 * The end unmerges nothing: clients keep their mappings of the arena, whose memory lives as long as
 * any of them does, and register again with the next daemon.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <urcu.h>

#include "base/clock.h"
#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/groups.h"
#include "daemon/scan_thread.h"
#include "base/log.h"
#include "daemon/runtime_dir.h"
#include "daemon/probe.h"
#include "daemon/session.h"
#include "numa/numa_open.h"
#include "wire/wire.h"

#define EVENTS 64
#define EXIT_USAGE 2

struct options {
	const char *runtime_dir;
	const char *topology;
	enum domain_mode domain;
	uint64_t arena_limit_mib;
};

static const char usage[] =
	"usage: ksmd-user [OPTION]...\n"
	"Merge identical memory pages of the processes that offer them.\n"
	"\n"
	"  --runtime-dir DIR       sockets are made here [$KSMD_RUNTIME_DIR, else /run/ksmd-user for\n"
	"                          root, else $XDG_RUNTIME_DIR/ksmd-user]\n"
	"  --topology auto|emulated:N\n"
	"                          NUMA nodes of the machine, or N pretended ones (1 to 64) [auto]\n"
	"  --domain uid|process|shared\n"
	"                          who may share pages: processes of one user, none with another, or\n"
	"                          all of them [uid]\n"
	"  --arena-limit MiB       most memory for shared pages, in each domain; 0: no limit [0]\n"
	"  --log-level error|warning|info|debug\n"
	"                          [info]\n"
	"  --help, --version\n"
	"\n"
	"Runs in the foreground; SIGTERM or SIGINT ends it. Settings are changed with ksmdctl.\n";

/* ---- options ---- */

static bool parse_limit(const char *s, uint64_t *mib)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*mib = strtoull(s, &end, 10);
	/* Frame numbers have 31 bits: 8 TiB. */
	return !errno && !*end && *mib <= (1ull << 31) / (1048576 / KSM_PAGE_SIZE) - 1;
}

static void bad_value(const char *option, const char *value)
{
	fprintf(stderr, "ksmd-user: --%s: not a valid value: %s\n", option, value);
	exit(EXIT_USAGE);
}

static void parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "topology", required_argument, NULL, 't' },
		{ "domain", required_argument, NULL, 'd' },
		{ "arena-limit", required_argument, NULL, 'a' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (c == 'r') {
			o->runtime_dir = optarg;
		} else if (c == 't') {
			o->topology = optarg;
		} else if (c == 'd') {
			if (!domain_mode_parse(optarg, &o->domain))
				bad_value("domain", optarg);
		} else if (c == 'a') {
			if (!parse_limit(optarg, &o->arena_limit_mib))
				bad_value("arena-limit", optarg);
		} else if (c == 'l') {
			if (!log_set_level(optarg))
				bad_value("log-level", optarg);
		} else if (c == 'h') {
			fputs(usage, stdout);
			exit(0);
		} else if (c == 'v') {
			puts("ksmd-user " KSMD_VERSION);
			exit(0);
		} else {
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "ksmd-user: unexpected argument: %s\n", argv[optind]);
		exit(EXIT_USAGE);
	}
}

/* ---- start ---- */

static void set_limits(void)
{
	struct rlimit nofile;

	/*
	 * One heap for all threads: what is freed in a thread's own is of no use to the others. They allocate in
	 * chunks and seldom, so nobody waits; 40 to 100 KiB less are resident with two clients of 512 MiB.
	 */
	mallopt(M_ARENA_MAX, 1);
	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
		nofile.rlim_cur = nofile.rlim_max;
		setrlimit(RLIMIT_NOFILE, &nofile);
	}
	/* Our memory holds descriptors of every domain: no core dump, no ptrace by the same user. */
	prctl(PR_SET_DUMPABLE, 0);
}

static void init_daemon(struct daemon *d, const struct options *o)
{
	knobs_init(&d->knobs);
	d->start_ms = clock_ms();
	d->topology_spec = o->topology;
	d->domains.mode = o->domain;
	d->domains.ops = &session_ops;
	d->domains.knobs = &d->knobs;
	d->domains.topology = d->topology;
	d->domains.max_frames = (uint32_t)(o->arena_limit_mib * (1048576 / KSM_PAGE_SIZE));
	account_table_init(&d->accounts);
	domain_table_init(&d->domains);
}

/* Signals come through a descriptor, in every thread started from now on. */
static int open_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes shows as an error of the arena's */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- main thread ---- */

struct main_loop {
	int epoll, signals;
	struct groups groups;
	struct control *control;
};

static int add_fd(int epoll, int fd, void *ptr)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = ptr };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

/* Until a signal says that it is enough. */
static void run_loop(struct daemon *d, struct main_loop *l)
{
	struct epoll_event ev[EVENTS];
	uint64_t due = CLOCK_NEVER;
	struct signalfd_siginfo info;

	for (;;) {
		int n = epoll_wait(l->epoll, ev, EVENTS, clock_timeout(due));

		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &l->signals) {
				if (read(l->signals, &info, sizeof(info)) == sizeof(info))
					return;
			} else if (ev[i].data.ptr == &d->main_bell) {
				bell_wait(&d->main_bell, 0); /* what to do is found out below */
			} else {
				control_event(l->control, &ev[i]);
			}
		}
		due = control_run(l->control, clock_ms());
	}
}

static int fail(const char *what)
{
	log_msg(KSMD_ERROR, "%s: %s", what, strerror(errno));
	return EXIT_FAILURE;
}

static int serve(struct daemon *d, struct main_loop *l, struct runtime_dir *p)
{
	int err;

	d->sessions = sessions_new(d, p->client);
	p->client = -1;
	if (!d->sessions)
		return fail("client socket");
	d->scan = scan_new(d);
	if (!d->scan) {
		sessions_free(d->sessions);
		return fail("scan thread");
	}
	groups_register(&l->groups, d);
	l->control = control_new(&l->groups.tree, l->epoll, p->control);
	p->control = -1;
	err = l->control ? -scan_start(d->scan) : errno;
	if (!err)
		err = -sessions_start(d->sessions);
	if (l->control && !err) {
		log_msg(KSMD_INFO, "version %s serves in %s, %d node%s, domain %s", KSMD_VERSION,
			p->dir, d->topology->nr_nodes, d->topology->nr_nodes == 1 ? "" : "s",
			domain_mode_name(d->domains.mode));
		run_loop(d, l);
		log_msg(KSMD_INFO, "ends; clients keep what they have");
	}
	if (l->control)
		control_free(l->control);
	scan_stop(d->scan);
	sessions_stop(d->sessions);
	scan_free(d->scan); /* clients' messages reach it until here */
	domain_table_deinit(&d->domains);
	sessions_free(d->sessions);
	account_table_deinit(&d->accounts);
	errno = err;
	return l->control && !err ? EXIT_SUCCESS : fail("threads");
}

static int set_up_loop(struct daemon *d, struct main_loop *l)
{
	int err = bell_init(&d->main_bell);

	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->signals = open_signals();
	if (err || l->epoll < 0 || l->signals < 0 || add_fd(l->epoll, l->signals, &l->signals) ||
	    add_fd(l->epoll, d->main_bell.event, &d->main_bell) ||
	    getrandom(&d->domains.hash_seed, sizeof(d->domains.hash_seed), 0) !=
		    sizeof(d->domains.hash_seed))
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = { .topology = "auto", .domain = DOMAIN_UID };
	struct daemon d = { 0 };
	struct main_loop l = { 0 };
	struct runtime_dir p;
	int ret;

	parse_options(argc, argv, &o);
	d.topology = numa_topology_open(o.topology);
	if (!d.topology && errno == EINVAL)
		bad_value("topology", o.topology);
	if (!d.topology)
		return fail("topology");
	/* Before we are not dumpable, since our own page map is looked at. */
	d.uffd_dev = probe_kernel();
	set_limits();
	if (d.uffd_dev < 0 || runtime_dir_open(&p, o.runtime_dir)) {
		numa_topology_close(d.topology);
		return EXIT_FAILURE;
	}
	init_daemon(&d, &o);
	rcu_register_thread();
	ret = set_up_loop(&d, &l) ? fail("start") : serve(&d, &l, &p);
	rcu_unregister_thread();
	runtime_dir_close(&p);
	close(l.epoll);
	close(l.signals);
	bell_deinit(&d.main_bell);
	close(d.uffd_dev);
	numa_topology_close(d.topology);
	return ret;
}
