/* SPDX-License-Identifier: MIT */
/*
 * fleet.c - the parent's view of its tenants: start, command, account, end.
 *
 * A command goes to all tenants before any answer is awaited, so that they work at the same time.
 * The death of a tenant is an error of the whole round: its socket reads as ended.
 */
#include "fleet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "message.h"
#include "side.h"
#include "stop.h"

/* Of the socket of a tenant that another will fork. */
struct child_end {
	int own, child;
};

static int tenant_start(struct fleet_tenant *w)
{
	int sv[2], err = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		return -errno;
	w->pid = fork();
	if (w->pid < 0) {
		err = -errno;
		close(sv[0]);
	} else if (!w->pid) {
		char arg[16];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fcntl(sv[1], F_SETFD, 0);
		snprintf(arg, sizeof(arg), "%d", sv[1]);
		execl("/proc/self/exe", "ksm-bench", "--tenant", arg, (char *)NULL);
		_exit(127);
	} else {
		w->fd = sv[0];
	}
	close(sv[1]);
	return err;
}

static int reply_read(struct fleet_tenant *w, struct tenant_reply *r)
{
	ssize_t n;

	for (;;) {
		struct pollfd p = { .fd = w->fd, .events = POLLIN };
		int ready = poll(&p, 1, 1000);

		if (bench_stop)
			return -EINTR;
		if (ready > 0)
			break;
	}
	n = recv(w->fd, r, sizeof(*r), 0);
	if (n != (ssize_t)sizeof(*r)) {
		int status = 0;

		waitpid(w->pid, &status, WNOHANG);
		complain("tenant %d died (status %#x)", (int)w->pid, status);
		return -ECHILD;
	}
	memcpy(w->own_tid, r->tid, sizeof(w->own_tid));
	if (r->error) {
		complain("tenant %d, operation %u: %s", (int)w->pid, r->op, strerror(r->error));
		return -r->error;
	}
	return 0;
}

static int command_send(struct fleet_tenant *w, const struct tenant_cmd *c)
{
	if (send(w->fd, c, sizeof(*c), MSG_NOSIGNAL) == (ssize_t)sizeof(*c))
		return 0;
	complain("tenant %d died", (int)w->pid);
	return -ECHILD;
}

int fleet_command(struct fleet *f, uint32_t op, uint32_t arg,
		  void (*fn)(void *arg, const struct tenant_reply *r), void *fn_arg)
{
	static struct tenant_reply r;
	struct tenant_cmd c = { .op = op, .arg = arg };
	int err = 0;

	for (int i = 0; i < f->nr && !err; i++)
		err = command_send(&f->w[i], &c);
	for (int i = 0; i < f->nr && !err; i++) {
		err = reply_read(&f->w[i], &r);
		if (!err && fn)
			fn(fn_arg, &r);
	}
	return err;
}

int fleet_command_one(struct fleet *f, int i, uint32_t op, uint32_t arg, struct tenant_reply *r)
{
	struct tenant_cmd c = { .op = op, .arg = arg };
	int err = command_send(&f->w[i], &c);

	return err ? err : reply_read(&f->w[i], r);
}

/* Make `nr` tenants of their own. */
static int tenants_start(struct fleet *f, unsigned int nr)
{
	int err = 0;

	for (unsigned int i = 0; i < nr && !err; i++) {
		err = tenant_start(&f->w[f->nr]);
		if (err)
			complain("cannot start a tenant: %s", strerror(-err));
		else
			f->nr++;
	}
	return err;
}

/* Have them map and fill their memory. */
static int tenants_setup(struct fleet *f, struct side *s, uint64_t nr_pages)
{
	static struct tenant_reply r;
	int err = 0;

	for (int i = 0; i < f->nr && !err; i++) {
		struct tenant_cmd c = {
			.op = TENANT_SETUP,
			.side = (uint32_t)s->id,
			.proc = (uint32_t)i,
			.workload = s->cfg->workload,
			.nr_pages = nr_pages,
		};

		err = command_send(&f->w[i], &c);
	}
	for (int i = 0; i < f->nr && !err; i++) {
		err = reply_read(&f->w[i], &r);
		f->w[i].start = r.v[0];
		f->w[i].end = r.v[1];
	}
	return err;
}

/* Have the first tenant fork one more, whose socket it has inherited. */
static int child_start(struct fleet *f, const struct child_end *end)
{
	static struct tenant_reply r;
	struct tenant_cmd c = { .op = TENANT_FORK,
				.arg = (uint32_t)end->child,
				.proc = (uint32_t)f->nr };
	struct fleet_tenant *w = &f->w[f->nr];
	int err = command_send(&f->w[0], &c);

	err = err ? err : reply_read(&f->w[0], &r);
	if (err)
		return err;
	*w = f->w[0];
	w->pid = (pid_t)r.v[0];
	w->fd = end->own;
	f->nr++;
	return 0;
}

/*
 * A parent, and children that share its memory until they write. The sockets are there before the
 * parent is, for it to inherit. This process adopts the children when the parent has ended.
 */
static int family_start(struct fleet *f, struct side *s, uint64_t nr_pages)
{
	static struct child_end end[BENCH_MAX_PROCESSES];
	int nr = 0, children = (int)s->cfg->processes - 1, err = 0, sv[2];

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (; nr < children && !err; nr++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv)) {
			err = -errno;
			break;
		}
		fcntl(sv[0], F_SETFD, FD_CLOEXEC);
		end[nr] = (struct child_end){ sv[0], sv[1] };
	}
	err = err ? err : tenants_start(f, 1);
	err = err ? err : tenants_setup(f, s, nr_pages);
	for (int i = 0; i < nr && !err; i++)
		err = child_start(f, &end[i]);
	for (int i = 0; i < nr; i++)
		close(end[i].child);
	for (int i = f->nr ? f->nr - 1 : 0; i < nr; i++)
		close(end[i].own);
	return err ? err : fleet_command(f, TENANT_REWRITE, 0, NULL, NULL);
}

int fleet_start(struct fleet *f, struct side *s, uint64_t nr_pages)
{
	int err;

	f->nr = 0;
	if (s->cfg->workload.manner == MANNER_FORKED)
		return family_start(f, s, nr_pages);
	err = tenants_start(f, s->cfg->processes);
	return err ? err : tenants_setup(f, s, nr_pages);
}

void fleet_stop(struct fleet *f)
{
	for (int i = 0; i < f->nr; i++) {
		if (f->w[i].fd >= 0)
			close(f->w[i].fd);
		kill(f->w[i].pid, SIGKILL);
	}
	for (int i = 0; i < f->nr; i++)
		waitpid(f->w[i].pid, NULL, 0);
	f->nr = 0;
}

static uint64_t task_cpu_ns(pid_t pid, const char *tid)
{
	char path[64];
	uint64_t ns = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%.12s/schedstat", (int)pid, tid);
	file_number(path, "", &ns);
	return ns;
}

/* A tenant says which threads are its own. A real program cannot, but agents have a name. */
static bool is_agent(const struct fleet_tenant *w, const char *tid)
{
	char path[64], text[32];

	if (!w->program)
		return atoi(tid) != w->own_tid[0] && atoi(tid) != w->own_tid[1] &&
		       atoi(tid) != w->own_tid[2];
	snprintf(path, sizeof(path), "/proc/%d/task/%.12s/comm", (int)w->pid, tid);
	return file_read(path, text, sizeof(text)) > 0 && !strcmp(text, "ksm-agent\n");
}

int fleet_agents_cpu_ns(struct fleet *f, uint64_t *ns)
{
	*ns = 0;
	for (int i = 0; i < f->nr; i++) {
		const struct fleet_tenant *w = &f->w[i];
		char path[64];
		struct dirent *e;
		DIR *d;

		snprintf(path, sizeof(path), "/proc/%d/task", (int)w->pid);
		d = opendir(path);
		if (!d) {
			complain("%s: %s", path, strerror(errno));
			return -errno;
		}
		while ((e = readdir(d))) {
			if (atoi(e->d_name) && is_agent(w, e->d_name))
				*ns += task_cpu_ns(w->pid, e->d_name);
		}
		closedir(d);
	}
	return 0;
}

static void count_vmas(const struct fleet_tenant *w, struct fleet_memory *m)
{
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)w->pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) != 2)
			continue; /* the rest of a long name */
		m->vmas++;
		m->region_vmas += start < w->end && end > w->start;
	}
	if (f)
		fclose(f);
}

int fleet_memory(struct fleet *f, struct fleet_memory *m)
{
	int err = 0;

	memset(m, 0, sizeof(*m));
	for (int i = 0; i < f->nr && !err; i++) {
		uint64_t pss = 0, pte = 0;

		err = file_of_process(f->w[i].pid, "smaps_rollup", "\nPss:", &pss);
		err = err ? err : file_of_process(f->w[i].pid, "status", "\nVmPTE:", &pte);
		m->pss += pss * 1024;
		m->pte += pte * 1024;
		count_vmas(&f->w[i], m);
	}
	return err;
}
