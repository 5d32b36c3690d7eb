/* SPDX-License-Identifier: MIT */
/* view.h - see view.c. */
#ifndef KSM_PRELOAD_VIEW_H
#define KSM_PRELOAD_VIEW_H

/* Looks the C library's functions up before somebody needs them where that is not allowed. */
void view_resolve(void);

#endif
