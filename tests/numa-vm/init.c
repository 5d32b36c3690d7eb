/* SPDX-License-Identifier: MIT */
/*
 * init.c - the first process of the guest: makes a system of the initramfs and runs one program.
 *
 * /etc/command has the program and its arguments, each ended by a NUL. Its exit status goes to the
 * console as "VM-EXIT n", and the machine is turned off. Modules of the kernel in /modules are
 * loaded before, in the order of their names.
 */
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { MAX_ARGS = 32 };

static void attach(const char *type, const char *at)
{
	mkdir(at, 0755);
	if (mount(type, at, type, 0, NULL))
		perror(at);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

static void load_modules(void)
{
	struct dirent **v;
	int nr = scandir("/modules", &v, NULL, alphasort);

	for (int i = 0; i < nr; i++) {
		char path[300];
		int fd;

		snprintf(path, sizeof(path), "/modules/%s", v[i]->d_name);
		fd = v[i]->d_name[0] == '.' ? -1 : open(path, O_RDONLY);
		if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0))
			perror(path);
		close(fd);
		free(v[i]);
	}
	if (nr >= 0)
		free(v);
}

/* The network that a machine without one has. */
static void loop_up(void)
{
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r))
		perror("lo");
	close(fd);
}

static void open_console(void)
{
	int fd = open("/dev/ttyS0", O_RDWR);
	struct termios t;

	if (fd < 0)
		return;
	if (!tcgetattr(fd, &t)) {
		cfmakeraw(&t);
		tcsetattr(fd, TCSANOW, &t);
	}
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static int run(void)
{
	static char text[4096];
	char *argv[MAX_ARGS + 1] = { NULL }, *at = text;
	FILE *f = fopen("/etc/command", "r");
	size_t len = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	int status = -1;
	pid_t pid, ended;

	for (int i = 0; i < MAX_ARGS && at < text + len; i++, at += strlen(at) + 1)
		argv[i] = at;
	if (f)
		fclose(f);
	pid = fork();
	if (!pid) {
		setsid();
		execv(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	/* Orphans come here, too. */
	while ((ended = wait(&status)) != pid && ended > 0)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void)
{
	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	open_console();
	attach("proc", "/proc");
	attach("sysfs", "/sys");
	attach("tmpfs", "/tmp");
	attach("tmpfs", "/run");
	attach("tmpfs", "/dev/shm");
	chmod("/tmp", 01777);
	attach("cgroup2", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset +memory");
	/*
	 * With the first cpuset the kernel changes its own code. Emulated CPUs that run it at that
	 * moment may see a breakpoint that is no longer there, and the guest panics. So there is
	 * one from the start on, while nobody else runs.
	 */
	mkdir("/sys/fs/cgroup/kept", 0755);
	put("/proc/sys/kernel/numa_balancing", "0");
	load_modules();
	loop_up();
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/", 1);
	setenv("KSM_BUILD", "/ksm", 1);
	printf("\nVM-EXIT %d\n", run());
	fflush(stdout);
	tcdrain(1);
	reboot(RB_POWER_OFF);
	return 0;
}
