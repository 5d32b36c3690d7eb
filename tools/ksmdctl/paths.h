/* SPDX-License-Identifier: MIT */
/* paths.h - the commands get, set and ls: what the daemon says of one path. */
#ifndef KSMDCTL_PATHS_H
#define KSMDCTL_PATHS_H

#include <stdbool.h>

struct talk;

void cmd_get(struct talk *c, const char *path, bool json);
void cmd_set(struct talk *c, const char *path, const char *text);
/* `path` may be NULL: the root. `modes`: each name after its mode, as the daemon says it. */
void cmd_ls(struct talk *c, const char *path, bool modes, bool json);

#endif
