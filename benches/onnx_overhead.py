"""What calling ONNX Runtime from mprec costs beside calling it from Python, on the same exported graph and one core.

    pip install numpy onnxruntime==1.31.1
    cargo build --release
    export MPREC_ONNX_LIBRARY=.../onnxruntime/capi/libonnxruntime.so.1.31.1      # the very library that Python uses
    python3 benches/onnx_overhead.py BUNDLE [--variant table] [--batches 1,8,128,2048] [--seconds 2] [--rounds 3]

Writes the variant with `mprec export onnx`, checks that both sides score like the interpreter (`mprec bench` compares its own path
first), and runs both in turn, several rounds. Prints median microseconds per batch and the ratio of the medians' medians. Each
side draws its own batches from the same law; both sessions have one thread and no spinning.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy
import onnxruntime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--variant", default="table")
    parser.add_argument("--batches", default="1,8,128,2048")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mprec", default="target/release/mprec")
    options = parser.parse_args()
    schema = json.loads((options.bundle / "manifest.json").read_text())["schema"]
    # `mprec bench` pins its thread to a core; so does this, and children inherit what they are not told otherwise.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    with tempfile.TemporaryDirectory() as scratch:
        graph = f"{scratch}/model.onnx"
        export = [options.mprec, "export", "onnx", options.bundle, "--variant", options.variant, "--out", graph]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])

    print("| batch | mprec µs | Python µs | ratio |\n|---|---|---|---|")
    for size in map(int, options.batches.split(",")):
        inputs = batches(schema, size, max(16, min(512, 65536 // size)))
        ours, theirs = [], []
        for _ in range(options.rounds):
            theirs.append(timed(session, inputs, options.seconds))
            arguments = ["bench", "--bundle", options.bundle, "--path", f"{options.variant}@onnx", "--batch", str(size)]
            arguments += ["--seconds", str(options.seconds), "--json", "--quiet"]
            report = subprocess.run([options.mprec, *arguments], check=True, capture_output=True).stdout
            ours.append(json.loads(report)["p50_us"])
        ours, theirs = statistics.median(ours), statistics.median(theirs)
        print(f"| {size} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |", flush=True)


def batches(schema, samples, count):
    """Ids Zipf-distributed with exponent 1.05, popular ids strewn over the vocabulary."""
    random = numpy.random.default_rng(3)
    power = 1 - 1.05
    made = []
    for _ in range(count):
        feed = {"dense": random.random((samples, len(schema["dense"])), dtype=numpy.float32)}
        for feature in schema["sparse"]:
            rows = feature["cardinality"]
            rank = (1 - random.random((samples, 1)) * (1 - (rows + 1.0) ** power)) ** (1 / power)
            ids = (numpy.clip(rank.astype(numpy.int64), 1, rows) - 1) * 2654435761 % rows
            feed["ids." + feature["name"]] = ids
        made.append(feed)
    return made


def timed(session, inputs, seconds):
    """Median microseconds of a run, after warming up."""
    times, at = [], 0
    end = time.perf_counter() + seconds * 1.2
    while time.perf_counter() < end or len(times) < 12:
        before = time.perf_counter()
        session.run(["score"], inputs[at % len(inputs)])
        times.append(time.perf_counter() - before)
        at += 1
    return statistics.median(times[len(times) // 6:]) * 1e6


if __name__ == "__main__":
    main()
