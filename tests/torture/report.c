/* SPDX-License-Identifier: MIT */
/*
 * report.c - what is printed, at the end or at the first thing that went wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/ending.h"
#include "tests/torture/schedule.h"
#include "wire/wire.h"

static void fail_with(int pid, const char *fmt, va_list ap)
{
	struct failure *f = &ctl->fail;

	if (!failure_begin())
		return;
	f->kind = FAIL_OTHER;
	f->seat = -1;
	f->pid = pid;
	for (int i = 0; pid && i < SEATS; i++)
		if (atomic_load(&ctl->p[i].pid) == pid)
			f->seat = i;
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	failure_end();
}

void fail_about(int pid, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail_with(pid, fmt, ap);
	va_end(ap);
}

void fail_schedule(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail_with(0, fmt, ap);
	va_end(ap);
}

static void signal_all(const struct job *j, int sig)
{
	for (int i = 0; i < SEATS; i++) {
		uint32_t s = atomic_load(&ctl->p[i].state);
		pid_t pid = atomic_load(&ctl->p[i].pid);

		if ((s == SEAT_TAKEN || s == SEAT_LIVE) && pid > 0)
			kill(pid, sig);
	}
	if (j->daemon && j->daemon->pid)
		kill(j->daemon->pid, sig);
}

void kill_everything(struct job *j)
{
	atomic_store(&ctl->phase, PHASE_STOP);
	signal_all(j, SIGKILL);
	if (j->outside > 0)
		kill(j->outside, SIGKILL);
	for (int i = 0; i < 100; i++) { /* a child that was being made has its seat by then */
		signal_all(j, SIGKILL);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		nap_us(2000);
	}
	unlink(ctl->data_path);
	if (j->daemon) { /* all that is in it is what a daemon leaves behind */
		static const char *const names[] = { "lock", KSM_CLIENT_SOCKET,
						     KSM_CONTROL_SOCKET };
		char path[300];

		for (unsigned int i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "%s/%s", j->daemon->dir, names[i]);
			unlink(path);
		}
		rmdir(j->daemon->dir);
	}
}

/* ---- the failure ---- */

static void print_bytes(const char *what, const uint8_t *p, uint32_t off)
{
	uint32_t from = off & ~15u;

	printf("  %-9s", what);
	for (uint32_t i = from; i < from + 32 && i < PG; i++)
		printf(" %02x", p[i]);
	printf("\n");
}

static bool is_zero(const uint8_t *p)
{
	return !p[0] && !memcmp(p, p + 1, PG - 1);
}

static void print_page(const struct failure *f)
{
	uint8_t now[PG];
	struct iovec to = { now, PG }, from = { (void *)(uintptr_t)f->addr, PG };
	unsigned int wrong = 0;

	for (uint32_t i = 0; i < PG; i++)
		wrong += f->expected[i] != f->found[i];
	printf("  area %u, page %u, address %#llx: %u bytes differ, the first at offset %u%s\n",
	       f->area, f->page, (unsigned long long)f->addr, wrong, (unsigned int)f->aux,
	       is_zero(f->found) ? "; the page found is all zeros" : "");
	print_bytes("expected", f->expected, (uint32_t)f->aux);
	print_bytes("found", f->found, (uint32_t)f->aux);
	if (process_vm_readv(f->pid, &to, 1, &from, 1, 0) == (ssize_t)PG) {
		print_bytes("by now", now, (uint32_t)f->aux);
		if (!memcmp(now, f->expected, PG))
			printf("  by now the page is as expected\n");
	}
}

static void print_entry(const struct thread_seat *t, unsigned int thread, uint32_t i, uint64_t now)
{
	const struct log_entry *e = &t->ring[i % RING];

	printf("    -%9.3f ms thread %u %-17s area %3d page %4u +%-4u at %#14llx arg %#llx "
	       "%s %lld\n",
	       (double)(now - e->ns) / 1e6, thread, e->op < OP_NR ? op_names[e->op] : "?",
	       e->area == 0xff ? -1 : e->area, e->first, e->nr, (unsigned long long)e->addr,
	       (unsigned long long)e->arg, e->done ? "->" : "(under way)", (long long)e->res);
}

/* Print all that concerned the page, and the last few operations of each thread. */
static void print_history(const struct failure *f)
{
	uint64_t now = now_ns();

	if (f->seat < 0)
		return;
	for (unsigned int k = 0; k < THREADS; k++) {
		const struct thread_seat *t = &ctl->p[f->seat].t[k];
		uint32_t first = t->head > RING ? t->head - RING : 0;

		if (!t->head)
			continue;
		printf("  thread %u, tid %d, %u operations, what concerned the page and the "
		       "last:\n",
		       k, atomic_load(&t->tid), t->head);
		for (uint32_t i = first; i < t->head; i++) {
			const struct log_entry *e = &t->ring[i % RING];
			bool about = f->kind == FAIL_BYTES && e->area == f->area &&
				     e->first <= f->page && f->page < e->first + e->nr;

			about |= f->addr >= e->addr && f->addr < e->addr + e->nr * PG;

			if (about || i + 12 >= t->head)
				print_entry(t, k, i, now);
		}
	}
}

static void print_maps(const struct failure *f)
{
	uint64_t entry = 0, start, end;
	char path[64], line[512];
	FILE *maps;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", f->pid);
	fd = open(path, O_RDONLY);
	if (fd >= 0 && pread(fd, &entry, 8, (off_t)(f->addr / PG * 8)) == 8)
		printf("  pagemap %#018llx:%s%s%s%s\n", (unsigned long long)entry,
		       entry >> 63 ? " present" : "", entry >> 62 & 1 ? " swapped" : "",
		       entry >> 61 & 1 ? " file" : "", entry >> 57 & 1 ? " write-protected" : "");
	if (fd >= 0)
		close(fd);
	snprintf(path, sizeof(path), "/proc/%d/maps", f->pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && end + 16 * PG > f->addr &&
		    start < f->addr + 16 * PG)
			printf("  %s", line);
	if (maps)
		fclose(maps);
}

/* Print where the threads of all processes are, for one that hangs. */
static void print_threads(int seat)
{
	char cmd[256];

	if (seat < 0 || !atomic_load(&ctl->p[seat].pid))
		return;
	fflush(stdout);
	snprintf(cmd, sizeof(cmd),
		 "for t in /proc/%d/task/*; do echo \"  $t $(cat $t/comm) $(cat $t/wchan)\"; "
		 "sed 's/^/    /' $t/stack; done",
		 atomic_load(&ctl->p[seat].pid));
	if (system(cmd))
		printf("  (gone)\n");
}

void report_failure(struct job *j)
{
	struct failure *f = &ctl->fail;

	while (atomic_load(&ctl->failed) != 2)
		nap_us(1000);
	if (f->kind == FAIL_OTHER) {
		print_threads(f->seat); /* where they hang, before they are stopped */
		if (j->daemon && j->daemon->pid)
			ending_print_threads(j->daemon->pid);
	}
	signal_all(j, SIGSTOP);
	printf("FAILED: seed %llu: ", (unsigned long long)j->seed);
	switch (f->kind) {
	case FAIL_BYTES:
		printf("wrong bytes in process %d (seat %d, thread %d)\n", f->pid, f->seat,
		       f->thread);
		print_page(f);
		break;
	case FAIL_CRASH:
		printf("process %d (seat %d, thread %d) crashed: %s at %#llx, instruction %#llx\n",
		       f->pid, f->seat, f->thread, f->text, (unsigned long long)f->addr,
		       (unsigned long long)f->aux);
		break;
	default:
		printf("process %d (seat %d, thread %d): %s\n", f->pid, f->seat, f->thread,
		       f->text);
	}
	if (f->pid)
		print_maps(f);
	print_history(f);
	printf("  daemon: pid %d, options", j->daemon ? (int)j->daemon->pid : 0);
	for (int i = 0; j->daemon_args[i]; i++)
		printf(" %s", j->daemon_args[i]);
	printf("\n");
	if (j->keep) {
		printf("everything is stopped (TORTURE_KEEP); schedule: %d\n", getpid());
		fflush(stdout);
		for (;;) { /* the kernel continues stopped processes of an orphaned group */
			signal_all(j, SIGSTOP);
			atomic_store(&ctl->alive_ms, now_ms());
			nap_us(10000);
		}
	}
	report_end(j, "FAILED");
	fflush(stdout);
	kill_everything(j);
	_exit(1);
}

/* ---- the end ---- */

static uint64_t total_op(enum op op)
{
	uint64_t n = atomic_load(&ctl->lived[op]);

	for (int i = 0; i < SEATS; i++)
		for (int k = 0; k < THREADS; k++)
			if (atomic_load(&ctl->p[i].state) != SEAT_FREE)
				n += ctl->p[i].t[k].ops[op];
	return n;
}

uint64_t total_checks(void)
{
	return atomic_load(&ctl->lived_checks);
}

void report_end(struct job *j, const char *verdict)
{
	uint64_t all = 0, samples = atomic_load(&ctl->lived_frame_samples);

	printf("seed %llu: operations by kind:", (unsigned long long)j->seed);
	for (int i = 0; i < OP_NR; i++) {
		uint64_t n = total_op((enum op)i);

		printf("%s%s %llu", i % 8 ? ", " : "\n    ", op_names[i], (unsigned long long)n);
		all += n;
	}
	printf("\nseed %llu: %s: %llu operations, %llu pages checked (%llu MiB), %llu%% of those "
	       "sampled on frames;\n    pages merged %llu, CoW breaks %llu, at rest %llu of %llu "
	       "pages on frames; daemon killed %llu, ended %llu, stopped %llu;\n    actors started "
	       "%llu, killed %llu, stopped %llu; knobs %llu, questions %llu, run 2 %llu, audits "
	       "%llu;\n    moves %llu, by the kernel %llu, nodes emptied %llu, ranges drained "
	       "%llu, compacted %llu, pages moved %llu, frames %llu; mismatches %d\n",
	       (unsigned long long)j->seed, verdict, (unsigned long long)all,
	       (unsigned long long)total_checks(),
	       (unsigned long long)(atomic_load(&ctl->lived_bytes) >> 20),
	       (unsigned long long)(samples ?
					    atomic_load(&ctl->lived_frame_checks) * 100 / samples :
					    0),
	       (unsigned long long)j->merged.all, (unsigned long long)j->cow_breaks.all,
	       (unsigned long long)j->pages_on_frames, (unsigned long long)j->pages_offered,
	       (unsigned long long)j->kills, (unsigned long long)j->terms,
	       (unsigned long long)j->stops, (unsigned long long)j->spawned,
	       (unsigned long long)j->actor_kills, (unsigned long long)j->actor_stops,
	       (unsigned long long)j->knob_stores, (unsigned long long)j->queries,
	       (unsigned long long)j->unmerges, (unsigned long long)j->calms,
	       (unsigned long long)j->moves, (unsigned long long)j->kernel_moves,
	       (unsigned long long)j->empties, (unsigned long long)j->drains,
	       (unsigned long long)j->compactions, (unsigned long long)j->migrated.all,
	       (unsigned long long)j->frames_moved.all, ctl->fail.kind != FAIL_NONE);
}

bool op_is_missing(enum op op)
{
	return !total_op(op) && !atomic_load(&ctl->lacks[op]);
}

unsigned int report_coverage(void)
{
	unsigned int missing = 0;

	for (int i = 0; i < OP_NR; i++) {
		if (op_is_missing((enum op)i)) {
			printf("never ran: %s\n", op_names[i]);
			missing++;
		} else if (!total_op((enum op)i)) {
			printf("SKIP: %s: the machine says %s\n", op_names[i],
			       strerrorname_np((int)atomic_load(&ctl->lacks[i])));
		}
	}
	return missing;
}
