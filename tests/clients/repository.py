"""The model repository with Triton's Python clients, over HTTP and over gRPC, on the listeners of the administrator.

    repository.py FIRST_LINE
"""

import json

import numpy as np
from google.protobuf.json_format import MessageToJson
import tritonclient.grpc as grpc
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from common import Samples, metadata, started

first = started()
model = first["model"]
dense, sparse = Samples(metadata()).draw(5)


def scores(module, client):
    tensors = [module.InferInput("dense", list(dense.shape), "FP32"), module.InferInput("sparse", list(sparse.shape), "INT64")]
    for tensor, data in zip(tensors, [dense, sparse]):
        tensor.set_data_from_numpy(data)
    result = client.infer(model, tensors, timeout=900_000)
    return result.as_numpy("scores")


def refused(call, says):
    try:
        call()
    except InferenceServerException as error:
        assert says in error.message(), error.message()
        return
    raise AssertionError(f"no error where {says!r} was expected")


def index(client):
    lines = client.get_model_repository_index()
    lines = lines if isinstance(lines, list) else [
        {"name": line.name, "version": line.version, "state": line.state} for line in lines.models]
    return {line["name"]: line["state"] for line in lines}


def drive(name, module, client, other):
    before = scores(module, client)
    assert index(client)[model] == "READY"
    config = client.get_model_config(model)
    config = json.dumps(config) if isinstance(config, dict) else MessageToJson(config.config)
    # Loading what is served already is no error, whatever a tool has read of it and sends back.
    client.load_model(model)
    client.load_model(model, config=config)
    refused(lambda: client.load_model(model, config='{"max_batch_size": 3}'), "max_batch_size")
    refused(lambda: client.load_model(model, config="{}", files={"file:1/model.onnx": b"x"}), "not supported")
    refused(lambda: client.load_model("absent"), "absent")
    refused(lambda: client.unload_model("absent"), "absent")
    client.unload_model(model, unload_dependents=True)
    assert index(client)[model] != "READY"
    assert not client.is_model_ready(model)
    refused(lambda: scores(module, client), model)
    client.load_model(model)
    assert client.is_model_ready(model) and index(client)[model] == "READY"
    np.testing.assert_allclose(scores(module, client), before, atol=2e-2)
    # The listener of clients does not have these calls.
    for call in [lambda: other.get_model_repository_index(), lambda: other.load_model(model), lambda: other.unload_model(model)]:
        try:
            call()
        except InferenceServerException:
            continue
        raise AssertionError("a client may change what is served")
    print(f"repository over {name}: index, load with and without configuration, unload, errors")


drive("HTTP", http, http.InferenceServerClient(first["admin"].removeprefix("http://"), network_timeout=60.0),
      http.InferenceServerClient(first["url"].removeprefix("http://")))
drive("gRPC", grpc, grpc.InferenceServerClient(first["admin_grpc"]), grpc.InferenceServerClient(first["grpc"]))
