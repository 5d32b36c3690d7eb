/* SPDX-License-Identifier: MIT */
/* session_info.c - see session_info.h. */
#include "daemon/session_info.h"

#include "base/span.h"
#include "daemon/daemon.h"
#include "daemon/session_send.h"

void session_info(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_info *info = &msg->info;

	s->flags = info->flags;
	s->has_told = true;
	s->d->agents_cpu_ns += info->cpu_ns - u64_min(s->agent_cpu_ns, info->cpu_ns);
	s->agent_cpu_ns = info->cpu_ns;
	s->nameless = info->nameless;
	for (int i = 0; i < KSM_LEFT_CLIENT_NR; i++)
		s->left_out[i] = info->left_out[i];
	engine_mm_set_vmas(s->mm, info->nr_vmas, s->max_map_count);
}

void session_info_forks(struct session *s, const union ksm_msg *msg)
{
	engine_mm_forked(s->mm, msg->forks.nr);
}

void session_info_stat(struct session *s, const union ksm_msg *msg)
{
	s->stat_id = msg->stat.id;
	if (msg->stat.flags & KSM_STAT_HURRY) {
		engine_mm_hurry(s->mm);
		bell_ring(&s->d->scan_bell, SCAN_HINT);
	}
	session_want(s, WANT_STAT);
}
