"""Drives a server with `tritonclient` (gRPC), as its users do, and prints what was checked.

    python grpc_client.py 127.0.0.1:8001 http://127.0.0.1:8000
    python grpc_client.py FILE                      # into which the server printed its first line (`mprec serve --json`)

Every call of the client that the server implements is made, plain and from asyncio; what it does not
implement must be refused as such. Scores are compared with those of the HTTP endpoint.
"""

import asyncio
import json
import queue
import sys
import threading
import urllib.request

import grpc
import numpy
import tritonclient.grpc as client
import tritonclient.grpc.aio as asynchronous
from tritonclient.utils import InferenceServerException

SAMPLES = 17
# Long enough for a machine that builds something else meanwhile.
PATIENCE_S = 60


def values(metadata, samples, seed=1):
    """Dense values, and ids that every vocabulary has."""
    random = numpy.random.default_rng(seed)
    shapes = {one.name: one.shape for one in metadata.inputs}
    dense = random.normal(size=(samples, shapes["dense"][1])).astype(numpy.float32)
    sparse = random.integers(0, 2, size=(samples, shapes["sparse"][1]), dtype=numpy.int64)
    return dense, sparse


def inputs(dense, sparse):
    made = [client.InferInput("dense", list(dense.shape), "FP32"), client.InferInput("sparse", list(sparse.shape), "INT64")]
    made[0].set_data_from_numpy(dense)
    made[1].set_data_from_numpy(sparse)
    return made


def over_http(url, model, dense, sparse):
    body = {"parameters": {"sla_ms": PATIENCE_S * 1000}, "inputs": [
        {"name": "dense", "shape": dense.shape, "datatype": "FP32", "data": dense.ravel().tolist()},
        {"name": "sparse", "shape": sparse.shape, "datatype": "INT64", "data": sparse.ravel().tolist()},
    ]}
    request = urllib.request.Request(f"{url}/v2/models/{model}/infer", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        answer = json.load(reply)
    return answer["parameters"]["path"], numpy.array(answer["outputs"][0]["data"], numpy.float32)


def same(result, expected):
    """Scores are those that the path gave before, over either protocol. Which path answers is the router's choice, and every path
    has scores of its own."""
    path = result.get_response().parameters["path"].string_param
    scores = result.as_numpy("scores")
    numpy.testing.assert_allclose(scores, expected.setdefault(path, scores), rtol=0, atol=1e-6, err_msg=path)


def scores_of_both(server, url, model, dense, sparse, parameters):
    """Scores by path, of which one path at least has answered over HTTP and over gRPC, alike."""
    expected, by_grpc = {}, set()
    for _ in range(200):
        path, scores = over_http(url, model, dense, sparse)
        numpy.testing.assert_allclose(scores, expected.setdefault(path, scores), rtol=0, atol=1e-6, err_msg=path)
        result = server.infer(model, inputs(dense, sparse), parameters=parameters)
        same(result, expected)
        by_grpc.add(result.get_response().parameters["path"].string_param)
        if path in by_grpc:
            return expected
    raise AssertionError("no path ever answered over HTTP and over gRPC")


def refused(status, work):
    """The exception of `work`, which must end with this status, or one of these."""
    statuses = [status] if isinstance(status, str) else status
    try:
        work()
    except InferenceServerException as error:
        assert error.status() in [f"StatusCode.{one}" for one in statuses], error
        return error
    raise AssertionError(f"not refused with {status}")


def check_about(server, model):
    assert server.is_server_live() and server.is_server_ready()
    assert server.is_model_ready(model)
    about = server.get_server_metadata()
    assert about.name == "mprec" and "parameters" in about.extensions, about
    assert server.get_server_metadata(as_json=True)["version"] == about.version
    metadata = server.get_model_metadata(model)
    assert [one.name for one in metadata.inputs] == ["dense", "sparse"], metadata
    assert server.is_model_ready(model, metadata.versions[0])
    config = server.get_model_config(model).config
    assert config.name == model and config.max_batch_size > 0 and config.HasField("dynamic_batching"), config
    for one, described in zip(config.input, metadata.inputs):
        assert (one.name, list(one.dims)) == (described.name, list(described.shape[1:])), config
    refused("NOT_FOUND", lambda: server.get_model_config("no-such-model"))
    refused("NOT_FOUND", lambda: server.get_model_metadata("no-such-model"))
    assert not server.is_model_ready(model, "no-such-version")
    return metadata


def check_health(address):
    """gRPC's own health check, by a call without generated code: field 1 of the reply is the status, 1 is SERVING."""
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=PATIENCE_S) == b"\x08\x01"
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE_S)
        assert next(watch) == b"\x08\x01"
        watch.cancel()


def check_infer(server, model, metadata, url):
    dense, sparse = values(metadata, SAMPLES)
    patient = {"sla_ms": PATIENCE_S * 1000}
    expected = scores_of_both(server, url, model, dense, sparse, patient)

    result = server.infer(model, inputs(dense, sparse), request_id="a", parameters=patient)
    same(result, expected)
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("a", model, metadata.versions[0])
    said = response.parameters
    assert "@" in said["path"].string_param and said["variant"].string_param, said
    assert 0 < said["quality"].double_param <= 1
    # A query that was split ran in batches of its parts, which are smaller than it is.
    assert said["batch_samples"].int64_param > 0, said
    assert said["compute_us"].int64_param > 0, said

    outputs = [client.InferRequestedOutput("scores")]
    for extra in (
        {"outputs": outputs},
        {"model_version": metadata.versions[0]},
        {"client_timeout": PATIENCE_S},
        {"priority": 1, "timeout": PATIENCE_S * 1_000_000},
        {"headers": {"mprec-sla-ms": str(PATIENCE_S * 1000)}},
        {"compression_algorithm": "gzip"},
        {"compression_algorithm": "deflate"},
        {"parameters": {**patient, "min_quality": 0.01}},
    ):
        extra = {"parameters": patient, **extra}
        result = server.infer(model, inputs(dense, sparse), **extra)
        same(result, expected)

    # Bags: every feature has two ids, in the form for any number of them.
    twice = numpy.repeat(sparse, 2)
    bags = inputs(dense, sparse)[:1]
    for name, array, datatype in (
        ("sparse", twice, "INT64"),
        ("sparse_lengths", numpy.full(sparse.shape, 2, numpy.int32), "INT32"),
    ):
        bags.append(client.InferInput(name, list(array.shape), datatype))
        bags[-1].set_data_from_numpy(array)
    assert server.infer(model, bags, parameters=patient).as_numpy("scores").shape == (SAMPLES,)
    return dense, sparse, expected


def check_ranking(server, model, metadata, url):
    """What all candidates share sent once, and the best of them alone."""
    with urllib.request.urlopen(f"{url}/v2/models/{model}", timeout=PATIENCE_S) as reply:
        names = [feature["name"] for feature in json.load(reply)["mprec"]["schema"]["sparse"]]
    users, others = list(range(0, len(names), 2)), list(range(1, len(names), 2))
    dense, sparse = values(metadata, SAMPLES)
    dense[:], sparse[:, users] = dense[0], sparse[0, users]
    once = [
        client.InferInput("dense", [1, dense.shape[1]], "FP32"),
        client.InferInput("user_sparse", [1, len(users)], "INT64"),
        client.InferInput("sparse", [SAMPLES, len(others)], "INT64"),
    ]
    for one, array in zip(once, (dense[:1], sparse[:1, users], sparse[:, others])):
        one.set_data_from_numpy(numpy.ascontiguousarray(array))
    patient = {"sla_ms": PATIENCE_S * 1000}
    told = {**patient, "user_features": ",".join(names[at] for at in users)}
    plain, compared = {}, 0
    for _ in range(200):
        result = server.infer(model, inputs(dense, sparse), parameters=patient)
        path = result.get_response().parameters["path"].string_param
        plain[path] = result.as_numpy("scores")
        for parameters in (told, {**told, "top_k": 5}):
            result = server.infer(model, once, parameters=parameters)
            expected = plain.get(result.get_response().parameters["path"].string_param)
            if expected is None:
                continue
            scores, indices = result.as_numpy("scores"), result.as_numpy("indices")
            if indices is not None:
                assert indices.shape == scores.shape == (5,) and (numpy.diff(scores) <= 0).all(), (scores, indices)
                assert scores[-1] >= numpy.sort(expected)[-5] - 1e-5, (scores, expected)
                expected = expected[indices]
            numpy.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
            compared += 1
        if compared >= 8:
            break
    assert compared >= 2, "no path ever answered both forms"
    refused("INVALID_ARGUMENT", lambda: server.infer(model, once, parameters=patient))


def check_statistics(server, model):
    for rows in (server.get_inference_statistics(model).model_stats, server.get_inference_statistics().model_stats):
        mine = {row.name: row for row in rows}[model]
        assert mine.inference_count >= SAMPLES and mine.execution_count > 0, mine
        stats = mine.inference_stats
        assert stats.success.count == stats.compute_infer.count > 0 and stats.success.ns > 0, mine
    refused("NOT_FOUND", lambda: server.get_inference_statistics("no-such-model"))


def check_client_timeout(server, model, metadata):
    """A deadline that passes ends the call. The client's clock is coarse, so that one call may still be fast enough."""
    many = inputs(*values(metadata, 500))
    for _ in range(50):
        try:
            server.infer(model, many, parameters={"sla_ms": PATIENCE_S * 1000}, client_timeout=1e-6)
        except InferenceServerException as error:
            # The server takes the deadline as its own, and may see sooner that it cannot keep it.
            assert error.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.RESOURCE_EXHAUSTED"), error
            return
    raise AssertionError("no call ended at its deadline")


def check_errors(server, model, metadata):
    dense, sparse = values(metadata, SAMPLES)
    good = inputs(dense, sparse)
    refused("NOT_FOUND", lambda: server.infer("no-such-model", good))
    refused("NOT_FOUND", lambda: server.infer(model, good, model_version="no-such-version"))
    error = refused("INVALID_ARGUMENT", lambda: server.infer(model, good[:1]))
    assert "`sparse` is missing" in error.message(), error
    refused("INVALID_ARGUMENT", lambda: server.infer(model, inputs(dense[:3], sparse)))
    refused("INVALID_ARGUMENT", lambda: server.infer(model, good, parameters={"min_qualty": 0.5}))
    refused("INVALID_ARGUMENT", lambda: server.infer(model, good, outputs=[client.InferRequestedOutput("other")]))
    refused("INVALID_ARGUMENT", lambda: server.infer(model, good, outputs=[client.InferRequestedOutput("scores", class_count=3)]))
    refused("FAILED_PRECONDITION", lambda: server.infer(model, good, parameters={"min_quality": 1.0}))
    # Nothing is answered in a microsecond: the deadline is sure to pass, or no path is expected to keep it.
    refused(("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"), lambda: server.infer(model, good, timeout=1))
    check_client_timeout(server, model, metadata)
    shared = client.InferInput("dense", list(dense.shape), "FP32")
    shared.set_shared_memory("region", dense.nbytes)
    refused("INVALID_ARGUMENT", lambda: server.infer(model, [shared, good[1]]))
    for unimplemented in (
        server.get_system_shared_memory_status,
        server.get_cuda_shared_memory_status,
        server.unregister_system_shared_memory,
        lambda: server.register_system_shared_memory("region", "/region", 64),
        server.get_trace_settings,
        server.get_log_settings,
        lambda: server.update_log_settings({"log_verbose_level": 1}),
    ):
        refused("UNIMPLEMENTED", unimplemented)


def check_async(server, model, data):
    dense, sparse, expected = data
    done = queue.Queue()
    for _ in range(8):
        server.async_infer(model, inputs(dense, sparse), lambda result, error: done.put((result, error)), client_timeout=PATIENCE_S)
    for _ in range(8):
        result, error = done.get(timeout=PATIENCE_S)
        assert error is None, error
        same(result, expected)
    # A call that is cancelled ends, whether the answer was sooner or not.
    ended = threading.Event()
    call = server.async_infer(model, inputs(dense, sparse), lambda result, error: ended.set())
    call.cancel()
    assert ended.wait(PATIENCE_S)


def check_stream(server, model, data):
    dense, sparse, expected = data
    done = queue.Queue()
    server.start_stream(lambda result, error: done.put((result, error)))
    patient = {"sla_ms": PATIENCE_S * 1000}
    for at in range(20):
        server.async_stream_infer(model, inputs(dense, sparse), request_id=str(at), parameters=patient)
    for at in range(20):
        result, error = done.get(timeout=PATIENCE_S)
        assert error is None, error
        assert result.get_response().id == str(at)
        same(result, expected)
    # An error does not end the stream.
    server.async_stream_infer("no-such-model", inputs(dense, sparse))
    result, error = done.get(timeout=PATIENCE_S)
    assert "no-such-model" in error.message(), error
    server.async_stream_infer(model, inputs(dense, sparse), enable_empty_final_response=True, parameters=patient)
    result, error = done.get(timeout=PATIENCE_S)
    assert error is None, error
    server.stop_stream()
    # One that is stopped in the middle.
    server.start_stream(lambda result, error: done.put((result, error)))
    server.async_stream_infer(model, inputs(dense, sparse))
    server.stop_stream(cancel_requests=True)


async def check_asyncio(address, model, data):
    dense, sparse, expected = data
    patient = {"sla_ms": PATIENCE_S * 1000}
    async with asynchronous.InferenceServerClient(address) as server:
        assert await server.is_server_ready() and await server.is_model_ready(model)
        calls = [server.infer(model, inputs(dense, sparse), parameters=patient) for _ in range(8)]
        for result in await asyncio.gather(*calls):
            same(result, expected)

        async def requests():
            for at in range(5):
                yield {"model_name": model, "inputs": inputs(dense, sparse), "request_id": str(at), "parameters": patient}

        got = [pair async for pair in server.stream_infer(requests())]
        assert [result.get_response().id for result, error in got] == [str(at) for at in range(5)], got
        assert all(error is None for _, error in got), got


def check_keepalive(address, model, data):
    dense, sparse, expected = data
    options = client.KeepAliveOptions(keepalive_time_ms=10_000, keepalive_timeout_ms=20_000)
    with client.InferenceServerClient(address, keepalive_options=options) as server:
        result = server.infer(model, inputs(dense, sparse), client_timeout=PATIENCE_S)
        same(result, expected)


def main(address, url):
    with urllib.request.urlopen(f"{url}/v2", timeout=PATIENCE_S) as reply:
        model = json.load(reply)["models"][0]
    with client.InferenceServerClient(address) as server:
        metadata = check_about(server, model)
        check_health(address)
        data = check_infer(server, model, metadata, url)
        check_ranking(server, model, metadata, url)
        check_statistics(server, model)
        check_errors(server, model, metadata)
        check_async(server, model, data)
        check_stream(server, model, data)
        asyncio.run(check_asyncio(address, model, data))
        check_keepalive(address, model, data)
    print(json.dumps({"model": model, "samples": SAMPLES, "ok": True}))


def places(arguments):
    """Where gRPC and HTTP are."""
    if len(arguments) == 2:
        return arguments
    with open(arguments[0], encoding="utf-8") as file:
        started = json.loads(file.readline())
    return started["grpc"], started["url"]


if __name__ == "__main__":
    main(*places(sys.argv[1:]))
