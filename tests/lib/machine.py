# SPDX-License-Identifier: MIT
"""What a virtual machine needs beyond vm.py (tests/numa-vm): modules of its kernel, and our files.

A machine that has no emulator or no archive of Debian's: debian.Missing says why.
"""

import pathlib
import shutil
import subprocess
import sys

import debian
from rig import BUILD, TOP

sys.path.insert(0, str(TOP / "tests" / "numa-vm"))
import vm  # noqa: E402

OURS = ("ksmd-user", "ksmdctl", "ksm-run", "libksm-preload.so")


def _release():
    """Of the kernel that the tests on several nodes keep, too."""
    try:
        return pathlib.Path(vm.find_kernel(BUILD / "vm-kernel")).name.removeprefix("vmlinuz-")
    except SystemExit as e:
        raise debian.Missing("no cloud kernel of 6.12 or later can be had from apt") from e


def _unpacked(release, what, names):
    def make(at):
        debian.fetch("linux-image-" + release, at)
        deb = next(at.glob("*.deb"))
        wanted = [f"*/{name}.ko*" for name in names]
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as tar:
            subprocess.run(["tar", "-x", "-C", at, "--wildcards", *wanted], stdin=tar.stdout,
                           stderr=subprocess.DEVNULL, check=False)
        for packed in at.rglob("*.ko.xz"):
            debian.run(["xz", "-d", str(packed)], debian.FETCH_LIMIT)
    return debian.kept(BUILD / f"vm-modules-{what}-{release}", make)


def _files(what, modules, ours, commands):
    """Path in the guest of each file: init, modules in this order, what we built, commands."""
    found = {BUILD / "tests/numa-vm/init": "/init"}
    at = _unpacked(_release(), what, modules)
    for i, name in enumerate(modules):
        for path in at.rglob(name + ".ko"):
            found[path] = f"/modules/{i:02}-{name}.ko"
    for name in ours:
        found[BUILD / name] = "/bin/" + pathlib.Path(name).name
    for name in commands:
        found[pathlib.Path(shutil.which(name)).resolve()] = "/usr/bin/" + name
    return found


def run(layout, script, what, modules, more=(), commands=(), files=(), limit=280):
    """Runs a script for bash there, and returns what it said. `what` names the set of modules.

    Loads the modules in this order. `more`: of the build directory, beside OURS; `files`: of the
    host, by their path in the guest. limit: seconds.
    """
    for program in ("qemu-system-x86_64", "apt-get"):
        if not shutil.which(program):
            raise debian.Missing("no " + program)
    found = {**_files(what, modules, (*OURS, *more), commands), **dict(files)}
    adds = [word for path, guest in found.items() for word in ("--add", f"{path}:{guest}")]
    done = subprocess.run(
        [sys.executable, "-B", TOP / "tests/numa-vm/vm.py", "--cache", BUILD / "vm-kernel",
         "--limit", str(limit), *adds, "--program", "/bin/bash:/bin/bash", layout, "--", "-c",
         script], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, file=sys.stderr)
    return done.stdout
