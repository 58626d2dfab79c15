"""A small trained model, served by the real binary, for the tests of what watches a server.

`MPREC_BINARY` names the binary; by default it is the release build, else the debug build.
"""

import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests" / "data" / "open_bandit"


def binary():
    named = os.environ.get("MPREC_BINARY")
    candidates = [Path(named)] if named else [ROOT / "target" / kind / "mprec" for kind in ("release", "debug")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise SystemExit(f"there is no binary at {', '.join(map(str, candidates))}; build it, or set MPREC_BINARY")


def run(folder, *arguments):
    done = subprocess.run(
        [binary(), *arguments, "--json", "--quiet"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise AssertionError(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout)


def train(folder):
    """A bundle `model` with the variants `table` and `dhe`, from the rows of the repository."""
    rows, items = SAMPLE / "impressions.csv.xz", SAMPLE / "item_context.csv"
    run(folder, "data", "prepare", str(rows), "--layout", "open-bandit", "--out", "data", "--table", f"item_context={items}")
    run(folder, "train", "table", "dhe", "--data", "data", "--out", "model", "--small", "--epochs", "1")
    # How good the measured times are is not what these tests are about.
    (Path(folder) / "mprec.toml").write_text('model.bundle = "model"\nprofile.budget_seconds = 1.0\n')


@contextlib.contextmanager
def server(folder, *arguments):
    """Serves the bundle; yields what the server says of itself. It is stopped in the end, and must end well."""
    command = [binary(), "serve", "--config", "mprec.toml", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    process = subprocess.Popen([*command, *arguments, "--json", "--quiet"], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise AssertionError("the server ended before it served")
        yield json.loads(line)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
        if code != 0:
            raise AssertionError(f"the server ended with {code}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()


@contextlib.contextmanager
def load(url, seconds, qps=40):
    """An open-loop load in the background; yields the process, which is stopped in the end."""
    process = subprocess.Popen(
        [binary(), "load", "--url", url, "--qps", str(qps), "--sizes", "lognormal:3,0.5", "--sla-ms", "500",
         "--seconds", str(seconds), "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def infer(url, model, headers=(), **parameters):
    """One query of one sample within the model's schema. Returns the status and the reply."""
    with urllib.request.urlopen(f"{url}/v2/models/{model}", timeout=10) as reply:
        inputs = json.load(reply)["inputs"]
    def tensor(described):
        width = described["shape"][1]
        return {"name": described["name"], "shape": [1, width], "datatype": described["datatype"], "data": [0] * width}
    body = json.dumps({"inputs": [tensor(one) for one in inputs if one["shape"][1] > 0], "parameters": parameters})
    request = urllib.request.Request(f"{url}/v2/models/{model}/infer", body.encode(), dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
