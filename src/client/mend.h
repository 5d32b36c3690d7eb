/* SPDX-License-Identifier: MIT */
/* mend.h - see to it that pages can go back where frames could not be mapped over them. */
#ifndef KSM_MEND_H
#define KSM_MEND_H

#include <stddef.h>
#include <stdint.h>

#include "client/as.h"
#include "client/kit.h"

/*
 * The mapping of frames over [at, at + len), which is registered for missing pages, failed with
 * err. Where that left a hole, map anonymous memory there that is registered likewise; this repeats
 * what fails for want of memory. Sealed memory is left as it is, and not offered from now on.
 * Returns the result of the pages: KSM_RES_GONE for sealed ones, or KSM_RES_NOMEM. Context: the
 * agent in a transaction.
 */
enum ksm_res mend_failed_map(const struct kit *k, uint64_t at, size_t len, long err) NEEDS(as.lock);

#endif
