/* SPDX-License-Identifier: MIT */
/*
 * settings.h - what ksm-run says to the preloaded object, through the environment.
 *
 * Every program that is started under ksm-run gets these again (see exec.c), so they hold for a
 * whole tree of processes. A program or a nested ksm-run that sets one itself is heard. So it is
 * with KSM_DOMAIN (label.h), which the library reads as well.
 */
#ifndef KSM_SETTINGS_H
#define KSM_SETTINGS_H

#define KSM_RUN_MODE "KSM_RUN_MODE"
#define KSM_RUN_MODE_AUTO "auto"       /* offer what memory.c says is worth it */
#define KSM_RUN_MODE_MADVISE "madvise" /* only what the program asks for */
#define KSM_RUN_MODE_OFF "off"         /* nothing; the calls go straight to the kernel */

#define KSM_RUN_MALLOC "KSM_RUN_MALLOC"
#define KSM_RUN_MALLOC_HEAP "heap"     /* all of malloc in the main heap, which is offered */
#define KSM_RUN_MALLOC_NATIVE "native" /* malloc as it is; its memory is not offered */

/* "1": memory that the program keeps out of core dumps is not offered (MADV_DONTDUMP). */
#define KSM_RUN_RESPECT_DONTDUMP "KSM_RUN_RESPECT_DONTDUMP"

/* Where ksmd-fs is mounted: the program's own /proc/self/ksm_* are found there. */
#define KSM_RUN_VIEW "KSM_RUN_VIEW"

/* "1": PR_SET_MEMORY_MERGE was in force in the process that called exec; else "0". */
#define KSM_RUN_MERGE_ANY "KSM_RUN_MERGE_ANY"

#endif
