# SPDX-License-Identifier: MIT
"""Lists the system calls of serving daemons under the functional tests, and what was refused.

Each daemon of these tests runs under strace. The filter (src/daemon/confine.c) is in force from the
line on which seccomp(2) succeeds. From there on no call may fail with EPERM, and none with ENOSYS
except clone3(2), which glibc replaces by clone(2). A daemon that waits for events without that line
fails; one that refuses to start never gets there.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SUITES = ["test_semantics", "test_memory", "test_control", "test_client_socket", "test_lifecycle"]
CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?([a-z0-9_]+)(?:\(| resumed>)(.*)$")
ERROR = re.compile(r"= -1 (EPERM|ENOSYS)\b")
TELLING = re.compile(r"^[^ :]+:[0-9]+: |:[FE]:")  # harness_die()'s lines, and Check's
WRAPPER = """#!/bin/sh
exec strace -D -f -qq -e signal=none -o {out}/$$ {daemon} "$@"
"""


def read_trace(path, calls, refused):
    """Counts the calls of one daemon. Says "confined", "free" (it served so) or "not started"."""
    confined = served = False
    daemon = None  # the witness (src/daemon/witness.c) has a filter of its own
    with open(path, encoding="utf-8", errors="replace") as trace:
        for line in trace:
            match = CALL.match(line)
            if not match:
                continue
            process, name, rest = match.groups()
            daemon = daemon or process
            # The line may break off where another process of the daemon's speaks meanwhile.
            if name == "seccomp" and "SET_MODE_FILTER" in rest and "= -1" not in rest:
                confined |= process == daemon
            elif not confined:
                served |= name in ("epoll_wait", "epoll_pwait")
            else:
                calls[name] += 1
                error = ERROR.search(rest)
                if error and (name, error.group(1)) != ("clone3", "ENOSYS"):
                    refused.append(line.strip())
    return "confined" if confined else "free" if served else "not started"


def main():
    build = pathlib.Path(sys.argv[1])
    calls, refused, failures = collections.Counter(), [], []
    with tempfile.TemporaryDirectory(prefix="ksmd-confine.") as tmp:
        out = pathlib.Path(tmp, "traces")
        out.mkdir()
        wrapper = pathlib.Path(tmp, "daemon")
        wrapper.write_text(WRAPPER.format(out=out, daemon=build / "ksmd-user"), encoding="utf-8")
        wrapper.chmod(0o755)
        for suite in SUITES:
            done = subprocess.run([build / "tests/functional" / suite], check=False,
                                  env=dict(os.environ, KSM_DAEMON=str(wrapper)),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                lines = done.stdout.splitlines()
                telling = [line for line in lines if TELLING.search(line)]
                failures.append("\n".join([f"{suite} fails under strace:", *telling[:20],
                                           "its last lines:", *lines[-20:]]))
        traces = sorted(out.iterdir())
        states = collections.Counter(read_trace(path, calls, refused) for path in traces)
    if states["confined"] < 20 or states["free"]:
        failures.append(f"of {len(traces)} daemons {dict(states)}")
    failures += [f"refused: {line}" for line in refused[:20]]
    print(f"{len(traces)} daemons made {sum(calls.values())} calls while confined:")
    print("  " + " ".join(f"{name}:{nr}" for name, nr in sorted(calls.items())))
    print("\n".join(failures) if failures else "PASS")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
