"""What the scripts share: the server's first line, and requests that its model understands."""

import http.client
import json
import sys

import numpy as np

# Inclusive upper shares and sizes of queries in MLPerf's DLRM benchmark: 10 % have 100 samples, and so on.
SIZES = [(0.1, 100), (0.7, 200), (0.8, 300), (0.85, 400), (0.9, 500), (0.95, 600), (1.0, 700)]


def started():
    """The server's first line."""
    with open(sys.argv[1]) as file:
        return json.loads(file.readline())


def address():
    return started()["url"].removeprefix("http://")


def get(path, headers=None):
    """Status, headers and body of a GET."""
    connection = http.client.HTTPConnection(address(), timeout=30)
    connection.request("GET", path, headers=headers or {})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, reply.headers, body


def metadata():
    status, _, body = get(f"/v2/models/{started()['model']}")
    assert status == 200, body
    return json.loads(body)


class Samples:
    """Rows with ids that the model has."""

    def __init__(self, model, seed=1):
        schema = model["mprec"]["schema"]
        self.cardinalities = np.array([feature["cardinality"] for feature in schema["sparse"]])
        self.width = len(schema["dense"])
        self.random = np.random.default_rng(seed)

    def draw(self, count):
        dense = self.random.standard_normal((count, self.width)).astype(np.float32)
        sparse = self.random.integers(0, self.cardinalities, (count, len(self.cardinalities)))
        return dense, sparse.astype(np.int64)


def json_request(dense, sparse, parameters=None):
    """The body of an inference request, all JSON."""
    return {
        "parameters": parameters or {},
        "inputs": [
            {"name": "dense", "datatype": "FP32", "shape": list(dense.shape), "data": dense.tolist()},
            {"name": "sparse", "datatype": "INT64", "shape": list(sparse.shape), "data": sparse.tolist()},
        ],
    }
