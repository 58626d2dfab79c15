"""Runs a Linux program on an emulated processor: Bochs', as a library (bochscpu-python). System calls are answered here.

    python program.py PROGRAM ARGUMENT...

No operating system is booted. The program has one address space that is never unmapped, one thread, files to read, and a terminal to
write to, which is enough for a test binary. Ends with the program's status, or 70 if the processor stopped.
"""

import ctypes
import mmap
import os
import struct
import sys
import time

import bochscpu
import bochscpu.cpu
import bochscpu.memory

PAGE = 4096
# One piece of memory, and what lies where in it.
BASE, SIZE, PHYSICAL = 0x1000_0000, 1 << 30, 0x4000_0000
CALLED, PROGRAM, LOADER, BREAK, ARENA = (BASE + at for at in (0x9000, 0x100_0000, 0x400_0000, 0x600_0000, 0x800_0000))
STACK = BASE + 0xFFF000
PAGE_TABLE = 0x1_0000

DIED = 70
EINVAL, ENOENT, EBADF, ENOMEM, EAGAIN, ENOSYS = 22, 2, 9, 12, 11, 38
# Answered with 0: protections, signals, futexes of a single thread, limits and the like change nothing here.
HARMLESS = {7, 10, 11, 13, 14, 24, 28, 35, 72, 131, 202, 230, 273, 302}


class Memory:
    """The program's memory, which the processor reads and writes in place."""

    def __init__(self):
        self.bytes = mmap.mmap(-1, SIZE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))
        # Kept: the processor walks it where it is.
        self.table = bochscpu.memory.PageMapLevel4Table()
        for at in range(0, SIZE, PAGE):
            bochscpu.memory.page_insert(PHYSICAL + at, address + at)
            self.table.insert(BASE + at, PHYSICAL + at, 1)
        for page, physical in self.table.commit(PAGE_TABLE):
            bochscpu.memory.page_insert(physical, page)

    def write(self, at, data):
        self.bytes[at - BASE : at - BASE + len(data)] = data

    def read(self, at, count):
        return self.bytes[at - BASE : at - BASE + count]

    def text(self, at):
        end = self.bytes.find(b"\0", at - BASE)
        return self.bytes[at - BASE : end].decode()


class Elf:
    """An executable or a shared object, loaded at an address."""

    def __init__(self, memory, path, at):
        with open(path, "rb") as file:
            data = file.read()
        entry, headers = struct.unpack_from("<QQ", data, 24)
        (self.count,) = struct.unpack_from("<H", data, 56)
        self.entry, self.headers, self.loader = at + entry, at + headers, None
        for header in range(self.count):
            kind, _, offset, address, _, in_file, _, _ = struct.unpack_from("<IIQQQQQQ", data, headers + 56 * header)
            if kind == 1:
                memory.write(at + address, data[offset : offset + in_file])
            elif kind == 3:
                self.loader = data[offset : offset + in_file - 1].decode()


def start(memory, arguments, environment):
    """Loads the program as Linux does; returns where it begins and its stack."""
    program = Elf(memory, arguments[0], PROGRAM)
    first = Elf(memory, program.loader, LOADER).entry if program.loader else program.entry
    stack = STACK

    def push(data):
        nonlocal stack
        stack -= len(data)
        memory.write(stack, data)
        return stack

    random = push(os.urandom(16))
    given = [push(text.encode() + b"\0") for text in arguments]
    known = [push(text.encode() + b"\0") for text in environment]
    auxiliary = {3: program.headers, 4: 56, 5: program.count, 6: PAGE, 7: LOADER, 9: program.entry, 25: random, 31: given[0]}
    # No user and no group, 100 ticks a second, not more than its user may.
    auxiliary |= {11: 0, 12: 0, 13: 0, 14: 0, 16: 0xBFEB_FBFF, 17: 100, 23: 0}
    words = [len(given), *given, 0, *known, 0]
    words += [word for pair in auxiliary.items() for word in pair] + [0, 0]
    stack = (stack - 8 * len(words)) & ~15
    memory.write(stack, struct.pack(f"<{len(words)}Q", *words))
    return first, stack


class Calls:
    """Linux' system calls, as far as a test binary needs them."""

    def __init__(self, session, memory):
        self.session, self.memory = session, memory
        self.end, self.free = BREAK, ARENA

    def answer(self, number, a, b, c, d, e, f):
        """The result, or a negative error number."""
        named = {
            0: lambda: self.pread(a, b, c, None),
            1: lambda: self.output(a, self.memory.read(b, c)),
            3: lambda: os.close(a) or 0,
            5: lambda: self.status(a, b),
            9: lambda: self.map(a, b, d, e, f),
            12: lambda: self.grow(a),
            17: lambda: self.pread(a, b, c, d),
            20: lambda: self.output(a, b"".join(self.memory.read(*self.pair(b + 16 * at)) for at in range(c))),
            39: lambda: 1,
            # No threads: the test harness then runs each test itself.
            56: lambda: -EAGAIN,
            60: lambda: self.leave(a),
            158: lambda: self.thread_pointer(a, b),
            186: lambda: 1,
            204: lambda: self.put(c, b"\x01" + bytes(7)),
            218: lambda: 1,
            228: lambda: self.put(b, struct.pack("<QQ", *divmod(time.monotonic_ns(), 10**9))) and 0,
            231: lambda: self.leave(a),
            257: lambda: self.open(self.memory.text(b)),
            262: lambda: -ENOENT if self.memory.text(b) else self.status(a, c),
            318: lambda: self.put(a, os.urandom(b)),
        }
        if number in named:
            return named[number]()
        return 0 if number in HARMLESS else -ENOSYS

    def put(self, at, data):
        self.memory.write(at, data)
        return len(data)

    def pair(self, at):
        return struct.unpack("<QQ", self.memory.read(at, 16))

    def output(self, file, data):
        return os.write(file, data) if file in (1, 2) else -EBADF

    def pread(self, file, to, count, offset):
        return self.put(to, os.read(file, count) if offset is None else os.pread(file, count, offset))

    def open(self, path):
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            return -error.errno

    def status(self, file, to):
        of = os.fstat(file)
        fields = (of.st_dev, of.st_ino, 1, of.st_mode, 0, 0, 0, 0, of.st_size, PAGE, 0)
        self.memory.write(to, struct.pack("<QQQIIIIQQQQ", *fields) + bytes(60))
        return 0

    def grow(self, to):
        if to:
            self.memory.write(self.end, bytes(max(0, to - self.end)))
            self.end = to
        return self.end

    def map(self, at, count, flags, file, offset):
        fixed, anonymous = flags & 0x10, flags & 0x20
        if not fixed:
            at = self.free
            self.free += (count + 0x1F_FFFF) & ~(PAGE - 1)
        if at + count > BASE + SIZE:
            return -ENOMEM
        self.memory.write(at, bytes(count))
        if not anonymous:
            self.memory.write(at, os.pread(file, count, offset))
        return at

    def thread_pointer(self, what, to):
        if what != 0x1002:
            return -EINVAL
        state = self.session.cpu.state
        state.fs = segment(code=False, base=to)
        self.session.cpu.state = state
        return 0

    def leave(self, status):
        sys.stdout.flush()
        os._exit(status & 255)


def segment(code, base=0):
    made = bochscpu.Segment()
    made.present, made.base, made.limit = True, base, 0xFFFF_FFFF
    made.selector, made.attr = (0x10, 0xA09B) if code else (0x18, 0xC093)
    return made


def processor(first, stack):
    """One that stands before the program's first instruction, in 64-bit mode with all vector registers."""
    state = bochscpu.State()
    bochscpu.cpu.set_long_mode(state)
    state.cr3 = PAGE_TABLE
    # SSE with its exceptions, FS by instruction, and XSAVE.
    state.cr4 |= 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18
    state.xcr0 = 0xE7
    state.cs = segment(code=True)
    for name in ("ds", "es", "ss", "fs", "gs"):
        setattr(state, name, segment(code=False))
    state.rflags, state.mxcsr, state.mxcsr_mask = 2, 0x1F80, 0xFFFF
    state.fpcw, state.fptw = 0x37F, 0xFFFF
    state.lstar, state.star, state.sfmask = CALLED, 0x10 << 32, 0
    state.rip, state.rsp = first, stack
    session = bochscpu.Session()
    session.cpu.state = state
    return session


def main(arguments):
    if not arguments:
        sys.exit(__doc__)
    memory = Memory()
    # A system call goes to a jump to itself, and is answered before that runs.
    memory.write(CALLED, b"\xeb\xfe")
    environment = [f"{name}={os.environ[name]}" for name in ("PROPTEST_CASES",) if name in os.environ]
    session = processor(*start(memory, arguments, environment))
    calls = Calls(session, memory)

    stops, hook = [], bochscpu.Hook()

    def called(session, *_):
        stops.append("call")
        session.stop()

    def failed(session, _, vector, error):
        stops.append(f"exception {vector}, error {error}")
        session.stop()

    def missing(address):
        raise RuntimeError(f"no memory at {address:#x}")

    hook.far_branch, hook.exception = called, failed
    session.missing_page_handler = missing
    while True:
        stops.clear()
        session.run([hook])
        if stops[:1] != ["call"]:
            why = stops[0] if stops else "no reason"
            print(f"the processor stopped at {session.cpu.rip:#x}, address {session.cpu.cr2:#x}: {why}", file=sys.stderr)
            return DIED
        state = session.cpu.state
        result = calls.answer(state.rax, state.rdi, state.rsi, state.rdx, state.r10, state.r8, state.r9)
        # The call may have changed a segment.
        state = session.cpu.state
        state.rax, state.rip = result & (1 << 64) - 1, state.rcx
        session.cpu.state = state


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
