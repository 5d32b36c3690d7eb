/* SPDX-License-Identifier: MIT */
/*
 * outside.c - the process that writes to actors' memory from outside, as debuggers do: with
 * process_vm_writev(2) and through /proc/PID/mem. It has no memory of its own to offer.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "tests/torture/schedule.h"

static int32_t through_mem(struct mail *m)
{
	char path[64];
	uint64_t done = 0;
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", m->pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* EIO, or fewer bytes than asked for: a page is just being moved (see ops_io.c). */
	for (int tries = 0; done < m->len && tries < 5000; tries++) {
		uint8_t *data = m->data + done;
		off_t at = (off_t)(m->addr + done);

		n = m->kind == MAIL_READ ? pread(fd, data, m->len - done, at) :
					   pwrite(fd, data, m->len - done, at);
		if (n < 0 && errno != EIO)
			break;
		if (n > 0)
			done += (uint64_t)n;
		else
			nap_us(100);
	}
	if (done < m->len)
		n = n < 0 ? -errno : -EIO;
	else
		n = (ssize_t)done;
	close(fd);
	return (int32_t)n;
}

static int32_t through_vm(struct mail *m)
{
	struct iovec from = { m->data, m->len }, to = { (void *)(uintptr_t)m->addr, m->len };
	ssize_t n = process_vm_writev(m->pid, &from, 1, &to, 1, 0);

	return n < 0 ? -errno : (int32_t)n;
}

static void serve(struct mail *m)
{
	m->res = m->kind == MAIL_VM_WRITE ? through_vm(m) : through_mem(m);
	atomic_store(&m->state, MAIL_DONE);
	syscall(SYS_futex, &m->state, FUTEX_WAKE, 1);
}

void outside_main(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (atomic_load(&ctl->phase) != PHASE_STOP || seats_live()) {
		uint32_t bell = atomic_load(&ctl->mail_bell);
		struct timespec ts = { 0, 50000000 };

		for (int i = 0; i < SEATS; i++)
			for (int k = 0; k < THREADS; k++) {
				struct mail *m = &ctl->p[i].t[k].mail;

				if (atomic_load(&m->state) == MAIL_ASKED)
					serve(m);
			}
		syscall(SYS_futex, &ctl->mail_bell, FUTEX_WAIT, bell, &ts);
	}
	_exit(0);
}
