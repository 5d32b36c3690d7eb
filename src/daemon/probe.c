/* SPDX-License-Identifier: MIT */
/*
 * probe.c - see probe.h. It tries each feature instead of comparing the kernel's version, because a
 * distribution may have backported the feature or built without it.
 */
#include "daemon/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/kernel_abi.h"
#include "wire/wire.h"

static bool probe_page_size(void)
{
	long size = sysconf(_SC_PAGESIZE);

	if (size == KSM_PAGE_SIZE)
		return true;
	log_msg(LOG_ERROR, "pages here are %ld bytes; only %u is supported", size, KSM_PAGE_SIZE);
	return false;
}

static bool probe_pagemap_scan(void)
{
	struct kabi_page_region vec[1];
	struct kabi_pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = page_down((uintptr_t)vec),
		.end = page_down((uintptr_t)vec) + KSM_PAGE_SIZE,
		.vec = (uintptr_t)vec,
		.vec_len = 1,
		.category_mask = KABI_PAGE_IS_PRESENT,
		.return_mask = KABI_PAGE_IS_PRESENT,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), err = 0;

	if (fd < 0) {
		log_msg(LOG_ERROR, "cannot open /proc/self/pagemap (%s)%s", strerror(errno),
			errno == ENOENT ? ": mount procfs on /proc" : "");
		return false;
	}
	if (ioctl(fd, KABI_PAGEMAP_SCAN, &arg) < 0)
		err = errno;
	close(fd);
	if (err == ENOTTY)
		log_msg(LOG_ERROR,
			"the PAGEMAP_SCAN ioctl is missing (%s): it came with Linux 6.7; "
			"run a kernel at least that new",
			strerror(err));
	else if (err)
		log_msg(LOG_ERROR, "PAGEMAP_SCAN of /proc/self/pagemap: %s", strerror(err));
	return !err;
}

/* Does the kernel have the device, whatever /dev has? */
static bool kernel_has_device(void)
{
	char buf[4096];
	int fd = open("/proc/misc", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	buf[n < 0 ? 0 : n] = '\0';
	return strstr(buf, " userfaultfd\n");
}

/* err: why /dev/userfaultfd cannot be opened. It is not there, not ours, or the kernel's is not. */
static void say_why_no_device(int err)
{
	if (err == EPERM) /* the file's mode would be EACCES */
		log_msg(LOG_ERROR,
			"this container or service may not open /dev/userfaultfd (%s): allow the "
			"device (--device /dev/userfaultfd; DeviceAllow=/dev/userfaultfd rw)",
			strerror(err));
	else if (err == EACCES)
		log_msg(LOG_ERROR,
			"user %u has no access to /dev/userfaultfd (%s): let root run `setfacl "
			"-m u:%u:rw /dev/userfaultfd`, or have a udev rule give it to a user or "
			"group, as 60-ksmd-user.rules does",
			geteuid(), strerror(err), geteuid());
	else if (err != ENOENT && err != ENXIO && err != ENODEV)
		log_msg(LOG_ERROR, "cannot open /dev/userfaultfd: %s", strerror(err));
	else if (kernel_has_device())
		log_msg(LOG_ERROR,
			"cannot open /dev/userfaultfd (%s), although the kernel has it: pass the "
			"device into this container (--device /dev/userfaultfd), or run the daemon "
			"outside and bind-mount its directory",
			strerror(err));
	else
		log_msg(LOG_ERROR,
			"cannot open /dev/userfaultfd (%s): it came with Linux 6.1; run a "
			"kernel at least that new, built with CONFIG_USERFAULTFD",
			strerror(err));
}

static int open_userfaultfd_device(void)
{
	int fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		say_why_no_device(errno);
	return fd;
}

/* One feature at a time, since asking for an unknown one fails without saying which. */
static bool probe_feature(int dev, uint64_t feature, const char *name, const char *since)
{
	struct uffdio_api api = { .api = UFFD_API, .features = feature };
	int fd = ioctl(dev, KABI_USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK), err = 0;

	if (fd < 0) {
		log_msg(LOG_ERROR, "/dev/userfaultfd makes no userfaultfd: %s", strerror(errno));
		return false;
	}
	if (ioctl(fd, UFFDIO_API, &api))
		err = errno;
	close(fd);
	if (err)
		log_msg(LOG_ERROR,
			"userfaultfd lacks %s: it came with Linux %s; run a kernel at least "
			"that new, on x86-64 or arm64",
			name, since);
	return !err;
}

int probe_kernel(void)
{
	int dev;

	if (!probe_page_size() || !probe_pagemap_scan())
		return -1;
	dev = open_userfaultfd_device();
	if (dev < 0)
		return -1;
	if (probe_feature(dev, KABI_UFFD_FEATURE_WP_UNPOPULATED, "WP_UNPOPULATED", "6.4") &&
	    probe_feature(dev, KABI_UFFD_FEATURE_WP_ASYNC, "WP_ASYNC", "6.7") &&
	    probe_feature(dev, KABI_UFFD_FEATURE_MOVE, "MOVE", "6.8"))
		return dev;
	close(dev);
	return -1;
}
