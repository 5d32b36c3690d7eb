#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Install the Debian packages that a target of the Makefile needs, and only when some are missing.
#
#	tools/setup.sh build|run|test|fuzz|model|deb|lint|programs|bench...
#
# Packages of servers start them on installation, which a demonstration has no business doing: a
# policy-rc.d (the interface that invoke-rc.d and deb-systemd-invoke ask) forbids it while apt
# runs, and is taken away again. A policy that the machine has already is moved aside and put back.
# KSM_NO_INSTALL=1 makes missing packages an error instead.

set -eu

BUILD='gcc libc6-dev make pkg-config liburcu-dev libxxhash-dev libnuma-dev libseccomp-dev
libsystemd-dev libfuse3-dev systemtap-sdt-dev libmicrohttpd-dev'
RUN='redis-server redis-tools python3 memcached'
TEST='check libbsd-dev nginx-light valgrind socat strace systemd bpftrace
qemu-system-x86 fish zsh mandoc procps xz-utils criu'
FUZZ='clang libclang-rt-14-dev llvm'
MODEL='spin'
DEB='debhelper dpkg-dev lintian'
LINT='clang clang-tidy clang-format'
# What `ksm-bench programs` measures, and what asks it; it does without those that cannot be had.
BENCH='postgresql nodejs nginx-light wrk'
# What tests/programs tries. It does without those that cannot be had.
PROGRAMS='redis-server redis-tools memcached postgresql mariadb-server nginx-light apache2 python3
nodejs default-jdk-headless php-cli ruby perl lua5.4 guile-3.0 erlang-base qemu-system-x86
qemu-utils sqlite3 git gcc stress-ng restic chromium chromium-sandbox'

usage()
{
	echo "usage: tools/setup.sh build|run|test|fuzz|model|deb|lint|programs|bench..." >&2
	exit 2
}

# nginx-light and its sisters give the same program.
installed()
{
	case $1 in
	nginx-light) set -- nginx-light nginx nginx-full nginx-extras nginx-core ;;
	esac
	for p in "$@"; do
		test "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed &&
			return 0
	done
	return 1
}

wanted=$BUILD
optional=0
[ $# -gt 0 ] || usage
for group in "$@"; do
	case $group in
	build) ;;
	run) wanted="$wanted $RUN" ;;
	test) wanted="$wanted $RUN $TEST $FUZZ $MODEL $DEB" ;;
	fuzz) wanted="$wanted $FUZZ check" ;;
	model) wanted="$wanted $MODEL" ;;
	deb) wanted="$wanted $DEB" ;;
	lint) wanted="$wanted $LINT" ;;
	bench) wanted="$wanted $RUN $BENCH" optional=1 ;;
	programs) wanted="$wanted $PROGRAMS" optional=1 ;;
	*) usage ;;
	esac
done

if ! command -v dpkg-query >/dev/null; then
	echo "setup: not a Debian system; these packages' equivalents are needed: $wanted" >&2
	exit 0
fi

missing=
for p in $wanted; do
	installed "$p" || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "${KSM_NO_INSTALL:-0}" = 1 ]; then
	echo "setup: missing packages:$missing" >&2
	exit $((1 - optional))
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "setup: please run as root: apt-get install$missing" >&2
		exit 1
	fi
	as_root=sudo
fi

policy=/usr/sbin/policy-rc.d
undo()
{
	if $as_root test -e "$policy.ksmd-user"; then
		$as_root mv -f "$policy.ksmd-user" "$policy"
	else
		$as_root rm -f "$policy"
	fi
}

echo "setup: installing$missing"
if [ -e "$policy" ]; then
	$as_root mv "$policy" "$policy.ksmd-user"
fi
trap undo EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
$as_root chmod 755 "$policy"

apt()
{
	$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q \
		-o DPkg::Lock::Timeout=120 "$@"
}

# The lists of packages: fetched where there are none, and again where they are too old to be of
# use.
set -- /var/lib/apt/lists/*_Packages*
[ -e "$1" ] || apt update
# shellcheck disable=SC2086
if ! apt install -y --no-install-recommends $missing; then
	apt update
	if [ "$optional" = 0 ]; then
		apt install -y --no-install-recommends $missing
	else
		for p in $missing; do
			apt install -y --no-install-recommends "$p" || echo "setup: no $p"
		done
	fi
fi
