# SPDX-License-Identifier: MIT
"""Guests of QEMU, whose memory it offers and keeps from its children (MADV_DONTFORK).

Three guests get the same files at different addresses. A little kernel counts in pages of their
memory and looks at what it has counted; a guest that finds another value ends QEMU with an error.
The rest of their memory is saved over the monitor and compared.
"""

import hashlib
import json
import pathlib
import socket

import tier

KERNEL = """
        .set MAGIC, 0x1badb002
        .align 4
        .long MAGIC, 0, -MAGIC
        .globl _start
_start: xorl %ecx, %ecx                 # the round before
1:      movl $0x800000, %ebx
2:      cmpl %ecx, (%ebx)
        jne 3f
        incl (%ebx)
        addl $4096, %ebx
        cmpl $0x1000000, %ebx
        jb 2b
        incl %ecx
        movl %ecx, 0x700000             # so that others see it count
        jmp 1b
3:      movl $0x7f, %eax
        outl %eax, $0xf4
        hlt
"""

FILES = 3
SIZE = 12 << 20
FIRST = 0x2000000
MEMORY = 128


class Monitor:
    def __init__(self, path, process):
        self.file = tier.wait_for("qemu's monitor", lambda: self.connect(path), process)
        self.process = process
        self.file.readline()
        self.do("qmp_capabilities")

    def connect(self, path):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(tier.PATIENCE)
        try:
            s.connect(str(path))
        except OSError:
            s.close()
            return None
        with s:
            return s.makefile("rw")

    def do(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise tier.Wrong("qemu ended" + tier.tail(self.process.log))
            answer = json.loads(line)
            if "error" in answer:
                raise tier.Wrong(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


class Qemu(tier.Program):
    name, packages = "qemu", ("qemu-system-x86", "qemu-utils", "gcc")
    needs = ("qemu-system-x86_64", "qemu-img", "as", "ld")
    merges = 2 * FILES * SIZE // 4096

    def start(self):
        r = self.r
        (r.dir / "k.s").write_text(KERNEL, encoding="ascii")
        r.do(["as", "--32", "-o", "k.o", "k.s"], plain=True)
        r.do(["ld", "-m", "elf_i386", "-Ttext=0x100000", "-o", "k", "k.o"], plain=True)
        self.data = [hashlib.shake_128(b"%d" % i).digest(SIZE) for i in range(FILES)]
        for i, data in enumerate(self.data):
            (r.dir / f"file{i}").write_bytes(data)
        self.guests = [self.guest(g) for g in range(3)]
        self.unmerged = None

    def place(self, guest, i):
        return FIRST + (i + guest) % FILES * SIZE

    def guest(self, g, *more):
        self.r.do(["qemu-img", "create", "-q", "-f", "qcow2", f"disk{g}", "64M"], plain=True)
        return self.qemu(g, f"qemu-{g}", *more)

    def qemu(self, g, name, *more):
        r = self.r
        argv = ["qemu-system-x86_64", "-accel", "tcg", "-m", str(MEMORY), "-display", "none",
                "-nodefaults", "-kernel", r.dir / "k", "-device",
                "isa-debug-exit,iobase=0xf4,iosize=0x04", "-qmp",
                f"unix:{r.dir}/{name}.qmp,server=on,wait=off", "-drive",
                f"file={r.dir}/disk{g},if=ide,format=qcow2", *more]
        for i in range(FILES):
            argv += ["-device", f"loader,file={r.dir}/file{i},addr={self.place(g, i)},"
                                "force-raw=on"]
        p = r.start(name, argv)
        p.monitor = Monitor(r.dir / f"{name}.qmp", p)
        return p

    def saved(self, g, at, size):
        path = self.r.dir / f"saved{g}"
        self.guests[g].monitor.do("pmemsave", val=at, size=size, filename=str(path))
        return path.read_bytes()

    def counted(self, g):
        return int.from_bytes(self.saved(g, 0x700000, 4), "little")

    def work(self, n):
        before = [self.counted(g) for g in range(3)]
        # All of a guest's memory to a file and back; what it counts later is lost, and it goes on.
        g = n % 3
        for command in ("savevm", "loadvm") if n % 2 else ("savevm",):
            said = self.guests[g].monitor.do("human-monitor-command", **{
                "command-line": f"{command} snap"})
            tier.expect(command, said, "")
        if n == 1:
            self.unmerged = self.guest(3, "-machine", "mem-merge=off")
            self.migrate(0, True)
            self.postcopy(1)
        for g, p in enumerate(self.guests):
            tier.wait_for("a guest that counts", lambda: self.counted(g) != before[g], p)
        self.check()

    def check(self):
        if self.unmerged:
            # Nothing of a guest that is not to be merged is, nor of its QEMU.
            maps = pathlib.Path(f"/proc/{self.unmerged.pid}/maps").read_text(encoding="ascii")
            tier.expect("frames of a guest that is not merged", "ksm-arena" in maps, False)
        for g in range(3):
            for i, data in enumerate(self.data):
                tier.expect(f"guest {g}, file {i}", self.saved(g, self.place(g, i), SIZE), data)

    def migrate(self, g, background):
        """To a file; a guest that begins with it counts on."""
        path = self.r.dir / f"migrated{g}"
        monitor = self.guests[g].monitor
        monitor.do("migrate-set-capabilities", capabilities=[
            {"capability": "background-snapshot", "state": background}])
        monitor.do("migrate-set-parameters", **{"max-bandwidth": 1 << 32})
        monitor.do("migrate", uri=f"exec:cat >{path}")
        state = tier.wait_for("a migration", lambda: self.over(monitor), self.guests[g])
        if state != "completed":
            raise tier.Wrong(f"migration: {state}")

    def postcopy(self, g):
        """To another QEMU, which fetches what it has not got yet by a userfaultfd of its own."""
        source, uri = self.guests[g], f"unix:{self.r.dir}/postcopy"
        target = self.qemu(g, f"qemu-{g}-target", "-incoming", "defer")
        for p in source, target:
            p.monitor.do("migrate-set-capabilities", capabilities=[
                {"capability": "postcopy-ram", "state": True},
                {"capability": "background-snapshot", "state": False}])
        target.monitor.do("migrate-incoming", uri=uri)
        source.monitor.do("migrate-set-parameters", **{"max-bandwidth": 1 << 22})
        source.monitor.do("migrate", uri=uri)
        tier.wait_for("pages that move", lambda: source.monitor.do("query-migrate").get(
            "ram", {}).get("transferred", 0) > 1 << 20, source)
        source.monitor.do("migrate-start-postcopy")
        state = tier.wait_for("a postcopy", lambda: self.over(source.monitor), source)
        if state != "completed":
            raise tier.Wrong(f"postcopy: {state}")
        tier.wait_for("all pages", lambda: self.over(target.monitor), target)
        source.monitor.do("quit")
        self.r.ended(source)
        self.guests[g] = target
        before = self.counted(g)
        tier.wait_for("a guest that counts", lambda: self.counted(g) != before, target)

    def over(self, monitor):
        state = monitor.do("query-migrate").get("status")
        return state if state in ("completed", "failed", "cancelled") else None

    def stop(self):
        # One is killed while the others run.
        self.guests[2].kill()
        self.guests[2].wait()
        self.migrate(0, False)
        for p in [*self.guests[:2], self.unmerged]:
            p.monitor.do("quit")
            self.r.ended(p)


ALL = [Qemu]
