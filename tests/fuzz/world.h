/* SPDX-License-Identifier: MIT */
/* world.h - a whole daemon without threads, on the kernel of os.h; and the bytes of an input. */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include "daemon/daemon.h"
#include "daemon/groups.h"
#include "os.h"

struct input {
	const uint8_t *p, *end;
};
/* 0 when the input is used up. */
uint8_t take8(struct input *in);
uint16_t take16(struct input *in);
uint32_t take32(struct input *in);

struct world {
	struct daemon d;
	struct groups groups;
	struct control *control;
	struct loop loop; /* the main thread's */
	struct os_file *client_listen, *control_listen;
};

/* Once per process. */
void world_init(void);
/* Returns false when an injected fault kept the daemon from starting; nothing is left then. */
bool world_start(struct world *w, enum domain_mode mode, int nr_nodes);
/* SIGTERM: clients keep what they have. No descriptor of the daemon's may be left. */
void world_stop(struct world *w);
/* A turn of the client thread, and of the main thread. */
void world_clients(struct world *w);
void world_control(struct world *w);
/* The scan thread: some work, or its part in unmerging everything. */
void world_scan(struct world *w, int64_t budget, bool flush_all);
/* Every engine's invariants. */
void world_check(struct world *w);

#endif
