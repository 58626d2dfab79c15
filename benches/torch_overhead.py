"""mprec's torch backend on the CPU beside PyTorch eager, on the same weights and ids and one core.

    .ci/libtorch lt; export LIBTORCH=$PWD/lt/2.11.0 LD_LIBRARY_PATH=$PWD/lt/2.11.0/lib
    cargo build --release --features torch --package mprec-runtime
    pip install numpy safetensors torch==2.11.0             # the very version that mprec is linked against
    python3 benches/torch_overhead.py [--models table,dhe,hybrid] [--batches 1,8,128,2048] [--seconds 1] [--rounds 5]

Models and batches are those of `benches/peers.sh`. mprec maps its tables from a bundle, and so does PyTorch. Scores must agree to 1e-5
before anything is timed; then both run in turn, several rounds. Prints median microseconds per batch (the median of the rounds'
medians), of every round's ratio mprec / PyTorch the median, the smallest and the largest, and the ratio of the fastest batches, which a
noisy machine disturbs least. PyTorch's time is that of the call alone: its inputs are tensors already, while mprec's holds the copy of
the scores to where the caller wants them.
"""
import argparse
import os
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))
sys.dont_write_bytecode = True

import numpy as np

import bundle
import ids
import weights
from contenders import CONTENDERS, EXACT
from ours import COMPARED, Mprec
from shapes import DENSE, shape
from worker import Worker

PEER = "torch-eager"


class Torch(Mprec):
    """mprec on its torch backend."""

    backend = "torch:cpu"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="table,dhe,hybrid")
    parser.add_argument("--batches", default="1,8,128,2048")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale-down", type=float, default=1.0, help="divides cardinalities above 100")
    parser.add_argument("--mprec", default=str(pathlib.Path(__file__).resolve().parents[1] / "target/release/mprec"))
    options = parser.parse_args()
    # `mprec bench` pins its thread to the first core; so do the peer's processes.
    cpus = sorted(os.sched_getaffinity(0))[:1]
    print(f"load before: {os.getloadavg()[0]:.2f}\n\n| model | batch | mprec µs | PyTorch µs | ratio | from | to | of the fastest |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models.split(","):
            run(name, options, pathlib.Path(scratch), cpus)
    print(f"\nload after: {os.getloadavg()[0]:.2f}")


def run(name, options, scratch, cpus):
    made = shape(name, options.scale_down)
    model = weights.model(made, tables_in_memory=False)
    bundle.write(scratch / name, model, ["f32"])
    ours = Torch(options.mprec, scratch / name, scratch, resident=False)
    sizes = [int(size) for size in options.batches.split(",")]
    batches = {size: ids.batches(made.cardinalities, DENSE, size) for size in sizes}
    compared = ids.batches(made.cardinalities, DENSE, COMPARED, 1)[0]
    worker = Worker(PEER, CONTENDERS[PEER][2], model, batches, cpus, scratch)
    try:
        worker.answer()
        got, expected = ours.scores(name, *compared), worker.ask("score", *compared)
        dense, sparse = compared
        moved = np.abs(ours.scores(name, dense, np.roll(sparse, 1, axis=0)) - got).max()
        off = np.abs(got - expected).max()
        if not (off <= EXACT and moved > 1e-2):
            sys.exit(f"{name}: scores are {off:.1e} apart, and other ids move them by {moved:.1e}: nothing is measured")
        for size in sizes:
            worker.ask("warm", size)
            rounds = []
            for _ in range(options.rounds):
                theirs = worker.ask("time", size, options.seconds)
                rounds.append((ours.timed(name, size, 1, options.seconds), theirs))
            ratios = sorted(own["p50_us"] / theirs["p50_us"] for own, theirs in rounds)
            own, theirs = (statistics.median(one["p50_us"] for one in side) for side in zip(*rounds))
            fastest = [min(one["min_us"] for one in side) for side in zip(*rounds)]
            print(f"| {name} | {size} | {own:.0f} | {theirs:.0f} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f} | {fastest[0] / fastest[1]:.2f} |", flush=True)
    finally:
        worker.close()


if __name__ == "__main__":
    main()
