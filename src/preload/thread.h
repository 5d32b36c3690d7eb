/* SPDX-License-Identifier: MIT */
/* thread.h - threads say when they are about to end. */
#ifndef KSM_PRELOAD_THREAD_H
#define KSM_PRELOAD_THREAD_H

/* In the constructor. */
void thread_resolve(void);

#endif
