/* SPDX-License-Identifier: MIT */
/* container.h - finds the object that holds an embedded member. */
#ifndef KSM_CONTAINER_H
#define KSM_CONTAINER_H

#include <stddef.h>

/* `ptr` points to `member` of a struct `type`; it must not be NULL. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
