"""One table model in mprec, PyTorch and ONNX Runtime, on the same weights, ids and core: a table of ratios.

    pip install numpy safetensors torch onnxruntime onnx
    cargo build --release
    python3 benches/peers.py [--batches 1,8,128,2048] [--seconds 2] [--rounds 3] [--out FILE]

Writes a bundle with the Criteo Kaggle architecture (13-512-256-64-16, 26 tables of dim 16, dot interaction, 512-256-1; tables
above 100,000 rows keep one row in eight), checks that everybody scores the same rows alike, then runs everybody in turn, several
rounds, each on one thread. Times are per batch, ids Zipf-distributed; each runtime draws its own batches from the same law.

PyTorch runs eagerly; ONNX Runtime runs the graph that PyTorch exports, in f32 and with its dynamic int8 quantisation.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from safetensors.numpy import save, save_file, load_file
from torch import nn

CARDINALITIES = [
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27,
    14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
]
ROWS = [c // 8 if c > 100_000 else c for c in CARDINALITIES]
DIM = 16
BOTTOM = [13, 512, 256, 64, DIM]
TOP = [DIM + 27 * 26 // 2, 512, 256, 1]


def mlp(widths, last):
    layers = []
    for at, (i, o) in enumerate(zip(widths, widths[1:])):
        layers.append(nn.Linear(i, o))
        if last or at + 2 < len(widths):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Model(nn.Module):
    """The same model as the bundle's, written plainly: one merged table and one lookup."""

    def __init__(self):
        super().__init__()
        self.bottom, self.top = mlp(BOTTOM, True), mlp(TOP, False)
        self.table = nn.Parameter(torch.rand(sum(ROWS), DIM).sub_(0.5).mul_(0.5))
        self.register_buffer("base", torch.tensor([0] + ROWS[:-1]).cumsum(0))
        below = torch.tril_indices(27, 27, -1)
        self.register_buffer("below", below[0] * 27 + below[1])

    def forward(self, dense, ids):
        x = self.bottom(dense)
        rows = nn.functional.embedding(ids + self.base, self.table)
        vectors = torch.cat([x.unsqueeze(1), rows], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        met = torch.cat([x, products.index_select(1, self.below)], 1)
        return torch.sigmoid(self.top(met)).squeeze(1)


def write_bundle(model, folder):
    tensors = {}
    for prefix, net in (("bot_l", model.bottom), ("top_l", model.top)):
        for name, value in net.state_dict().items():
            tensors[f"{prefix}.{name}"] = value.numpy()
    start = 0
    for feature, rows in enumerate(ROWS):
        tensors[f"emb_l.{feature}.weight"] = model.table.detach()[start:start + rows].numpy()
        start += rows
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    content = save(tensors)
    folder.mkdir(parents=True)
    (folder / "table.safetensors").write_bytes(content)
    sha256 = lambda data: hashlib.sha256(data).hexdigest()
    manifest = {
        "format": 1, "model": "peers", "version": "1",
        "schema": {
            "dense": [f"i{at}" for at in range(13)],
            "sparse": [{"name": f"c{at}", "cardinality": rows} for at, rows in enumerate(ROWS)],
            "out_of_vocabulary": "zero",
        },
        "variants": [{
            "name": "table",
            "architecture": {
                "model": "dlrm", "bottom": BOTTOM, "top": TOP,
                "interaction": {"op": "dot", "itself": False},
                "features": [{"representation": "table", "dim": DIM}] * 26,
            },
            "file": "table.safetensors", "bytes": len(content), "sha256": sha256(content),
            "tensors": {
                name: {"dtype": "F32", "shape": list(value.shape), "sha256": sha256(value.tobytes())}
                for name, value in tensors.items()
            },
        }],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def batches(samples, count, seed):
    random = np.random.default_rng(seed)
    power = 1 - 1.05
    out = []
    for _ in range(count):
        dense = random.random((samples, 13), dtype=np.float32)
        ids = np.empty((samples, 26), dtype=np.int64)
        for feature, rows in enumerate(ROWS):
            rank = (1 - random.random(samples) * (1 - (rows + 1.0) ** power)) ** (1 / power)
            ids[:, feature] = (np.clip(rank.astype(np.int64), 1, rows) - 1) * 2654435761 % rows
        out.append((dense, ids))
    return out


def timed(run, inputs, seconds):
    times, at = [], 0
    end = time.perf_counter() + seconds * 1.2
    while time.perf_counter() < end or len(times) < 12:
        before = time.perf_counter()
        run(*inputs[at % len(inputs)])
        times.append(time.perf_counter() - before)
        at += 1
    times = sorted(times[len(times) // 6:])
    return times[0] * 1e6, times[len(times) // 2] * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,8,128,2048")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mprec", default="target/release/mprec")
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = Model().eval()
    sizes = [int(size) for size in options.batches.split(",")]

    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        scratch = pathlib.Path(scratch)
        bundle = scratch / "bundle"
        write_bundle(model, bundle)
        runners = {"torch eager": lambda dense, ids: model(torch.from_numpy(dense), torch.from_numpy(ids)).numpy()}
        try:
            import onnxruntime
            from onnxruntime.quantization import QuantType, quantize_dynamic
            graph = str(scratch / "model.onnx")
            example = (torch.rand(2, 13), torch.zeros(2, 26, dtype=torch.int64))
            axes = {"dense": {0: "n"}, "ids": {0: "n"}, "score": {0: "n"}}
            with torch.no_grad():
                torch.onnx.export(model, example, graph, input_names=["dense", "ids"], output_names=["score"],
                                  dynamic_axes=axes, dynamo=False)
            quantize_dynamic(graph, graph + ".int8", weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
            for name, path in (("onnxruntime f32", graph), ("onnxruntime int8", graph + ".int8")):
                session_options = onnxruntime.SessionOptions()
                session_options.intra_op_num_threads = 1
                session = onnxruntime.InferenceSession(path, session_options, providers=["CPUExecutionProvider"])
                runners[name] = lambda dense, ids, session=session: session.run(None, {"dense": dense, "ids": ids})[0]
        except ImportError as missing:
            print(f"without ONNX Runtime: {missing}", file=sys.stderr)

        # Everybody scores the same rows alike, or nothing is timed.
        dense, ids = batches(64, 1, 7)[0]
        flat = np.ascontiguousarray(ids.T)
        offsets = np.ascontiguousarray(np.broadcast_to(np.arange(64), (26, 64)))
        save_file({"dense": dense, "indices": flat, "offsets": offsets}, scratch / "in.safetensors")
        subprocess.run([options.mprec, "score", bundle, "--path", "table@cpu", "--input", scratch / "in.safetensors",
                        "--output", scratch / "out.safetensors", "--json"], check=True, stdout=subprocess.DEVNULL)
        ours = load_file(scratch / "out.safetensors")["scores"]
        for name, run in runners.items():
            off = float(np.abs(run(dense, ids) - ours).max())
            print(f"{name}: scores differ by {off:.1e} at most", file=sys.stderr)
            assert off < (2e-2 if "int8" in name else 1e-5), name

        results = {}
        for size in sizes:
            inputs = batches(size, max(16, min(512, 65536 // size)), 3)
            for _ in range(options.rounds):
                for name, run in runners.items():
                    results.setdefault((name, size), []).append(timed(run, inputs, options.seconds))
                for precision in ("f32", "int8"):
                    arguments = [options.mprec, "bench", "--arch", "kaggle", "--scale-down", "8", "--path", "table@cpu",
                                 "--precision", precision, "--batch", str(size), "--seconds", str(options.seconds), "--json", "--quiet"]
                    report = json.loads(subprocess.run(arguments, check=True, capture_output=True).stdout)
                    results.setdefault((f"mprec {precision}", size), []).append((report["min_us"], report["p50_us"]))
                    results.setdefault(("peak " + precision, size), []).append((report["peak_gflops"], 0))

    names = [name for name in dict.fromkeys(name for name, _ in results) if not name.startswith("peak")]
    lines = ["| one thread, table model | " + " | ".join(f"batch {size}" for size in sizes) + " |",
             "|---" * (len(sizes) + 1) + "|"]
    best = lambda name, size, at: min(run[at] for run in results[name, size])
    for name in names:
        cells = [f"{best(name, size, 0):.0f} / {np.median([run[1] for run in results[name, size]]):.0f}" for size in sizes]
        lines.append(f"| {name}: best / median µs | " + " | ".join(cells) + " |")
    for ours, peers in (("mprec f32", ["torch eager", "onnxruntime f32"]), ("mprec int8", ["torch eager", "onnxruntime f32", "onnxruntime int8"])):
        cells = []
        for size in sizes:
            best_peer = min(np.median([run[1] for run in results[name, size]]) for name in peers if (name, size) in results)
            cells.append(f"{best_peer / np.median([run[1] for run in results[ours, size]]):.2f}x")
        lines.append(f"| {ours}: times as fast as the best of the others (medians) | " + " | ".join(cells) + " |")
    text = "\n".join(lines)
    print(text)
    if options.out:
        record = {f"{name}, batch {size}": runs for (name, size), runs in results.items()}
        pathlib.Path(options.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
