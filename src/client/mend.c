/* SPDX-License-Identifier: MIT */
/*
 * mend.c - what is left where frames could not be mapped over pages that were moved out.
 *
 * The pages have to go back, so there has to be memory again that takes them. What the kernel
 * leaves behind depends on why it failed: for want of memory it may have unmapped what stood
 * there, and the hole is mended before anybody can touch it; sealed memory (mseal(2)) it refuses
 * to touch, so that the pages go back to where they were.
 */
#include "client/mend.h"

#include <errno.h>
#include <sys/mman.h>

#include "client/as.h"
#include "client/as_advice.h"
#include "client/as_queue.h"
#include "client/as_ranges.h"
#include "client/aside.h"
#include "client/sysc.h"
#include "client/uffd.h"
#include "wire/kernel_abi.h"

/*
 * Put anonymous memory where a mremap(MREMAP_FIXED) failed, so that the pages can be moved back.
 * It takes what stands at the new address away first, and may then fail for want of kernel memory
 * (not of mappings, which it checks before). mmap leaves the old mapping alone if it fails. The
 * memory may be accessed when it is registered and not before: a thread that touched it earlier
 * would find zeros where there is data.
 *
 * Threads that wait already do not notice. A thread whose first touch falls between the calls,
 * some microseconds, finds no memory that it may use, as with any mremap that fails like this:
 * docs/design.md, "Known limits". If the program itself has mapped something there by now, and
 * sealed it, there is nothing to mend.
 */
static void mend_hole(const struct kit *k, uint64_t at, size_t len) NEEDS(as.lock)
{
	const struct as_range *r = as_range_at(at);
	long err;

	for (;;) {
		err = sysc6(SYS_mmap, (long)at, (long)len, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (err == (long)at && r && !as_repeat_advice(at, at + len, r))
			err = -ENOMEM;
		if (err == (long)at)
			err = uffd_register(k->uffd_sync, at, at + len,
					    UFFDIO_REGISTER_MODE_MISSING);
		if (!err)
			err = sysc3(SYS_mprotect, (long)at, (long)len, PROT_READ | PROT_WRITE);
		if (!sysc_may_pass(err))
			return;
		sysc0(SYS_sched_yield);
	}
}

static void leave_sealed(struct as_range *r, long arg)
{
	(void)arg;
	r->left_out |= 1u << KSM_LEFT_SEALED;
}

enum ksm_res mend_failed_map(const struct kit *k, uint64_t at, size_t len, long err)
{
	if (aside_has_gap(at, at + len))
		mend_hole(k, at, len);
	else if (err == -EPERM && !as_edit(at, at + len, leave_sealed, 0))
		as_event(KSM_MSG_DEL, at, at + len);
	return err == -EPERM ? KSM_RES_GONE : KSM_RES_NOMEM;
}
