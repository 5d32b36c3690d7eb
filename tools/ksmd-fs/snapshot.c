/* SPDX-License-Identifier: MIT */
/* snapshot.c - see snapshot.h. */
#include "tools/ksmd-fs/snapshot.h"

#include "base/clock.h"

static bool take(struct snapshot *s, unsigned int file, const char *name, struct text *out)
{
	const char *value;
	size_t len;

	if (clock_ns() >= s->until_ns || s->served >> file & 1)
		return false;
	value = talk_dumped(s->dump.data, name, &len);
	if (!value)
		return false;
	text_add(out, value, len);
	text_add(out, "\n", 1);
	s->served |= 1ull << file;
	return true;
}

uint64_t snapshot_stores(struct snapshot *s)
{
	uint64_t stores;

	pthread_mutex_lock(&s->lock);
	stores = s->stores;
	pthread_mutex_unlock(&s->lock);
	return stores;
}

bool snapshot_serve(struct snapshot *s, const struct caller *who, unsigned int file,
		    const char *name, struct text *out)
{
	bool served;

	pthread_mutex_lock(&s->lock);
	served = s->dump.data && caller_same(&s->who, who) && take(s, file, name, out);
	pthread_mutex_unlock(&s->lock);
	return served;
}

void snapshot_keep(struct snapshot *s, const struct caller *who, unsigned int file,
		   struct text *dump, uint64_t stores)
{
	pthread_mutex_lock(&s->lock);
	/* The look may have been before a store that has ended since. */
	if (s->stores == stores) {
		text_free(&s->dump);
		s->dump = *dump;
		*dump = (struct text){ 0 };
		s->who = *who;
		s->served = 1ull << file;
		s->until_ns = clock_ns() + SNAPSHOT_MS * 1000000u;
	}
	pthread_mutex_unlock(&s->lock);
	text_free(dump);
}

void snapshot_drop(struct snapshot *s)
{
	pthread_mutex_lock(&s->lock);
	s->stores++;
	s->until_ns = 0;
	pthread_mutex_unlock(&s->lock);
}
