/* SPDX-License-Identifier: MIT */
/*
 * as_domain.c - see as_domain.h.
 *
 * A name that is no label must not be taken for none at all: who asks for walls and mistypes them
 * is not put where there are none.
 *
 * An exec reads the name without the lock, because the process may be a raw child in which nobody
 * will ever give it back. domain_nr is odd while the name changes.
 */
#include "client/as_domain.h"

#include <string.h>

#define LOOKS 1000

void as_domain_put(const char *name)
{
	atomic_fetch_add(&as.domain_nr, 1);
	memset(as.domain, 0, sizeof(as.domain));
	if (name && *name)
		strcpy(as.domain, ksm_label_valid(name) ? name : AS_DOMAIN_BAD);
	as.domain_known = true;
	atomic_fetch_add(&as.domain_nr, 1);
}

void as_domain_get(char name[KSM_LABEL_SIZE])
{
	for (int i = 0; i < LOOKS; i++) {
		uint32_t nr = atomic_load(&as.domain_nr);

		memcpy(name, as.domain, KSM_LABEL_SIZE);
		atomic_thread_fence(memory_order_acquire);
		if (nr % 2 == 0 && nr == atomic_load(&as.domain_nr))
			return;
	}
	strcpy(name, AS_DOMAIN_BAD);
}
