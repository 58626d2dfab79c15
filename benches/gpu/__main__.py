"""mprec's torch backend on a GPU: the conformance suite, then latency and throughput beside PyTorch on the same GPU, same
weights, same ids, and beside the limits of the card measured in the same run. Writes results.json and results.md.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "peers")]

import numpy as np

import bundle
import ids
import table
import weights
import work
from contenders import EXACT
from ours import COMPARED, Mprec
from shapes import DENSE, shape
from worker import ContenderError, Worker


def main():
    parser = argparse.ArgumentParser(prog="gpu.sh run", description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="`cuda:0`, or `cpu` to try the kit without a GPU")
    parser.add_argument("--models", default="table,dhe,hybrid,terabyte,terabyte-dhe,terabyte-hybrid")
    parser.add_argument("--batches", default="1,8,32,128,512,2048,8192")
    parser.add_argument("--forms", default="eager,compile", help="of PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each cell, side and round")
    parser.add_argument("--scale-down", type=float, default=20.0, help="divides cardinalities above 100")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds; what does not fit is left out and named")
    parser.add_argument("--quick", action="store_true", help="one short round of three batches, 170 s")
    parser.add_argument("--libtorch", type=pathlib.Path, help="folder of libtorch's libraries; default: this Python's torch")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-results"))
    options = parser.parse_args()
    if options.quick:
        options.batches, options.rounds, options.seconds, options.budget = "1,128,2048", 1, 0.2, 170.0
    began = time.monotonic()
    left = lambda: options.budget - (time.monotonic() - began)

    torch = importlib.util.find_spec("torch").submodule_search_locations[0]
    libraries = options.libtorch or pathlib.Path(torch) / "lib"
    # For what is started from here; this process found its own libraries already.
    os.environ["LD_LIBRARY_PATH"] = f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    limits = json.loads(checked([sys.executable, HERE / "limits.py", options.device], "the limits of the device"))
    if not limits["torch"].startswith("2.11."):
        sys.exit(f"this Python has torch {limits['torch']}; mprec is linked against 2.11")
    print(f"{limits.get('card', 'CPU')}: " + json.dumps(limits), flush=True)

    results = {
        "made": {"command": shlex.join(["gpu.sh", "run", *sys.argv[1:]]), "commit": commit(), "scale_down": options.scale_down,
                 "rounds": options.rounds, "seconds": options.seconds},
        "limits": limits, "conformance": conformance(options.device), "cells": [], "left_out": [],
    }
    print(f"conformance: {results['conformance']}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models.split(","):
            if left() < 30:
                results["left_out"].append(f"{name}: no time left")
                continue
            model(name, options, pathlib.Path(scratch), left, results)
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "results.json", json.dumps(results, indent=1) + "\n")
    write(options.out / "results.md", table.page(results))
    print(table.page(results))


def checked(command, what, **more):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **more)
    if done.returncode:
        sys.exit(f"{what}: failed with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def commit():
    packed = HERE.parent / "commit"
    if packed.exists():
        return packed.read_text().strip()
    return checked(["git", "-C", HERE, "rev-parse", "HEAD"], "the commit").strip()


def binary(name, built):
    """What `pack` laid beside this folder, or else what was built in the repository."""
    packed = HERE.parent / name
    return packed if packed.exists() else built


def conformance(device):
    suite = binary("conformance", None)
    if suite is None:
        return "not run: `gpu.sh pack` brings the suite"
    runner = "cuda" if device.startswith("cuda") else "torch"
    out = checked([suite, "torch"], "the conformance suite", env=os.environ | {"MPREC_REQUIRE": runner})
    lines = [line for line in out.splitlines() if "passed" in line or line.startswith("test result")]
    return " ".join(lines) or out[-200:].strip()


def build(form, device):
    """PyTorch on `device`, as its users write it: inputs from pinned memory, scores back to the host."""
    def make(model, threads, scratch):
        import torch
        import torch_peers
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        module = torch_peers.Dlrm(model, integer_hash=form == "eager").eval()
        if model.shape.decoder:
            torch_peers.exact_codes(module, model)
        module = module.to(device)
        if form == "compile":
            torch._dynamo.config.recompile_limit = 64
            module = torch.compile(module, dynamic=False)
        pinned = (lambda tensor: tensor.pin_memory()) if device.startswith("cuda") else (lambda tensor: tensor)

        def run(inputs):
            with torch.inference_mode():
                return module(*(tensor.to(device, non_blocking=True) for tensor in inputs)).cpu()

        return lambda dense, ids: tuple(map(pinned, torch_peers.prepare(dense, ids))), run, lambda scores: scores.numpy()
    return make


def model(name, options, scratch, left, results):
    made = shape(name, options.scale_down)
    parameters = weights.model(made, tables_in_memory=False)
    bundle.write(scratch / name, parameters, ["f32"])
    ours = Mprec(binary("mprec", HERE.parents[1] / "target/release/mprec"), scratch / name, scratch, resident=False)
    ours.backend = f"torch:{options.device}"
    sizes = [int(size) for size in options.batches.split(",")]
    batches = {size: ids.batches(made.cardinalities, DENSE, size) for size in sizes}
    compared = ids.batches(made.cardinalities, DENSE, COMPARED, 1)[0]
    own = ours.scores(name, *compared)
    cpus = sorted(os.sched_getaffinity(0))
    workers = {}
    for form in options.forms.split(","):
        worker = Worker(form, build(form, options.device), parameters, batches, cpus if options.device != "cpu" else cpus[:1], scratch)
        try:
            worker.answer()
            off = float(np.abs(own - worker.ask("score", *compared)).max())
            if not off <= EXACT:
                raise ContenderError(f"its scores are {off:.1e} from mprec's; {EXACT:.0e} is allowed")
            workers[form] = worker
        except ContenderError as error:
            worker.close()
            results["left_out"].append(f"{name}, {form}: {str(error)[-500:]}")
    try:
        for size in sizes:
            if left() < 20:
                results["left_out"].append(f"{name}, batch {size} and more: no time left")
                break
            cell(name, size, made, ours, workers, options, left, results)
    finally:
        for worker in workers.values():
            worker.close()


def cell(name, size, made, ours, workers, options, left, results):
    rounds = {"mprec": []}
    for form, worker in list(workers.items()):
        if left() < 60 and form == "compile":
            results["left_out"].append(f"{name}, batch {size}, compile: no time left to build it")
            continue
        try:
            worker.ask("warm", size)
            rounds[form] = []
        except ContenderError as error:
            results["left_out"].append(f"{name}, batch {size}, {form}: {str(error)[-500:]}")
            workers.pop(form).close()
    for _ in range(options.rounds):
        for side in rounds:
            timed = ours.timed(name, size, 1, options.seconds) if side == "mprec" else workers[side].ask("time", size, options.seconds)
            rounds[side].append(timed)
    middle = lambda side: {key: statistics.median(one[key] for one in side) for key in side[0] if side[0][key] is not None}
    row = {"model": name, "batch": size, "flops": work.flops(made, size), "bytes": work.traffic(made, size)}
    row |= {side: middle(times) for side, times in rounds.items()}
    results["cells"].append(row)
    print(" | ".join(table.row(row, results["limits"])), flush=True)


def write(path, text):
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    main()
