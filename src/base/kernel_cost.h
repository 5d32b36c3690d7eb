/* SPDX-License-Identifier: MIT */
/* kernel_cost.h - memory that the kernel takes for what a process does. */
#ifndef KSM_KERNEL_COST_H
#define KSM_KERNEL_COST_H

/*
 * Of one more mapping. /proc/slabinfo of Linux 6.18 on x86-64, while 48,000 mappings were made:
 * 192 bytes of vm_area_struct and 40 of maple_node. Pieces of private memory that mappings part
 * from each other take 64 more each (anon_vma_chain), which is not counted.
 */
#define KERNEL_VMA_BYTES 232
#define KERNEL_VMA_BYTES_TEXT "232" /* in help texts */
_Static_assert(KERNEL_VMA_BYTES == 232, "KERNEL_VMA_BYTES_TEXT says so");

#endif
