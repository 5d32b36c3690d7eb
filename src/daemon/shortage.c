/* SPDX-License-Identifier: MIT */
/*
 * shortage.c - see shortage.h.
 *
 * Merging costs CPU, and what is merged has to be copied when it is written. A machine with memory
 * to spare gains nothing from it. So the operator can have it wait: until less than so much is
 * available, which /proc/meminfo says, or until programs wait for memory, of which the kernel tells
 * (pressure stall information). Either is enough.
 *
 * Nothing here costs anything while the knobs are 0. The kernel's telling is an event of the main
 * thread's loop; /proc/meminfo is read once a second, while clients are being scanned (30 us).
 *
 * The kernel tells at most once in two seconds, and only while programs wait. What is done about it
 * takes longer, and would end with the pressure that it ends. So memory stays short for a while.
 */
#include "daemon/shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/log.h"
#include "base/span.h"
#include "daemon/bell.h"

/* Multiples of two seconds need no privilege (Linux 6.5). */
#define WINDOW_US 2000000u
#define STAYS_SHORT_MS 10000u

struct shortage_memory shortage_memory(void)
{
	struct shortage_memory m = { 0 };
	const struct {
		const char *name;
		uint64_t *to;
	} want[] = {
		{ "MemTotal:", &m.total },
		{ "MemAvailable:", &m.available },
		{ "SwapFree:", &m.swap_free },
	};
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128], name[32];
	uint64_t kib;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%31s %" SCNu64, name, &kib) != 2)
			continue;
		for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
			if (!strcmp(name, want[i].name))
				*want[i].to = kib << 10;
	}
	if (f)
		fclose(f);
	return m;
}

void shortage_init(struct shortage *s, const char *path, struct loop *l, struct bell *scan_bell,
		   uint32_t kick, struct account_table *accounts)
{
	*s = (struct shortage){
		.path = path,
		.scan_bell = scan_bell,
		.kick = kick,
		.accounts = accounts,
		.loop = l,
		.trigger.fd = -1,
	};
}

static void stop_watching(struct shortage *s)
{
	if (s->trigger.fd < 0)
		return;
	loop_unwatch(&s->trigger);
	close(s->trigger.fd);
	s->trigger.fd = -1;
}

void shortage_deinit(struct shortage *s)
{
	stop_watching(s);
}

static void on_pressure(struct loop_watch *w, uint32_t events)
{
	struct shortage *s = container_of(w, struct shortage, trigger);

	if (events & (EPOLLERR | EPOLLHUP)) {
		log_msg(LOG_WARNING, "%s is gone: memory counts as short from now on", s->path);
		stop_watching(s);
		s->pressed_until_ms = CLOCK_NEVER;
	} else {
		s->pressed_until_ms = clock_ms() + STAYS_SHORT_MS;
	}
	bell_ring(s->scan_bell, s->kick);
}

/* A descriptor that has EPOLLPRI when programs wait so much; or -errno. */
static int open_trigger(const char *path, uint32_t percent)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "some %u %u", WINDOW_US / 100 * percent, WINDOW_US);
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), err;

	if (fd < 0)
		return errno == ENOENT ? -EOPNOTSUPP : -errno;
	if (write(fd, text, (size_t)len + 1) == len + 1)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

int shortage_watch(struct shortage *s, uint32_t percent)
{
	int fd = -1, err = 0;

	if (percent)
		fd = open_trigger(s->path, percent);
	if (percent && fd < 0)
		return fd;
	stop_watching(s);
	s->pressed_until_ms = 0;
	if (fd < 0)
		return 0;
	err = loop_watch(s->loop, &s->trigger, fd, EPOLLPRI, on_pressure);
	if (err) {
		close(fd);
		s->trigger.fd = -1;
	}
	return err;
}

static void limit_debt(struct shortage *s, const struct shortage_memory *m)
{
	uint32_t percent = s->debt_percent;

	if (percent)
		account_limit(s->accounts, ACCOUNT_DEBT_BYTES,
			      (m->available + m->swap_free) / 100 * percent);
}

void shortage_debt(struct shortage *s, uint32_t percent)
{
	struct shortage_memory m = shortage_memory();

	s->debt_percent = percent;
	limit_debt(s, &m);
}

/* Look at the memory, if that was long enough ago. */
static void look(struct shortage *s, uint32_t below, uint64_t now_ms)
{
	struct shortage_memory m;

	if (s->looked_ms && s->below == below && now_ms - s->looked_ms < SHORTAGE_LOOK_MS)
		return;
	s->looked_ms = now_ms;
	s->below = below;
	m = shortage_memory();
	limit_debt(s, &m);
	if (below & KNOB_PERCENT)
		s->few = m.available < m.total / 100 * (below & ~KNOB_PERCENT);
	else
		s->few = m.available < (uint64_t)below << 20;
	s->few = s->few || !m.total; /* not known: then nothing is held back for it */
}

bool shortage_holds(struct shortage *s, const struct ksm_knobs *k, uint64_t now_ms)
{
	uint32_t below = knob_get(k, KNOB_MERGE_BELOW_AVAILABLE);
	bool wanted = false, is_short = false;

	if (below || s->debt_percent)
		look(s, below, now_ms);
	else
		s->looked_ms = 0;
	if (below) {
		wanted = true;
		is_short = s->few;
	}
	if (knob_get(k, KNOB_MERGE_ON_PRESSURE)) {
		wanted = true;
		is_short = is_short || now_ms < s->pressed_until_ms;
	}
	s->held = wanted && !is_short;
	return s->held;
}
