"""Triton's Model Analyzer in its remote mode: it loads the model through the repository's calls, has perf_analyzer measure it, and reports
which load keeps the latency within a budget.

    model_analyzer.py FIRST_LINE MODEL_ANALYZER PERF_ANALYZER
"""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile

from common import Samples, metadata, started

program, perf_analyzer = sys.argv[2], sys.argv[3]
first = started()
model = first["model"]
samples = Samples(metadata())
# Absolute: the analyzer starts the other program from elsewhere.
folder = pathlib.Path(tempfile.mkdtemp(dir=pathlib.Path(sys.argv[1]).resolve().parent))
dense, sparse = samples.draw(64)
data = [{"dense": {"content": row.tolist(), "shape": [len(row)]},
         "sparse": {"content": ids.tolist(), "shape": [len(ids)]}} for row, ids in zip(dense, sparse)]
(folder / "data.json").write_text(json.dumps({"data": data}))
BUDGET_MS = 900


def run(protocol, endpoint):
    work = folder / protocol
    work.mkdir()
    # JSON is YAML.
    (work / "config.yaml").write_text(json.dumps({
        "profile_models": [model],
        "triton_launch_mode": "remote",
        "client_protocol": protocol,
        f"triton_{protocol}_endpoint": endpoint,
        "triton_metrics_url": first["url"] + "/metrics",
        "run_config_search_disable": True,
        "concurrency": [1, 2],
        "batch_sizes": [16],
        "latency_budget": BUDGET_MS,
        "perf_analyzer_path": perf_analyzer,
        # A few measurements of so many requests; that they agree is not asked of a machine that does other work.
        "perf_analyzer_flags": {"input-data": str(folder / "data.json"), "measurement-mode": "count_windows",
                                "measurement-request-count": 100, "stability-percentage": 999, "percentile": 99},
        "output_model_repository_path": str(work / "models"),
        "checkpoint_directory": str(work / "checkpoints"),
        "export_path": str(work / "reports"),
        "inference_output_fields": ["model_name", "batch_size", "concurrency", "perf_throughput", "perf_latency_p99"],
    }))
    command = [program, "profile", "-f", str(work / "config.yaml")]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{protocol}: {done.stdout}\n{done.stderr}"
    with open(work / "reports" / "results" / "metrics-model-inference.csv") as file:
        rows = list(csv.DictReader(file))
    seen = sorted(int(row["Concurrency"]) for row in rows)
    assert seen == [1, 2], (rows, done.stdout)
    for row in rows:
        assert row["Model"] == model, row
        assert float(row["Throughput (infer/sec)"]) > 0 and 0 < float(row["p99 Latency (ms)"]) < BUDGET_MS, row
        print(f"Model Analyzer over {protocol}, {row['Concurrency']} at once: "
              f"{float(row['Throughput (infer/sec)']):.0f} samples/s, p99 {row['p99 Latency (ms)']} ms")
    summary = list((work / "reports" / "reports" / "summaries").rglob("*.html")) + list((work / "reports").rglob("*.html"))
    assert summary, done.stdout


run("http", first["admin"].removeprefix("http://"))
run("grpc", first["admin_grpc"])
