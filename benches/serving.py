"""Highest rate that a server of one DLRM holds with a p99 within 10 ms (--slo-ms): mprec beside the servers of the peers' scripts, on the same weights and with the
same load generator.

    cargo build --release
    python3 benches/serving.py --peers PEERS --python PYTHON --out DIR

PEERS is a folder with `serve_bench.py`, `loadgen.c` and `common.py`; PYTHON has torch, onnx, onnxruntime, numpy, fastapi and uvicorn. Criteo
Kaggle's shape, all 33.8 million rows, random weights (2.2 GB of memory for each server in turn, 3 GB of disk under --work): mprec gets a
bundle of the very parameters that the others make from their seeds, and its scores are compared with NumPy's before anything is timed. Open loop,
Poisson arrivals, log-normal sizes (mean 128, at most 1024); every error and every refusal means that a rate is not held. Servers listen on
127.0.0.1 and are stopped at the end.
"""
import argparse
import importlib
import json
import pathlib
import signal
import socket
import subprocess
import sys
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
RIVALS = ("fastapi:ort:1:2", "fastapi:torch-jit:1:2", "fastapi:torch-jit-int8:1:2", "fastapi:torch-jit-int8:2:1")
"""Server, system, processes, threads each."""
OURS = {
    "table": (["table@cpu"], "multi-path"),
    "table-int8": (["table-int8@cpu"], "multi-path"),
    "router": (["table@cpu", "table-int8@cpu"], "multi-path"),
}
"""Paths and policy."""
TOLERANCE = {"table@cpu": 1e-5, "table-int8@cpu": 2e-2}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=pathlib.Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--mprec", type=pathlib.Path, default=HERE.parent / "target/release/mprec")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("serving-work"), help="kept between runs (default: ./serving-work)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the results")
    parser.add_argument("--ours", default=",".join(OURS), help=f"of {', '.join(OURS)}; default: all")
    parser.add_argument("--rivals", default=",".join(RIVALS), help="server:system:processes:threads,...")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--slo-ms", type=float, default=10.0, help="p99 that has to be held")
    parser.add_argument("--sla-ms", type=float, help="what mprec is told (default: the same)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write-bundle", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sla_ms = options.sla_ms or options.slo_ms
    options.peers, options.work = options.peers.resolve(), options.work.resolve()
    if options.write_bundle:
        return write_bundle(options)
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.work / "model/manifest.json").exists():
        # In a process of its own, whose 2.2 GB are freed, and with the Python that has NumPy.
        subprocess.run([options.python, __file__, "--peers", options.peers, "--work", options.work, "--out", options.out, "--write-bundle"], check=True)
    generators = {name: generator(options, name) for name in ("theirs", "ours")}
    lines = options.out / "serving.jsonl"
    for _ in range(options.rounds):
        for name in filter(None, options.ours.split(",")):
            measure_ours(options, generators["ours"], name, lines)
        for rival in filter(None, options.rivals.split(",")):
            server, system, processes, threads = rival.split(":")
            bench(options, generators["theirs"], lines, "--server", server, "--peer", system, "--workers", processes, "--threads", threads)
    print(table(lines))


def write_bundle(options):
    import numpy as np
    sys.path[:0] = [str(HERE / "peers"), str(options.peers)]
    common = importlib.import_module("common")
    bundle, shapes, weights = (importlib.import_module(name) for name in ("bundle", "shapes", "weights"))
    spec = common.repr_spec("kaggle", "table")
    made = common.make_model(spec)
    shape = shapes.Shape("table", tuple(spec["rows"]), spec["dim"], (spec["dense"], *(len(b) for _, b in made["bot"])),
                         tuple(spec["top"]), True, ())
    # Complete or not there at all.
    part = options.work / "model.part"
    bundle.write(part, weights.Model(shape, made["bot"], made["top"], made["table"], made["base"]), ("f32", "int8"))
    dense, sparse = common.make_inputs(spec, 256, "zipf")
    reference = common.reference(made, dense, sparse)
    np.savez(options.work / "expected.npz", dense=dense, sparse=sparse, scores=reference)
    part.rename(options.work / "model")


def generator(options, name):
    """The peers' load generator; for mprec with the name of its output."""
    text = (options.peers / "loadgen.c").read_text()
    if name == "ours":
        assert text.count('\\"prob\\"') == 1
        text = text.replace('\\"prob\\"', '\\"scores\\"')
    source, program = options.work / f"loadgen-{name}.c", options.work / f"loadgen-{name}"
    source.write_text(text)
    subprocess.run(["cc", "-O3", "-march=native", source, "-lm", "-o", program], check=True)
    return program


def bench(options, loadgen, lines, *arguments):
    command = [options.python, options.peers / "serve_bench.py", "--loadgen", loadgen, "--json", lines, "--slo-ms", options.slo_ms, *arguments]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)


def measure_ours(options, loadgen, name, lines):
    paths, policy = OURS[name]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quality = "".join(f'[quality."{path.split("@")[0]}"]\naccuracy = {0.7879 - 0.0002 * at}\nsource = "declared"\n' for at, path in enumerate(paths))
    config = options.work / f"{name}.toml"
    config.write_text(f"""
model.bundle = "{options.work / 'model'}"
objective.policy = "{policy}"
constraints.sla_ms = {options.sla_ms}
serving = {{ paths = {json.dumps(paths)}, workers = {options.workers} }}
server = {{ listen = "127.0.0.1:{port}", grpc = "off" }}
{quality}""")
    server = subprocess.Popen([options.mprec, "serve", "--config", config, "--json", "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line:
            sys.exit("the server ended before it served; see above")
        model = json.loads(line)["model"]
        verify(options, port, model)
        bench(options, loadgen, lines, "--server", "extern", "--port", port, "--path", f"/v2/models/{model}/infer", "--mode", "triton",
              "--peer", f"mprec {name}", "--threads", options.workers)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def verify(options, port, model):
    """Scores against NumPy's, by whichever path answers."""
    script = """
import json, sys, urllib.request, numpy as np
given = np.load(sys.argv[1])
inputs = [dict(name=n, shape=given[n].shape, datatype=t, data=given[n].ravel().tolist()) for n, t in (("dense", "FP32"), ("sparse", "INT64"))]
body = json.dumps(dict(parameters=dict(sla_ms=5000), inputs=inputs)).encode()
answer = json.load(urllib.request.urlopen(sys.argv[2], body, timeout=60))
scores = np.array(answer["outputs"][0]["data"])
print(json.dumps([answer["parameters"]["path"], float(np.abs(scores - given["scores"]).max())]))
"""
    url = f"http://127.0.0.1:{port}/v2/models/{model}/infer"
    done = subprocess.run([options.python, "-c", script, options.work / "expected.npz", url], check=True, capture_output=True, text=True)
    path, error = json.loads(done.stdout)
    if error > TOLERANCE[path]:
        sys.exit(f"{path} is off by {error:g}, more than {TOLERANCE[path]:g}")
    print(f"{path}: scores within {error:.1e} of NumPy's", file=sys.stderr)


def table(lines):
    runs = [json.loads(line) for line in lines.read_text().splitlines()]
    ours = lambda run: run["server"] == "extern"
    name = lambda run: run["peer"] if ours(run) else f"{run['server']} + {run['peer']}, {run['workers']} x {run['threads']}"
    best = {}
    for run in runs:
        best.setdefault(name(run), []).append(run)
    rival = max((max(run["max_qps"] for run in these) for these in best.values() if not ours(these[0])), default=None)
    rows = ["| server | highest rate held, queries/s | over the best rival | p99 ms there | p50 ms at 20/s | drains, queries/s |", "|---|---|---|---|---|---|"]
    for label, these in best.items():
        run = max(these, key=lambda run: run["max_qps"])
        rates = ", ".join(f"{one['max_qps']:.0f}" for one in these)
        ratio = f"{run['max_qps'] / rival:.2f}" if rival else ""
        rows.append(f"| {label} | {rates} | {ratio} | {run['at_max']['p99_ms'] if run['at_max'] else '-'} | {run['light']['p50_ms']} | {run['saturated']['achieved']:.0f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
