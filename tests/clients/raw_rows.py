"""Raw rows through Triton's client, over gRPC and HTTP, against scores that were made offline.

    raw_rows.py GRPC URL ROWS SCORES
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton_grpc

grpc, url, rows, scores = sys.argv[1:]
with open(rows, "rb") as file:
    values = [line.rstrip(b"\n").split(b"\t") for line in file]
with open(scores) as file:
    expected = np.array(json.load(file), np.float32)
dense = np.array([row[1:14] for row in values], dtype=object)
sparse = np.array([row[14:] for row in values], dtype=object)


def inputs(library, many):
    """The first `many` rows."""
    made = []
    for name, data in [("raw_dense", dense), ("raw_sparse", sparse)]:
        made.append(library.InferInput(name, [many, data.shape[1]], "BYTES"))
        made[-1].set_data_from_numpy(data[:many])
    return made


def check(library, client, what):
    for many in [len(values), 1, 7]:
        got = client.infer("ctr", inputs(library, many)).as_numpy("scores")
        assert got.shape == (many,), (what, got.shape)
        worst = np.abs(got - expected[:many]).max()
        assert worst <= 1e-6, (what, many, worst)


clients = ["grpc"]
check(triton_grpc, triton_grpc.InferenceServerClient(grpc.removeprefix("http://")), "grpc")
try:
    import tritonclient.http as triton_http
except (ImportError, RuntimeError):
    # Installed without what HTTP takes.
    pass
else:
    check(triton_http, triton_http.InferenceServerClient(url.removeprefix("http://")), "http")
    clients.append("http")
print(json.dumps({"ok": True, "clients": clients, "rows": len(values)}))
