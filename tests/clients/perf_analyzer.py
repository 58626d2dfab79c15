"""Triton's perf_analyzer, closed and open loop, over HTTP and over gRPC where the server has it.

    perf_analyzer.py FIRST_LINE PERF_ANALYZER
"""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile

from common import Samples, address, metadata, started

program = sys.argv[2]
model = started()["model"]
samples = Samples(metadata())
folder = pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path(sys.argv[1]).parent))
dense, sparse = samples.draw(64)
data = [{"dense": {"content": row.tolist(), "shape": [len(row)]},
         "sparse": {"content": ids.tolist(), "shape": [len(ids)]}} for row, ids in zip(dense, sparse)]
(folder / "data.json").write_text(json.dumps({"data": data}))


def run(name, arguments):
    report = folder / f"{name}.csv"
    command = [program, "-m", model, "--input-data", str(folder / "data.json"), "--percentile", "99",
               "--request-count", "400", "-f", str(report), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{name}: {done.stdout}\n{done.stderr}"
    (row,) = csv.DictReader(report.open())
    rate = float(row["Inferences/Second"])
    p99 = int(row["p99 latency"])
    assert rate > 0 and 0 < p99 < 2_000_000, (name, row)
    # The server's own figures are there only if its statistics could be read.
    server = {column: int(value) for column, value in row.items() if column.startswith("Server")}
    assert server["Server Compute Infer"] > 0, (name, row)
    assert sum(server.values()) < 1_000_000, (name, row)
    print(f"perf_analyzer {name}: {rate:.0f} samples/s, p99 {p99} µs, server {server}")


http = ["-i", "http", "-u", address()]
tensors = ["--input-tensor-format", "json", "--output-tensor-format", "json"]
run("http-binary", [*http, "-b", "16", "--concurrency-range", "2"])
run("http-json", [*http, "-b", "16", "--concurrency-range", "2", *tensors])
poisson = ["--request-rate-range", "100", "--request-distribution", "poisson"]
run("http-poisson", [*http, "-b", "128", *poisson])
if started().get("grpc"):
    grpc = ["-i", "grpc", "-u", started()["grpc"]]
    run("grpc", [*grpc, "-b", "16", "--concurrency-range", "2"])
    run("grpc-poisson", [*grpc, "-b", "128", *poisson, "--request-parameter", "timeout:900000:int",
                         "--request-parameter", "sla_ms:800:int"])
