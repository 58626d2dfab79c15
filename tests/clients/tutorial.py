"""Runs the commands of the tutorial as they stand there.

    tutorial.py TUTORIAL MPREC PYTHON

Differences from what a reader does: the binary is MPREC instead of an installed one, PYTHON is used where the tutorial makes
an environment for the same packages, ports are free ones, and the Rust example is the one that `cargo test` built, if it did.
"""

import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile

tutorial, mprec, python = sys.argv[1:]
text = pathlib.Path(tutorial).read_text()
blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
assert [kind for kind, _ in blocks].count("python") == 1 and len(blocks) >= 10, blocks
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"

folder = pathlib.Path(tempfile.mkdtemp())
(folder / "bin").mkdir()
shim = folder / "bin/mprec"
has_grpc = "--grpc-listen" in subprocess.run([mprec, "serve", "--help"], capture_output=True, text=True).stdout
more = '[ "$1" != serve ] || set -- "$@" --grpc-listen 127.0.0.1:0' if has_grpc else ":"
shim.write_text(f"#!/bin/sh\n{more}\nexec {shlex.quote(mprec)} \"$@\"\n")
shim.chmod(0o755)

example = pathlib.Path("target/debug/examples/client").absolute()
if example.exists():
    cargo = folder / "bin/cargo"
    cargo.write_text(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec {shlex.quote(str(example))} "$@"\n')
    cargo.chmod(0o755)

script = ["set -euo pipefail", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT"]
for kind, block in blocks:
    assert kind in ["sh", "python"], kind
    if kind == "python":
        name = folder / "client.py"
        name.write_text(block.replace("127.0.0.1:8000", address))
        script.append(f"{shlex.quote(python)} {name}")
        continue
    if "cargo install" in block or "-m venv" in block:
        continue
    script.append(block.replace("127.0.0.1:8000", address))
# Where the tutorial puts its files.
environment = dict(os.environ, PATH=f"{folder / 'bin'}:{os.environ['PATH']}", TMPDIR=str(folder))
try:
    done = subprocess.run(["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True, timeout=420)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert '"id": "query 1"' in done.stdout and "were expected" in done.stdout, done.stdout
finally:
    shutil.rmtree(folder)
print(f"tutorial: {len(blocks)} blocks")
