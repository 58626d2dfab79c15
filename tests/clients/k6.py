"""k6, open loop at a constant rate, with its thresholds as the judge.

    k6.py FIRST_LINE K6
"""

import json
import os
import pathlib
import subprocess
import sys

from common import Samples, address, json_request, metadata, started

SAMPLES, RATE, P99_MS = 32, 100, 800
body = pathlib.Path(sys.argv[1]).resolve().with_suffix(".k6.json")
body.write_text(json.dumps(json_request(*Samples(metadata()).draw(SAMPLES), {"sla_ms": 900})))
summary = body.with_suffix(".summary.json")
settings = {
    "BODY": str(body), "SAMPLES": SAMPLES, "RATE": RATE, "P99_MS": P99_MS,
    "URL": f"http://{address()}/v2/models/{started()['model']}/infer",
}
command = [sys.argv[2], "run", "--quiet", "--no-usage-report", "--summary-export", str(summary)]
command += [f"-e{name}={value}" for name, value in settings.items()]
script = pathlib.Path(__file__).with_name("k6.js")
done = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=120, env={**os.environ, "NO_COLOR": "1"})
# A threshold that does not hold makes it exit with 99.
assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
metrics = json.loads(summary.read_text())["metrics"]
sent = metrics["http_reqs"]["count"]
# The first and the last second may be off by one.
assert abs(sent - 5 * RATE) <= 2, sent
duration = metrics["http_req_duration"]
print(f"k6: {sent} requests at {RATE}/s, median {duration['med']:.2f} ms, p99 {duration['p(99)']:.2f} ms of {P99_MS}")
