"""Copies a program with every instruction of one name made another, which its tests must notice if they run it.

    python spoil.py PROGRAM COPY vdpbf16ps|vpdpbusd
"""

import re
import subprocess
import sys

# Both become vpdpwssd, products of 16-bit integers: bytes from the start of the instruction, and what is written there.
CHANGES = {
    "vdpbf16ps": (2, lambda byte: byte & ~3 | 1),
    "vpdpbusd": (4, lambda byte: 0x52),
}


def main(program, copy, name):
    place, change = CHANGES[name]
    sections = subprocess.run(["readelf", "-SW", program], capture_output=True, text=True, check=True).stdout
    address, offset = (int(number, 16) for number in re.search(r"\.text\s+PROGBITS\s+(\w+)\s+(\w+)", sections).groups())
    listing = subprocess.run(["objdump", "-d", program], capture_output=True, text=True, check=True).stdout
    with open(program, "rb") as file:
        data = bytearray(file.read())
    found = [int(line.split(":")[0], 16) for line in listing.splitlines() if name in line]
    if not found:
        sys.exit(f"{program} has no {name}")
    for at in found:
        at += offset - address + place
        data[at] = change(data[at])
    with open(copy, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in CHANGES:
        sys.exit(__doc__)
    main(*sys.argv[1:])
