#!/bin/sh
# SPDX-License-Identifier: MIT
#
# ksm-bench numa on the nodes of a virtual machine (vm.py), where the machine itself has one.
#
#	tests/numa-vm/bench.sh BUILD LAYOUT [OPTION...]
#
# Where pages lie is seen. Distances cost nothing in there, so the cost of access is the model's, as
# ever; and times are those of an emulated machine.

build=$1
layout=$2
here=$(dirname "$0")
shift 2

python=$(realpath /usr/bin/python3)
lib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
exec python3 -B "$here/vm.py" --cache "$build/vm-kernel" --limit 3600 \
	--add "$build/tests/numa-vm/init:/init" --add "$build/ksmd-user:/ksm/ksmd-user" \
	--add "$build/ksm-bench-python:/ksm/ksm-bench-python" --add "$lib:$lib" \
	--add "$python:/bin/python3" --program "$build/ksm-bench:/ksm/ksm-bench" \
	"$layout" -- numa --nodes real "$@"
