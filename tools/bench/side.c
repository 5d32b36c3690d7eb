/* SPDX-License-Identifier: MIT */
/* side.c - what is asked of either side, and where each keeps the answer. */
#include "side.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "file.h"
#include "kernel.h"
#include "message.h"

/*
 * Sizes in Linux 6.18 (mm/ksm.c with CONFIG_NUMA). /proc/slabinfo does not tell them, because the
 * kernel merges these slabs with others.
 */
enum { KSM_RMAP_ITEM_BYTES = 64, KSM_STABLE_NODE_BYTES = 64 };

const char *const side_name[SIDE_NR] = { "kernel", "ksmd-user" };

int side_start(struct side *s, int id, const struct bench_config *cfg, struct round *out)
{
	memset(s, 0, sizeof(*s));
	s->id = id;
	s->cfg = cfg;
	return id == SIDE_KERNEL ? kernel_start(cfg, &s->ksmd, out) :
				   own_daemon_start(&s->user, cfg, out);
}

void side_stop(struct side *s)
{
	if (s->id == SIDE_KERNEL)
		kernel_stop();
	else
		own_daemon_stop(&s->user);
}

int side_get(struct side *s, const char *name, uint64_t *value)
{
	char buf[128];
	int err;

	if (s->id == SIDE_KERNEL)
		return kernel_get(name, value);
	err = own_daemon_get(&s->user, name, buf, sizeof(buf));
	if (!err)
		*value = strtoull(buf, NULL, 10);
	return err;
}

int side_set(struct side *s, const char *name, const char *value)
{
	return s->id == SIDE_KERNEL ? kernel_set(name, value) :
				      own_daemon_set(&s->user, name, value);
}

int side_cpu_ns(struct side *s, uint64_t *ns)
{
	pid_t pid = s->id == SIDE_KERNEL ? s->ksmd : s->user.pid;
	clockid_t clock;
	struct timespec ts;
	int err = clock_getcpuclockid(pid, &clock);

	/* The whole process, with the threads that have ended; of ksmd the one thread. */
	if (err || clock_gettime(clock, &ts)) {
		complain("no CPU clock of process %d: %s", (int)pid, strerror(err ? err : errno));
		return err ? -err : -errno;
	}
	*ns = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
	return 0;
}

static int kernel_metadata(uint64_t *bytes)
{
	static const char *const per_page[] = { "pages_sharing", "pages_shared", "pages_unshared",
						"pages_volatile" };
	uint64_t v;

	*bytes = 0;
	for (int i = 0; i < 4; i++) {
		int err = kernel_get(per_page[i], &v);

		if (err)
			return err;
		*bytes += v * KSM_RMAP_ITEM_BYTES;
		if (i == 1)
			*bytes += v * KSM_STABLE_NODE_BYTES;
	}
	return 0;
}

static int daemon_memory(const struct own_daemon *d, const char *field, uint64_t *bytes)
{
	int err = file_of_process(d->pid, "smaps_rollup", field, bytes);

	*bytes *= 1024;
	return err;
}

/*
 * The daemon's proportional share: its own memory, and of the frames that it maps itself the part
 * that the clients' shares leave out. Frames that nobody maps show in the machine's free memory
 * only.
 */
int side_metadata(struct side *s, uint64_t *bytes)
{
	return s->id == SIDE_KERNEL ? kernel_metadata(bytes) :
				      daemon_memory(&s->user, "\nPss:", bytes);
}

/*
 * What the daemon allocated. Program text becomes resident at its first use, and says nothing about
 * pages.
 */
int side_metadata_anon(struct side *s, uint64_t *bytes)
{
	return s->id == SIDE_KERNEL ? kernel_metadata(bytes) :
				      daemon_memory(&s->user, "\nAnonymous:", bytes);
}
