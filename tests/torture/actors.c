/* SPDX-License-Identifier: MIT */
/* actors.c - the schedule starts, stops, kills and buries actors. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/torture/schedule.h"

#define ABANDONED_MS 20000

static void exec_actor(struct job *j, int seat, int ctl_fd)
{
	bool plain = below(j, 100) < ctl->plain_percent, native = below(j, 3) == 0;
	char fd_arg[16], seat_arg[16];

	snprintf(fd_arg, sizeof(fd_arg), "%d", ctl_fd);
	snprintf(seat_arg, sizeof(seat_arg), "%d", seat);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (plain)
		execl(ctl->ksm_run, "ksm-run", native ? "--malloc=native" : "--malloc=heap", "--",
		      ctl->actor_plain, fd_arg, seat_arg, (char *)NULL);
	else
		execl(ctl->actor_ksm, "actor", fd_arg, seat_arg, (char *)NULL);
	fprintf(stderr, "cannot execute an actor: %s\n", strerror(errno));
	_exit(127);
}

void actors_spawn(struct job *j)
{
	int seat = seat_take(-1), fd;
	pid_t pid;

	if (seat < 0)
		return;
	below(j, 7); /* the child's choices are not ours */
	fflush(NULL);
	fd = open(ctl->ctl_path, O_RDWR);
	if (fd < 0)
		harness_die("%s: %s", ctl->ctl_path, strerror(errno));
	pid = fork();
	if (pid == 0)
		exec_actor(j, seat, fd);
	close(fd);
	if (pid < 0)
		harness_die("fork: %s", strerror(errno));
	atomic_store(&ctl->p[seat].pid, pid);
	j->spawned++;
}

/* Its work goes on counting; the seat is free. */
static void retire(struct job *j, struct proc_seat *p)
{
	j->ended_since_up++;
	for (int k = 0; k < THREADS; k++) {
		struct thread_seat *t = &p->t[k];

		for (int i = 0; i < OP_NR; i++)
			atomic_fetch_add(&ctl->lived[i], t->ops[i]);
		atomic_fetch_add(&ctl->lived_checks, t->checks);
		atomic_fetch_add(&ctl->lived_bytes, t->checked_bytes);
		atomic_fetch_add(&ctl->lived_frame_checks, t->frame_checks);
		atomic_fetch_add(&ctl->lived_frame_samples, t->frame_samples);
	}
	atomic_store(&p->state, SEAT_FREE);
}

/*
 * A seat that an actor took for a child, and was killed before it made one. Such a child would be
 * here by now.
 */
static bool is_abandoned(const struct proc_seat *p)
{
	return atomic_load(&p->state) == SEAT_TAKEN && !atomic_load(&p->pid) &&
	       now_ms() > p->taken_ms + ABANDONED_MS && kill(p->taker, 0) && errno == ESRCH;
}

/* Children of dead actors are ours by now; those of living ones are not (ECHILD). */
void actors_reap(struct job *j)
{
	for (int i = 0; i < SEATS; i++) {
		struct proc_seat *p = &ctl->p[i];
		uint32_t state = atomic_load(&p->state);
		pid_t pid = atomic_load(&p->pid);
		int status;

		if (state == SEAT_GONE || is_abandoned(p)) {
			retire(j, p);
		} else if (state != SEAT_FREE && pid > 0 && waitpid(pid, &status, WNOHANG) == pid) {
			if (status && !atomic_load(&p->killed))
				fail_schedule("actor %d (seat %d) ended with status %#x", (int)pid,
					      i, (unsigned int)status);
			retire(j, p);
		}
	}
}

void actors_kill_one(struct job *j)
{
	struct proc_seat *p = &ctl->p[below(j, SEATS)];

	if (atomic_load(&p->state) != SEAT_LIVE || atomic_load(&p->pid) <= 0)
		return;
	atomic_store(&p->killed, 1);
	kill(atomic_load(&p->pid), SIGKILL);
	j->actor_kills++;
}

void actors_stop_one(struct job *j)
{
	int i = (int)below(j, SEATS);
	struct proc_seat *p = &ctl->p[i];

	if (atomic_load(&p->state) != SEAT_LIVE || atomic_load(&p->pid) <= 0)
		return;
	atomic_store(&p->stopped, 1);
	kill(atomic_load(&p->pid), SIGSTOP);
	j->resume_ms[i] = now_ms() + below(j, 1500);
	j->actor_stops++;
}

void actors_resume(struct job *j, bool all)
{
	for (int i = 0; i < SEATS; i++) {
		struct proc_seat *p = &ctl->p[i];

		if (!atomic_load(&p->stopped) || (!all && now_ms() < j->resume_ms[i]))
			continue;
		if (atomic_load(&p->pid) > 0 && !atomic_load(&ctl->failed))
			kill(atomic_load(&p->pid), SIGCONT);
		atomic_store(&p->stopped, 0);
	}
}
