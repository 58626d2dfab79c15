"""Runs the commands of the tutorial as they stand there, in one shell.

    tutorial.py TUTORIAL

Differences from what a reader does: ports are free ones, and what is installed goes to a folder that is removed at the end.
"""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

blocks = re.findall(r"^```(\w+)\n(.*?)^```$", pathlib.Path(sys.argv[1]).read_text(), re.DOTALL | re.MULTILINE)
assert len(blocks) >= 10 and {kind for kind, _ in blocks} == {"sh"}, blocks
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{probe.getsockname()[1]}"

script = ["set -euo pipefail", "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT"]
script += [block.replace("127.0.0.1:8000", address) for _, block in blocks]
folder = pathlib.Path(tempfile.mkdtemp())
environment = dict(
    os.environ,
    CARGO_INSTALL_ROOT=str(folder),
    PATH=f"{folder / 'bin'}:{os.environ['PATH']}",
    MPREC_SERVER_GRPC="127.0.0.1:0",
    # Where the tutorial puts its files.
    TMPDIR=str(folder),
)
try:
    done = subprocess.run(["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert '"id": "query 1"' in done.stdout and "were expected" in done.stdout, done.stdout
finally:
    shutil.rmtree(folder)
print(f"tutorial: {len(blocks)} blocks")
