/* SPDX-License-Identifier: MIT */
/*
 * ending.c - see ending.h.
 *
 * The end waits for one thread after the other, and a thread may be held up in the kernel: by a
 * client that keeps its mmap_lock, by a debugger, by a disk that does not answer while a frame
 * comes back from swap. A manager, and whoever wants to start the next daemon, should not have to
 * guess how long that takes. So a thread of its own waits for the end of the end. When that does
 * not come it leaves the others as they are.
 *
 * It is safe because nothing that has to be in order is done at the end: clients keep what they
 * have, the kernel drops the daemon's descriptors and memory, and what is left to do is to take the
 * names of the sockets away.
 */
#include "daemon/ending.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/*
 * Beside a load of 26 on two cores the end took 0.24 s at most, whatever the clients were at. With
 * the thread sanitizer, whose run time looks up names of functions when threads end, it took 8 s.
 */
#ifdef __SANITIZE_THREAD__
#define ENDING_MS 45000
#else
#define ENDING_MS 5000
#endif

/* ---- to be told ---- */

static void on_signal(struct loop_watch *w, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)events;
	if (read(w->fd, &info, sizeof(info)) == sizeof(info))
		loop_stop(w->loop);
}

int ending_listen(struct ending *e, struct loop *l)
{
	sigset_t set;
	int fd, err;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	err = loop_watch(l, &e->signals, fd, EPOLLIN, on_signal);
	if (err)
		close(fd);
	return err;
}

void ending_deaf(struct ending *e)
{
	loop_unwatch(&e->signals);
	close(e->signals.fd);
}

/* ---- to be gone ---- */

_Noreturn void ending_without(struct runtime_dir *dir, const char *what)
{
	log_msg(LOG_WARNING, "the end takes too long (%s): it is not waited for", what);
	runtime_dir_close(dir);
	_exit(EXIT_SUCCESS);
}

static void *thread_main(void *arg)
{
	struct timespec until = clock_in_ms(ENDING_MS);
	struct ending *e = arg;
	bool late;

	lock_take(&e->lock);
	while (!e->over && pthread_cond_timedwait(&e->wake, &e->lock.m, &until) != ETIMEDOUT)
		;
	late = !e->over;
	lock_give(&e->lock);
	if (late)
		ending_without(e->dir, e->at);
	return NULL;
}

void ending_begin(struct ending *e, struct runtime_dir *dir)
{
	pthread_condattr_t attr;

	e->dir = dir;
	e->at = "daemon";
	lock_init(&e->lock);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&e->wake, &attr);
	pthread_condattr_destroy(&attr);
	/* If there is no memory for it, the end takes as long as it takes. */
	e->watched = !pthread_create(&e->thread, NULL, thread_main, e);
	if (e->watched)
		pthread_setname_np(e->thread, "ksmd-end");
}

void ending_over(struct ending *e)
{
	if (!e->watched)
		return;
	lock_take(&e->lock);
	e->over = true;
	pthread_cond_signal(&e->wake);
	lock_give(&e->lock);
	pthread_join(e->thread, NULL);
	pthread_cond_destroy(&e->wake);
	lock_deinit(&e->lock);
}
