# SPDX-License-Identifier: MIT
"""Boots Debian's cloud kernel with several NUMA nodes in QEMU, and runs one program there.

    vm.py --cache DIR --program FILE[:GUEST PATH] [--add FILE[:GUEST PATH]]... LAYOUT [ARG...]

A FILE to add may be a directory, with all that is in it, but for parts of Python's library.

LAYOUT is a word per node, joined by commas: "2x512" is a node with two CPUs and 512 MiB, "0x256"
has no CPU, "1x0" no memory. "1x+256" has none at first, and 256 MiB that the guest may take into
use and out of it (/sys/devices/system/memory), 128 at a time. Neighbouring nodes are 15 apart, and
each step further adds 6. The kernel gives nodes without CPUs the last numbers.

The guest is an initramfs that is made here: init.c, the programs, and the libraries that ldd names.
Nothing of the host is mounted, no root, network or KVM is needed. The kernel comes from its Debian
package, which is fetched and unpacked but not installed. KSM_VM_KERNEL names another file.

The guest's console comes out as it is written. The exit status is the program's; 77 with a line
"SKIP: reason" when something is missing, 124 at the time limit, 125 when the guest says no status.
"""

import argparse
import gzip
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading

PACKAGE = re.compile(r"^linux-image-(6\.1[2-9][^ ]*|[7-9]\.[^ ]*)-cloud-amd64(-unsigned)?$")
STATUS = re.compile(rb"^VM-EXIT (\d+)\s*$")
EMULATOR = "qemu-system-x86_64"
SKIPPED, TIME_IS_UP, NO_STATUS = 77, 124, 125
# Of Python's library: what takes much room, and nothing in a guest needs.
UNWANTED = {"__pycache__", "test", "tests", "site-packages", "dist-packages", "ensurepip",
            "idlelib", "lib2to3", "tkinter", "turtledemo"}
NEIGHBOUR, STEP = 15, 6  # distances; a node is 10 from itself
FILES = {
    "/etc/passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "/etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


def skip(reason):
    print("SKIP: " + reason)
    sys.exit(SKIPPED)


# ---- the kernel -----------------------------------------------------------------------------


def version_key(name):
    return [int(n) for n in re.findall(r"\d+", name)]


def fetch(package, cache):
    """Downloads and unpacks one package's kernel. None: it is not to be had."""
    with tempfile.TemporaryDirectory(dir=cache) as tmp:
        command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
        got = subprocess.run(command, cwd=tmp, capture_output=True, timeout=120, check=False)
        files = list(pathlib.Path(tmp).glob("*.deb"))
        if got.returncode or not files:
            return None
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", files[0]],
                              stdout=subprocess.PIPE) as tar:
            subprocess.run(["tar", "-x", "-C", tmp, "--wildcards", "./boot/vmlinuz-*"],
                           stdin=tar.stdout, check=False)
        for kernel in pathlib.Path(tmp, "boot").glob("vmlinuz-*"):
            return shutil.move(kernel, cache / kernel.name)
    return None


def find_kernel(cache):
    if os.environ.get("KSM_VM_KERNEL"):
        return os.environ["KSM_VM_KERNEL"]
    cache.mkdir(parents=True, exist_ok=True)
    kernels = sorted(cache.glob("vmlinuz-*"), key=lambda k: version_key(k.name))
    if kernels:
        return kernels[-1]
    if not shutil.which("apt-cache"):
        skip("no apt, from which the kernel of the guest comes")
    names = subprocess.run(["apt-cache", "pkgnames", "linux-image-"], capture_output=True,
                           text=True, check=False).stdout.split()
    packages = sorted(filter(PACKAGE.match, names), key=version_key)
    try:
        for package in packages[:-4:-1]:
            kernel = fetch(package, cache)
            if kernel:
                return kernel
    except subprocess.TimeoutExpired:
        pass
    skip("no cloud kernel of 6.12 or later can be had from apt")
    return None


# ---- the initramfs --------------------------------------------------------------------------


class Archive:
    """A cpio archive of the kind that the kernel unpacks ("newc")."""

    def __init__(self):
        self.data, self.names = bytearray(), set()

    def put(self, name, mode, body=b""):
        name = name.lstrip("/")
        for parent in reversed(pathlib.PurePosixPath(name).parents):
            if str(parent) != "." and str(parent) not in self.names:
                self.put(str(parent), stat.S_IFDIR | 0o755)
        if name in self.names:
            return
        self.names.add(name)
        fields = [len(self.names), mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name) + 1, 0]
        self.data += b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        self.pad()
        self.data += body
        self.pad()

    def pad(self):
        self.data += b"\0" * (-len(self.data) % 4)

    def add(self, path, guest):
        """A file and the libraries that it needs, each at its own path."""
        self.put(guest, stat.S_IFREG | 0o755, pathlib.Path(path).read_bytes())
        needs = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/[^ \n]+) \(0x", needs):
            self.put(library, stat.S_IFREG | 0o755, pathlib.Path(library).read_bytes())

    def add_tree(self, top, guest):
        for folder, inside, files in os.walk(top):
            inside[:] = [d for d in inside if d not in UNWANTED and not d.startswith("config-")]
            for name in files:
                path = os.path.join(folder, name)
                if ".so" in name:
                    self.add(path, guest + path[len(top):])
                elif os.path.isfile(path):
                    body = pathlib.Path(path).read_bytes()
                    self.put(guest + path[len(top):], stat.S_IFREG | 0o755, body)

    def packed(self):
        self.put("TRAILER!!!", 0)
        return gzip.compress(bytes(self.data), 1)


def make_initramfs(options):
    archive = Archive()
    for name, text in FILES.items():
        archive.put(name, stat.S_IFREG | 0o644, text.encode())
    for directory in ("proc", "sys", "dev", "tmp", "run"):
        archive.put(directory, stat.S_IFDIR | 0o755)
    for spec in [*options.add, options.program]:
        path, _, guest = spec.partition(":")
        if os.path.isdir(path):
            archive.add_tree(path, guest or path)
            continue
        archive.add(path, guest or "/bin/" + os.path.basename(path))
    path, _, guest = options.program.partition(":")
    command = [guest or "/bin/" + os.path.basename(path), *options.args]
    archive.put("/etc/command", stat.S_IFREG | 0o644, "\0".join([*command, ""]).encode())
    return archive.packed()


# ---- the machine ----------------------------------------------------------------------------


def machine(layout):
    """QEMU's arguments for the nodes of a layout."""
    args, cpus, total, later = [], 0, 0, 0
    nodes = [re.fullmatch(r"(\d+)x(\+?)(\d+)", word).groups() for word in layout.split(",")]
    for i, (cores, plus, mib) in enumerate(nodes):
        cores, mib = int(cores), int(mib)
        node = f"node,nodeid={i}"
        if cores:
            node += f",cpus={cpus}-{cpus + cores - 1}"
        if plus:
            args += ["-object", f"memory-backend-ram,id=m{i},size={mib}M",
                     "-device", f"pc-dimm,id=d{i},memdev=m{i},node={i}"]
            later, mib = later + mib, 0
        elif mib:
            args += ["-object", f"memory-backend-ram,id=m{i},size={mib}M"]
            node += f",memdev=m{i}"
        args += ["-numa", node]
        cpus, total = cpus + cores, total + mib
    for i in range(len(nodes)):
        for k in range(i + 1, len(nodes)):
            args += ["-numa", f"dist,src={i},dst={k},val={NEIGHBOUR + STEP * (k - i - 1)}"]
    room = f",slots={len(nodes)},maxmem={total + later}M" if later else ""
    return ["-m", f"{total}M{room}", "-smp", str(cpus), *args]


def accelerator():
    """KVM where the processor has it. (A /dev/kvm without the flags hangs in the decompressor.)"""
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if os.access("/dev/kvm", os.W_OK) and re.search(r"\b(vmx|svm)\b", flags):
        return ["-accel", "kvm", "-accel", "tcg"]
    return ["-accel", "tcg,thread=multi"]


# no_timer_check: on a busy machine the guest stands still for longer than the kernel allows a timer
# that works, and it panics.
def boot(options, kernel, initramfs):
    command = [
        EMULATOR, "-machine", "pc", *accelerator(), "-cpu", "max", *machine(options.layout),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-kernel", str(kernel), "-initrd", initramfs, "-append",
        "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off nokaslr tsc=unstable "
        "no_timer_check random.trust_cpu=on memhp_default_state=offline " + options.append,
    ]  # fmt: skip
    status = NO_STATUS
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as guest:
        timer = threading.Timer(options.limit, guest.send_signal, [signal.SIGKILL])
        timer.start()
        for line in guest.stdout:
            said = STATUS.match(line)
            if said:
                status = int(said.group(1))
                continue
            sys.stdout.buffer.write(line.replace(b"\r", b""))
            sys.stdout.flush()
        over = not timer.is_alive()
        timer.cancel()
    if over and status == NO_STATUS:
        print(f"vm.py:1: no end within {options.limit} s", flush=True)
        return TIME_IS_UP
    return status


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="keeps the kernel")
    parser.add_argument("--program", required=True)
    parser.add_argument("--add", action="append", default=[])
    parser.add_argument("--limit", type=int, default=300, help="seconds")
    parser.add_argument("--append", default="", help="arguments for the kernel")
    parser.add_argument("layout")
    parser.add_argument("args", nargs="*")
    options = parser.parse_args()
    if not shutil.which(EMULATOR):
        skip("no " + EMULATOR)
    kernel = find_kernel(options.cache)
    with tempfile.NamedTemporaryFile() as initramfs:
        initramfs.write(make_initramfs(options))
        initramfs.flush()
        sys.exit(boot(options, kernel, initramfs.name))


if __name__ == "__main__":
    main()
