/* SPDX-License-Identifier: MIT */
/* version.h - the version that daemon and tools report. */
#ifndef KSM_VERSION_H
#define KSM_VERSION_H

#define KSM_VERSION "0.1.0"

#endif
