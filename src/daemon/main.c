/* SPDX-License-Identifier: MIT */
/*
 * main.c - ksmd-user: the start in order, the main thread's loop, the end in reverse order.
 *
 * steps[] is the table of contents. The end unmerges nothing: clients keep their mappings of the
 * arena, whose memory lives as long as any of them does, and register again with the next daemon.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/log.h"
#include "base/loop.h"
#include "daemon/client_ops.h"
#include "daemon/client_thread.h"
#include "daemon/confine.h"
#include "daemon/control.h"
#include "daemon/daemon.h"
#include "daemon/ending.h"
#include "daemon/groups.h"
#include "daemon/limits.h"
#include "daemon/looker.h"
#include "daemon/manager.h"
#include "daemon/mover.h"
#include "daemon/options.h"
#include "daemon/probe.h"
#include "daemon/runtime_dir.h"
#include "daemon/scan_thread.h"
#include "numa/numa_open.h"

#define SAID 1 /* a step failed and has said why */

struct service {
	struct options options;
	struct daemon d;
	struct runtime_dir dir;
	struct loop loop; /* the main thread's */
	struct ending ending;
	struct groups groups;
	struct control *control;
	struct watchdog watchdog;
	struct mover mover;
	struct looker looker;
	int pagemap; /* our own, or -1 */
};

/* ---- what the start rests on ---- */

static int open_topology(struct service *s)
{
	char why[128];

	s->d.topology_spec = s->options.topology;
	s->d.topology = numa_topology_open(s->options.topology, why, sizeof(why));
	if (!s->d.topology && errno == EINVAL)
		options_refuse("topology", s->options.topology, why);
	return s->d.topology ? 0 : -errno;
}

static void close_topology(struct service *s)
{
	numa_topology_close(s->d.topology);
}

static int open_userfaultfd(struct service *s)
{
	s->d.allowed = s->options.allowed;
	s->d.operators = s->options.operators;
	s->d.uffd_dev = probe_kernel();
	return s->d.uffd_dev < 0 ? SAID : 0;
}

static void close_userfaultfd(struct service *s)
{
	close(s->d.uffd_dev);
}

/* To see huge pages (arena.c), which must be mapped as such for us, whatever our parent wished. */
static int open_own_pagemap(struct service *s)
{
	bool none = access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK);

	s->pagemap = none ? -1 : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (s->pagemap < 0 && !none)
		log_msg(LOG_WARNING, "huge pages in arenas cannot be seen: error %d", errno);
	prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	return 0;
}

static void close_own_pagemap(struct service *s)
{
	if (s->pagemap >= 0)
		close(s->pagemap);
}

static int set_limits(struct service *s)
{
	struct rlimit nofile;

	(void)s;
	/*
	 * All threads share one heap: what is freed in a thread's own heap is of no use to the
	 * others. They allocate in chunks and seldom, so none waits. With two clients of 512 MiB,
	 * 40 to 100 KiB less are resident.
	 */
	mallopt(M_ARENA_MAX, 1);
	if (getrlimit(RLIMIT_NOFILE, &nofile) == 0) {
		nofile.rlim_cur = nofile.rlim_max;
		setrlimit(RLIMIT_NOFILE, &nofile);
	}
	/* We hold descriptors of every domain: no core dump, no ptrace by the same user. */
	prctl(PR_SET_DUMPABLE, 0);
	return 0;
}

static int open_dir(struct service *s)
{
	struct manager_sockets passed;
	int err = manager_take_sockets(&passed);

	if (err) {
		log_msg(LOG_ERROR, "the service manager must pass a client socket and a control "
				   "socket that listen, or none");
		return SAID;
	}
	err = runtime_dir_open(&s->dir, s->options.runtime_dir, passed.client, passed.control);
	return err ? SAID : 0;
}

static void close_dir(struct service *s)
{
	runtime_dir_close(&s->dir);
}

/* ---- the main thread ---- */

static int open_signals(struct service *s)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes shows as an error of the arena */
	return ending_listen(&s->ending, &s->loop);
}

static void close_signals(struct service *s)
{
	ending_deaf(&s->ending);
}

static int open_loop(struct service *s)
{
	int err = loop_init(&s->loop);

	if (!err)
		rcu_register_thread();
	return err;
}

static void close_loop(struct service *s)
{
	loop_deinit(&s->loop);
	rcu_unregister_thread();
}

/* The unmerge job is done. */
static void on_bell(struct bell *b, uint32_t bits)
{
	struct service *s = container_of(b, struct service, d.main_bell);

	(void)bits;
	control_finish(s->control);
}

static int open_bell(struct service *s)
{
	int err = bell_init(&s->d.main_bell);

	if (!err)
		err = bell_hang(&s->d.main_bell, &s->loop, on_bell);
	if (err)
		bell_deinit(&s->d.main_bell);
	return err;
}

static void close_bell(struct service *s)
{
	bell_deinit(&s->d.main_bell);
}

/* ---- what the threads share ---- */

/* A record takes 27 bytes for each page of 4 KiB: so much is enough for twenty times the memory. */
#define RECORDS_PART 8

/* The other half is for the programs, which have more of their memory to themselves than not. */
static uint64_t arena_limit(const struct options *o)
{
	return o->arena_limit == ARENA_LIMIT_AUTO ? limits_memory() / 2 : o->arena_limit;
}

/* An arena larger than the memory there is is of no use. A weak vault is worth a warning. */
static int open_vault(struct service *s)
{
	uint64_t limit = arena_limit(&s->options);
	int err = vault_open(&s->d.vault, limit ? limit : limits_memory());

	s->d.arena_limit = limit;
	if (err)
		log_msg(LOG_WARNING,
			"no file system of our own: %s; frames are protected from other users only",
			strerror(-err));
	return 0;
}

static void close_vault(struct service *s)
{
	vault_close(&s->d.vault);
}

/* Without it, processes in other namespaces have each a domain of its own. */
static int start_witness(struct service *s)
{
	int err = witness_start(&s->d.witness);

	if (err)
		log_msg(LOG_WARNING, "no helper that sees namespaces: %s", strerror(-err));
	return 0;
}

static void stop_witness(struct service *s)
{
	witness_stop(&s->d.witness);
	labels_drop(&s->d.labels);
}

/* Without it, nodes of pages are known where our own user may ask. */
static int start_surveyor(struct service *s)
{
	struct numa_topology *t = s->d.topology;
	int err;

	if (!t->query || t->nr_nodes == 1)
		return 0;
	err = surveyor_start(&s->d.surveyor);
	if (err && err != -EPERM)
		log_msg(LOG_WARNING, "no helper that sees where pages lie: %s", strerror(-err));
	if (!err) {
		t->query = surveyor_query;
		t->query_arg = &s->d.surveyor;
	}
	return 0;
}

static void stop_surveyor(struct service *s)
{
	if (s->d.topology->query_arg)
		surveyor_stop(&s->d.surveyor);
}

static int init_domains(struct service *s)
{
	struct domain_table *t = &s->d.domains;

	knobs_init(&s->d.knobs);
	s->d.start_ms = clock_ms();
	if (getrandom(&t->hash_seed, sizeof(t->hash_seed), 0) != sizeof(t->hash_seed))
		return -errno;
	t->mode = s->options.domain;
	s->d.labels.path = s->options.domains_file;
	t->ops = &client_ops;
	t->accounts = &s->d.accounts;
	t->knobs = &s->d.knobs;
	t->topology = s->d.topology;
	t->zone_frames =
		arena_zone_frames(t->topology->nr_nodes, s->d.arena_limit, s->options.zone_span);
	t->guard_frames = s->options.guard_frames;
	t->reserve_frames = options_reserve(&s->options, t->zone_frames);
	t->vault = &s->d.vault;
	domain_table_init(t);
	t->pagemap = s->pagemap;
	return 0;
}

static int start_domains(struct service *s)
{
	return domain_table_start(&s->d.domains);
}

static void deinit_domains(struct service *s)
{
	domain_table_deinit(&s->d.domains);
}

static int init_accounts(struct service *s)
{
	account_table_init(&s->d.accounts);
	limits_set_descriptors(&s->d.accounts);
	account_limit(&s->d.accounts, ACCOUNT_BYTES, limits_memory() / RECORDS_PART);
	if (s->d.arena_limit)
		account_limit(&s->d.accounts, ACCOUNT_ARENA_BYTES, s->d.arena_limit);
	return 0;
}

static void deinit_accounts(struct service *s)
{
	account_table_deinit(&s->d.accounts);
}

static int init_closer(struct service *s)
{
	closer_init(&s->d.closer, &s->d.accounts);
	return 0;
}

static int start_closer(struct service *s)
{
	return closer_start(&s->d.closer);
}

static void stop_closer(struct service *s)
{
	closer_stop(&s->d.closer);
}

static int init_shortage(struct service *s)
{
	shortage_init(&s->d.shortage, s->options.pressure, &s->loop, &s->d.scan_bell, SCAN_KICK,
		      &s->d.accounts);
	return 0;
}

static void deinit_shortage(struct service *s)
{
	shortage_deinit(&s->d.shortage);
}

static int new_clients(struct service *s)
{
	s->d.clients = client_thread_new(&s->d, s->dir.client);
	s->dir.client = -1;
	return s->d.clients ? 0 : -errno;
}

static void free_clients(struct service *s)
{
	client_thread_free(s->d.clients);
}

static int new_scan(struct service *s)
{
	s->d.scan = scan_new(&s->d);
	return s->d.scan ? 0 : -errno;
}

static void free_scan(struct service *s)
{
	scan_free(s->d.scan);
}

static int new_mover(struct service *s)
{
	s->d.mover = &s->mover;
	return mover_init(&s->mover, &s->d);
}

static void free_mover(struct service *s)
{
	mover_deinit(&s->mover);
}

static int new_looker(struct service *s)
{
	s->d.looker = &s->looker;
	return looker_init(&s->looker, &s->d);
}

static void free_looker(struct service *s)
{
	looker_deinit(&s->looker);
}

/* ---- what serves ---- */

static int confine_self(struct service *s)
{
	const char *what;
	int err = confine(&what);

	(void)s;
	if (err)
		log_msg(LOG_WARNING, "the kernel refuses to confine us (%s): %s", what,
			strerror(-err));
	return 0;
}

static int open_control(struct service *s)
{
	groups_register(&s->groups, &s->d);
	s->control = control_new(&s->groups.tree, &s->d.operators, &s->loop, &s->d.closer,
				 s->dir.control);
	s->dir.control = -1;
	return s->control ? 0 : -errno;
}

static void close_control(struct service *s)
{
	control_free(s->control);
}

static int start_clients(struct service *s)
{
	return client_thread_start(s->d.clients);
}

static void stop_clients(struct service *s)
{
	client_thread_stop(s->d.clients);
}

static int start_scan(struct service *s)
{
	return scan_start(s->d.scan);
}

/*
 * A client can keep a call of the scan thread waiting: it holds its mmap_lock, or its page is one
 * of a FUSE file. The kernel ends such a call with the process, and clients keep what they have
 * whatever the end is like.
 */
static void stop_scan(struct service *s)
{
	if (!scan_stop(s->d.scan))
		ending_without(&s->dir, "scan thread");
}

/* Its thread, and the looker's, comes when somebody asks for it. */
static int start_mover(struct service *s)
{
	return mover_watch(&s->mover);
}

static int allow_looker(struct service *s)
{
	(void)s;
	return 0;
}

static void stop_looker(struct service *s)
{
	if (!looker_stop(&s->looker))
		ending_without(&s->dir, "looker thread");
}

static void stop_mover(struct service *s)
{
	mover_stop(&s->mover);
}

/* ---- start, serve, end ---- */

/*
 * Each step may use what the steps before it made. stop() undoes a start() that returned 0; start()
 * returns 0, -errno, or SAID. The threads come last, so that nobody is served by half a daemon.
 */
static const struct step {
	const char *what; /* in the message when it fails */
	int (*start)(struct service *s);
	void (*stop)(struct service *s);
} steps[] = {
	{ "topology", open_topology, close_topology },
	/* Before set_limits() makes us not dumpable, because it looks at our own page map. */
	{ "userfaultfd", open_userfaultfd, close_userfaultfd },
	{ "page map", open_own_pagemap, close_own_pagemap }, /* likewise */
	{ "limits", set_limits, NULL },
	/* It forks, so it comes before everything that a child should not have. */
	{ "vault", open_vault, close_vault },
	{ "witness", start_witness, stop_witness },    /* so does this */
	{ "surveyor", start_surveyor, stop_surveyor }, /* and this */
	{ "runtime directory", open_dir, close_dir },
	{ "loop", open_loop, close_loop },
	{ "signals", open_signals, close_signals },
	{ "bell", open_bell, close_bell },
	{ "accounts", init_accounts, deinit_accounts },
	/* It ends after all who hand over to it. */
	{ "closer", init_closer, stop_closer },
	{ "client socket", new_clients, free_clients },
	{ "domains", init_domains, deinit_domains },
	/* It ends after the client thread, because what clients say reaches it until then. */
	{ "scan", new_scan, free_scan },
	{ "shortage", init_shortage, deinit_shortage },
	{ "mover", new_mover, free_mover },
	{ "looker", new_looker, free_looker },
	{ "control socket", open_control, close_control },
	/* All that needs more rights is open, and there is no thread yet that would keep them. */
	{ "confinement", confine_self, NULL },
	{ "closer", start_closer, NULL },
	{ "undertaker", start_domains, NULL }, /* deinit_domains() ends it */
	/* The scan thread, the mover and the looker end before the clients go. */
	{ "client thread", start_clients, stop_clients },
	{ "scan thread", start_scan, stop_scan },
	{ "mover thread", start_mover, stop_mover },
	{ "looker thread", allow_looker, stop_looker },
};
#define NR_STEPS (sizeof(steps) / sizeof(steps[0]))

/* Returns how many steps were started. */
static size_t start(struct service *s)
{
	for (size_t i = 0; i < NR_STEPS; i++) {
		int err = steps[i].start(s);

		if (err < 0)
			log_msg(LOG_ERROR, "%s: %s", steps[i].what, strerror(-err));
		if (err)
			return i;
	}
	return NR_STEPS;
}

/* Ask the other threads for a sign of life. */
static void ping(struct watchdog *w)
{
	struct service *s = container_of(w, struct service, watchdog);

	bell_ring(&s->d.client_bell, CLIENTS_PING);
	bell_ring(&s->d.scan_bell, SCAN_PING);
}

static void serve(struct service *s)
{
	int nr_nodes = s->d.topology->nr_nodes;

	log_msg(LOG_INFO, "version %s serves in %s, %d node%s, domain %s", KSMD_VERSION, s->dir.dir,
		nr_nodes, nr_nodes == 1 ? "" : "s", domain_mode_name(s->d.domains.mode));
	manager_ready(&s->watchdog, &s->loop, ping, s->d.beats, NR_BEATS);
	loop_run(&s->loop);
	manager_stopping();
	log_msg(LOG_INFO, "ends; clients keep what they have");
	ending_begin(&s->ending, &s->dir);
}

static void stop(struct service *s, size_t started)
{
	while (started--) {
		s->ending.at = steps[started].what;
		if (steps[started].stop)
			steps[started].stop(s);
	}
	ending_over(&s->ending);
}

int main(int argc, char **argv)
{
	struct service s = { 0 };
	size_t started;

	log_set_prefix("ksmd-user");
	options_parse(&s.options, argc, argv);
	started = start(&s);
	if (started == NR_STEPS)
		serve(&s);
	stop(&s, started);
	return started == NR_STEPS ? EXIT_SUCCESS : EXIT_FAILURE;
}
