/* SPDX-License-Identifier: MIT */
/*
 * kernel_abi.h - kernel interfaces newer than the C library's headers.
 *
 * Debian 12 ships headers of Linux 6.1. UFFDIO_MOVE came with 6.8, PAGEMAP_SCAN and
 * UFFD_FEATURE_WP_ASYNC with 6.7, PR_SET_MEMORY_MERGE with 6.4. Values are from
 * include/uapi/linux/{userfaultfd,fs,prctl}.h of Linux 6.12; they are ABI and do not change. KABI_
 * marks what newer headers declare, too, so that both may be included.
 */
#ifndef KSM_KERNEL_ABI_H
#define KSM_KERNEL_ABI_H

#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define KABI_USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#define KABI_UFFD_FEATURE_WP_UNPOPULATED (1ull << 13)
#define KABI_UFFD_FEATURE_WP_ASYNC (1ull << 15)
#define KABI_UFFD_FEATURE_MOVE (1ull << 16)

#define KABI_UFFDIO_MOVE_MODE_DONTWAKE 1ull
struct kabi_uffdio_move {
	uint64_t dst, src, len, mode;
	int64_t move; /* the kernel answers: bytes moved, or a negative errno */
};
#define KABI_UFFDIO_MOVE _IOWR(0xAA, 0x05, struct kabi_uffdio_move)

/* Linux 6.6 */
struct kabi_uffdio_poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};
#define KABI_UFFDIO_POISON _IOWR(0xAA, 0x08, struct kabi_uffdio_poison)

/* An entry of /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst. */
#define KABI_PM_EXCLUSIVE (1ull << 56) /* one mapping maps the page, and that is this one */
#define KABI_PM_FILE (1ull << 61)
#define KABI_PM_SWAPPED (1ull << 62)
#define KABI_PM_PRESENT (1ull << 63)

#define KABI_PAGE_IS_WPALLOWED (1u << 0)
#define KABI_PAGE_IS_WRITTEN (1u << 1)
#define KABI_PAGE_IS_FILE (1u << 2)
#define KABI_PAGE_IS_PRESENT (1u << 3)
#define KABI_PAGE_IS_SWAPPED (1u << 4)
#define KABI_PAGE_IS_PFNZERO (1u << 5)
#define KABI_PAGE_IS_HUGE (1u << 6)
#define KABI_PR_SET_VMA 0x53564d41
#define KABI_PR_SET_VMA_ANON_NAME 0
#define KABI_PM_SCAN_WP_MATCHING (1u << 0)
#define KABI_PM_SCAN_CHECK_WPASYNC (1u << 1) /* EPERM where changes are not tracked */
struct kabi_page_region {
	uint64_t start, end, categories;
};
struct kabi_pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define KABI_PAGEMAP_SCAN _IOWR('f', 16, struct kabi_pm_scan_arg)

/* Which mapping is at an address? Linux 6.11. The last two fields stay 0: no build id is wanted. */
struct kabi_procmap_query {
	uint64_t size, query_flags, query_addr;
	uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset; /* answered */
	uint64_t inode;
	uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
	uint64_t vma_name_addr, build_id_addr;
};
#define KABI_PROCMAP_READABLE 1u
#define KABI_PROCMAP_WRITABLE 2u
#define KABI_PROCMAP_EXECUTABLE 4u
#define KABI_PROCMAP_SHARED 8u
#define KABI_PROCMAP_QUERY_OR_NEXT 0x10u /* the next mapping, if none is at query_addr */
#define KABI_PROCMAP_FILE_BACKED 0x20u
#define KABI_PROCMAP_QUERY _IOWR('f', 17, struct kabi_procmap_query)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#define KABI_MADV_COLLAPSE 25 /* Linux 6.1 */
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif

#endif
