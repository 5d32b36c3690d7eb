/* SPDX-License-Identifier: MIT */
/* as_domain.h - which domain the process asks for. */
#ifndef KSM_AS_DOMAIN_H
#define KSM_AS_DOMAIN_H

#include "client/as.h"

/* It stands for a name that is no label, and is none itself: no process joins anything by it. */
#define AS_DOMAIN_BAD "?"

/* Ask for this one from now on; NULL or "": for none; no label: for AS_DOMAIN_BAD. */
void as_domain_put(const char *name) NEEDS(as.lock);
/*
 * Copy it. Context: any, without the lock; a child that was copied while it changed may get
 * AS_DOMAIN_BAD.
 */
void as_domain_get(char name[KSM_LABEL_SIZE]);

#endif
