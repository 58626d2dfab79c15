"""The OpenAPI document is one, and real replies are what it says."""

import json

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from common import Samples, address, get, json_request, metadata, started
import http.client

document = json.loads(get("/v2/openapi.json")[2])
validate(document)


def check(reply, name):
    # References in it start at the document's root.
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    Draft202012Validator(schema).validate(reply)


model = started()["model"]
request = json_request(*Samples(metadata()).draw(3), {"sla_ms": 900})
check(request, "InferenceRequest")
connection = http.client.HTTPConnection(address(), timeout=30)
for body, name, status in [(request, "InferenceResponse", 200), ({"inputs": []}, "Error", 400)]:
    connection.request("POST", f"/v2/models/{model}/infer", json.dumps(body))
    reply = connection.getresponse()
    assert reply.status == status
    check(json.loads(reply.read()), name)

checked = 0
for path, operations in document["paths"].items():
    schema = operations.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
    schema = schema.get("application/json", {}).get("schema", {})
    path = path.replace("{model_name}", model).replace("{model_version}", started()["version"])
    if "$ref" in schema:
        status, _, body = get(path)
        assert status == 200, path
        check(json.loads(body), schema["$ref"].rsplit("/", 1)[1])
        checked += 1
assert checked >= 7, checked
print(f"OpenAPI: valid, and so are {checked + 2} kinds of replies")
