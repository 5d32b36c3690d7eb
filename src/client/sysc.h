/* SPDX-License-Identifier: MIT */
/* sysc.h - the client makes its system calls without the C library: see base/sysc.h. */
#ifndef KSM_CLIENT_SYSC_H
#define KSM_CLIENT_SYSC_H

#include "base/sysc.h"

#endif
