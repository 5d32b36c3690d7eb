/* SPDX-License-Identifier: MIT */
/* requests.h - what the Python program asks for, and the answers. */
#ifndef KSM_BENCH_REQUESTS_H
#define KSM_BENCH_REQUESTS_H

/* Carry out the requests that come from fd until it ends, and close it. */
void requests_serve(int fd);

#endif
