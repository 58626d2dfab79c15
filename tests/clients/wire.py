"""What `tritonclient` does not send: zstd, load reports, and requests over the Unix socket."""

import http.client
import json
import socket
import zlib

import zstandard

from common import Samples, address, get, json_request, metadata, started

path = f"/v2/models/{started()['model']}/infer"
samples = Samples(metadata())


def post(body, headers, connection=None):
    # A connection each: after an error that was sent before the body was read, a server may close.
    connection = connection or http.client.HTTPConnection(address(), timeout=30)
    connection.request("POST", path, body, headers)
    reply = connection.getresponse()
    told = reply.status, reply.headers, reply.read()
    connection.close()
    return told


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, name):
        super().__init__("localhost", timeout=30)
        self.name = name

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.name)


(unix,) = [url.removeprefix("unix:") for url in started()["urls"] if url.startswith("unix:")]
body = json.dumps(json_request(*samples.draw(300))).encode()
plain = json.loads(post(body, {})[2])["outputs"]
for connection in [None, UnixConnection(unix)]:
    status, headers, reply = post(
        zstandard.compress(body), {"content-encoding": "zstd", "accept-encoding": "zstd"}, connection)
    assert status == 200 and headers["content-encoding"] == "zstd", (status, reply)
    reply = zstandard.ZstdDecompressor().decompressobj().decompress(reply)
    assert json.loads(reply)["outputs"][0]["shape"] == plain[0]["shape"]

# A body of 1 GiB in 1 MB, and one that is not what it says.
bomb = zlib.compressobj(9)
small = b"".join(bomb.compress(b" " * (1 << 20)) for _ in range(1 << 10)) + bomb.flush()
assert len(small) < 2 << 20, len(small)
status, _, reply = post(small, {"content-encoding": "deflate"})
assert status == 413 and json.loads(reply)["code"] == "body_too_large", (status, reply)
status, _, reply = post(body, {"content-encoding": "gzip"})
assert status == 400 and json.loads(reply)["code"] == "bad_encoding", (status, reply)
status, headers, reply = post(body, {"content-encoding": "br"})
assert status == 415 and "zstd" in headers["accept-encoding"], (status, reply)

for form in ["text", "json"]:
    status, headers, _ = post(body, {"endpoint-load-metrics-format": form})
    kind, report = headers["endpoint-load-metrics"].split(" ", 1)
    assert status == 200 and kind == form.upper(), headers
    if form == "json":
        report = json.loads(report)
        assert 0 <= report["application_utilization"] < 100 and report["named_metrics"]["workers"] > 0, report
    else:
        assert "application_utilization=" in report, report

status, headers, page = get("/metrics", {"accept-encoding": "gzip"})
assert status == 200 and b"mprec_requests_total" in zlib.decompress(page, 31), headers
print("http.client: zstd, a bomb, load reports, the Unix socket")
