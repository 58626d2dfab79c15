"""Every call of Triton's Python client over HTTP."""

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from common import Samples, address, metadata, started

model = started()["model"]
version = started()["version"]
described = metadata()
samples = Samples(described)
client = triton.InferenceServerClient(address(), concurrency=8)


def inputs(dense, sparse, binary=True):
    tensors = [
        triton.InferInput("dense", list(dense.shape), "FP32"),
        triton.InferInput("sparse", list(sparse.shape), "INT64"),
    ]
    for tensor, data in zip(tensors, [dense, sparse]):
        tensor.set_data_from_numpy(data, binary_data=binary)
    return tensors


def scores(binary):
    return [triton.InferRequestedOutput("scores", binary_data=binary)]


def expect_error(status, call):
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == str(status), (error.status(), error.message())
        assert error.message(), "an error has a message"
        return error.message()
    raise AssertionError(f"no error where {status} was expected")


def statistics():
    (row,) = [
        row for row in client.get_inference_statistics(model)["model_stats"] if row["name"] == model
    ]
    return row


# Health and metadata.
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready(model) and client.is_model_ready(model, version)
assert not client.is_model_ready(model, "999")
server = client.get_server_metadata()
assert server["name"] == "mprec" and server["version"], server
for extension in ["binary_tensor_data", "model_configuration", "parameters", "schedule_policy", "statistics"]:
    assert extension in server["extensions"], server
shown = client.get_model_metadata(model, version)
assert [tensor["name"] for tensor in shown["inputs"]] == ["dense", "sparse"], shown
config = client.get_model_config(model)
assert config["max_batch_size"] > 0 and config["dynamic_batching"], config
for ours, theirs in zip(config["input"], shown["inputs"]):
    assert ours["name"] == theirs["name"] and ours["dims"] == theirs["shape"][1:], (ours, theirs)
    assert ours["data_type"] == "TYPE_" + theirs["datatype"]

# The same scores in every form, compressed or not.
before = statistics()
dense, sparse = samples.draw(700)
# Which path answers is the router's choice, and every path has scores of its own.
expected = {}
queries = 0
for send_binary in [False, True]:
    for get_binary in [False, True]:
        for request in [None, "gzip", "deflate"]:
            for response in [None, "gzip", "deflate"]:
                result = client.infer(
                    model,
                    inputs(dense, sparse, send_binary),
                    outputs=scores(get_binary),
                    request_compression_algorithm=request,
                    response_compression_algorithm=response,
                )
                got = result.as_numpy("scores")
                assert got.shape == (700,) and got.dtype == np.float32
                assert (got > 0).all() and (got < 1).all()
                path = result.get_response()["parameters"]["path"]
                far = np.abs(got - expected.setdefault(path, got)).max()
                assert far < 1e-6, (far, path, send_binary, get_binary, request, response)
                queries += 1

# Parameters.
result = client.infer(
    model,
    inputs(*samples.draw(5)),
    model_version=version,
    request_id="query 7",
    priority=1,
    timeout=900_000,
    parameters={"sla_ms": 800.0, "min_quality": 0.1},
)
queries += 1
response = result.get_response()
assert response["id"] == "query 7" and response["model_version"] == version, response
told = response["parameters"]
assert told["path"] in described["mprec"]["paths"] and told["version"] == version, told
assert told["quality"] == described["mprec"]["paths"][told["path"]]["quality"], told
assert 0 < told["predicted_us"] and told["compute_us"] <= told["latency_us"], told
after = statistics()

# Every query is in the statistics, once.
taken = {name: after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"]
         for name in after["inference_stats"]}
assert taken["success"] == queries and taken["fail"] == 0, (taken, queries)
assert taken["queue"] == taken["compute_input"] == taken["compute_infer"] == taken["compute_output"] == queries
assert after["inference_count"] - before["inference_count"] == (queries - 1) * 700 + 5
# A large query may run in parts, on several workers.
assert after["execution_count"] > before["execution_count"]
assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
rows = client.get_inference_statistics()["model_stats"]
assert {row["name"] for row in rows} == {model} | {f"{model}:{path}" for path in described["mprec"]["paths"]}
assert sum(row["inference_count"] for row in rows if row["name"] != model) == after["inference_count"]

# Many at once.
waiting = [client.async_infer(model, inputs(dense[:20], sparse[:20])) for _ in range(64)]
for request in waiting:
    assert request.get_result().as_numpy("scores").shape == (20,)

# Bags of any number of ids.
lengths = np.array([[3] + [1] * (sparse.shape[1] - 1)] * 2, dtype=np.int64)
ids = np.zeros(int(lengths.sum()), dtype=np.int64)
tensors = inputs(dense[:2], sparse[:2])[:1]
for name, data in [("sparse", ids), ("sparse_lengths", lengths)]:
    tensors.append(triton.InferInput(name, list(data.shape), "INT64"))
    tensors[-1].set_data_from_numpy(data)
assert client.infer(model, tensors).as_numpy("scores").shape == (2,)

# What the candidates share sent once, and the best of them.
names = [feature["name"] for feature in described["mprec"]["schema"]["sparse"]]
users, others = list(range(0, len(names), 2)), list(range(1, len(names), 2))
same_user = np.where(np.arange(len(names)) % 2 == 0, sparse[:1], sparse[:50])
same_dense = np.repeat(dense[:1], 50, axis=0)
once = [triton.InferInput("dense", [1, dense.shape[1]], "FP32"),
        triton.InferInput("user_sparse", [1, len(users)], "INT64"),
        triton.InferInput("sparse", [50, len(others)], "INT64")]
for tensor, data in zip(once, [dense[:1], same_user[:1, users], same_user[:, others]]):
    tensor.set_data_from_numpy(np.ascontiguousarray(data))
told = {"user_features": ",".join(names[at] for at in users), "sla_ms": 20_000.0}
by_path = {}
for tensors, parameters in [(inputs(same_dense, same_user), {"sla_ms": 20_000.0}), (once, told)] * 4:
    result = client.infer(model, tensors, parameters=parameters)
    plain = by_path.setdefault(result.get_response()["parameters"]["path"], result.as_numpy("scores"))
    assert np.abs(result.as_numpy("scores") - plain).max() < 1e-5
for asked in [None, [triton.InferRequestedOutput("indices"), triton.InferRequestedOutput("scores")]]:
    result = client.infer(model, once, outputs=asked, parameters={**told, "top_k": 7})
    best, at = result.as_numpy("scores"), result.as_numpy("indices")
    assert best.shape == at.shape == (7,) and at.dtype == np.int64 and (np.diff(best) <= 0).all(), (best, at)
    plain = by_path.get(result.get_response()["parameters"]["path"])
    if plain is not None:
        assert np.abs(best - plain[at]).max() < 1e-5 and best[-1] >= np.sort(plain)[-7] - 1e-5
assert "user_features" in expect_error(400, lambda: client.infer(model, once))

# Errors, with their statuses.
good = inputs(dense[:4], sparse[:4])
assert "nobody" in expect_error(404, lambda: client.infer("nobody", good))
assert "999" in expect_error(404, lambda: client.infer(model, good, model_version="999"))
expect_error(404, lambda: client.get_model_config("nobody"))
expect_error(404, lambda: client.get_inference_statistics("nobody"))
assert "sparse" in expect_error(400, lambda: client.infer(model, good[:1]))
assert "dense" in expect_error(400, lambda: client.infer(model, inputs(dense[:4, :1], sparse[:4])))
assert "min_qualty" in expect_error(400, lambda: client.infer(model, good, parameters={"min_qualty": 0.5}))
assert "logits" in expect_error(
    400, lambda: client.infer(model, good, outputs=[triton.InferRequestedOutput("logits")]))
expect_error(400, lambda: client.infer(model, good, sequence_id=7))
expect_error(422, lambda: client.infer(model, good, parameters={"min_quality": 1.0}))
# No query arrives in a microsecond.
expect_error(504, lambda: client.infer(model, good, timeout=1))
failed = statistics()["inference_stats"]["fail"]["count"] - after["inference_stats"]["fail"]["count"]
assert failed == 2, failed
many = samples.draw(config["max_batch_size"] + 1)
expect_error(413, lambda: client.infer(model, inputs(*many)))

client.close()
print(f"tritonclient over HTTP: {queries + 64} queries, every call")
