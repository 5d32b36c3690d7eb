/* SPDX-License-Identifier: MIT */
/* client_ops.h - what the engine asks of a client and of the arena: struct engine_ops. */
#ifndef KSMD_CLIENT_OPS_H
#define KSMD_CLIENT_OPS_H

#include "engine/engine.h"

/* `client` is a struct session, `arena` a struct arena. */
extern const struct engine_ops client_ops;

#endif
