/* SPDX-License-Identifier: MIT */
/* session_info.h - a client tells of itself (INFO, FORKS), and asks what is known of it (STAT). */
#ifndef KSMD_SESSION_INFO_H
#define KSMD_SESSION_INFO_H

#include "daemon/session.h"

void session_info(struct session *s, const union ksm_msg *msg);
void session_info_forks(struct session *s, const union ksm_msg *msg);
void session_info_stat(struct session *s, const union ksm_msg *msg);

#endif
