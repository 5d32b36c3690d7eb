/* SPDX-License-Identifier: MIT */
/* probe.h - does this kernel have what the service stands on? */
#ifndef KSMD_PROBE_H
#define KSMD_PROBE_H

/*
 * Returns the open /dev/userfaultfd (owned by the caller), or -1 after one line on stderr that says
 * what is missing, since which kernel it exists and how to get it.
 */
int probe_kernel(void);

#endif
