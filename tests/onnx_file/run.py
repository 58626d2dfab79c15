"""Checks ONNX files and runs them, for `main.rs`: reads {path: inputs} from standard input, writes {path: scores}.

An input is [dtype, shape, values].
"""
import json
import sys

import numpy
import onnx
import onnxruntime

scores = {}
for path, inputs in json.load(sys.stdin).items():
    # With the path, the checker follows parameters into the file beside the model.
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {
        name: numpy.array(values, dtype).reshape(shape) for name, (dtype, shape, values) in inputs.items()
    }
    assert sorted(feed) == sorted(value.name for value in session.get_inputs()), path
    (answer,) = session.run(["score"], feed)
    assert answer.shape == (feed["dense"].shape[0], 1), answer.shape
    scores[path] = answer[:, 0].tolist()
json.dump(scores, sys.stdout)
