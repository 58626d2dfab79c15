"""ONNX Runtime and OpenVINO on one graph, written directly so that neither depends on an exporter.

The tables are inputs of the graph, bound once without a copy. ONNX Runtime hashes in doubles, exactly. OpenVINO's CPU plugin
computes 64-bit integers and doubles in 32 bits, so NumPy hashes for it, inside the timed call.
"""
import io
import logging

import numpy as np

from shapes import PRIME, RANGE


class Graph:
    """Collects nodes and constants under made-up names."""

    def __init__(self):
        from onnx import helper, numpy_helper
        self.helper, self.from_array = helper, numpy_helper.from_array
        self.nodes, self.constants = [], []

    def op(self, kind, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(self.from_array(np.ascontiguousarray(value), name))
        return name

    def net(self, x, layers, last, gemm):
        for at, (weight, bias) in enumerate(layers):
            weight, bias = self.constant(weight.T), self.constant(bias)
            x = self.op("Gemm", x, weight, bias) if gemm else self.op("Add", self.op("MatMul", x, weight), bias)
            x = self.op(last if at + 1 == len(layers) else "Relu", x)
        return x


def hashed(graph, model):
    from onnx import TensorProto
    f64 = lambda value: graph.constant(np.asarray(value, np.float64))
    ids = graph.op("Unsqueeze", graph.op("Transpose", "ids", perm=[1, 0]), graph.constant(np.array([2])))
    value = graph.op("Cast", ids, to=TensorProto.DOUBLE)
    value = graph.op("Add", graph.op("Mul", value, f64(model.hashes[:, :1])), f64(model.hashes[:, 1:]))
    for modulus in (PRIME, RANGE):
        whole = graph.op("Floor", graph.op("Div", value, f64(modulus)))
        value = graph.op("Sub", value, graph.op("Mul", whole, f64(modulus)))
    value = graph.op("Cast", value, to=TensorProto.FLOAT)
    for kind, number in (("Div", RANGE - 1), ("Mul", 2), ("Sub", 1)):
        value = graph.op(kind, value, graph.constant(np.float32(number)))
    return value


def dlrm(model, gemm=True, codes_given=False):
    """Inputs: dense f32 [n, 13]; ids i64 [n, features]; table f32; codes f32 [features, n, hashes] if given."""
    from onnx import TensorProto, helper
    shape, graph = model.shape, Graph()
    features = len(shape.cardinalities)
    inputs = [helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["n", shape.bottom[0]])]
    if shape.table or not codes_given:
        inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", features]))
    x = graph.net("dense", model.bottom, "Relu", gemm)
    vectors = [graph.op("Unsqueeze", x, graph.constant(np.array([1])))]
    if shape.table:
        inputs.append(helper.make_tensor_value_info("table", TensorProto.FLOAT, list(model.rows.shape)))
        vectors.append(graph.op("Gather", "table", graph.op("Add", "ids", graph.constant(model.base)), axis=0))
    if shape.decoder:
        if codes_given:
            inputs.append(helper.make_tensor_value_info("codes", TensorProto.FLOAT, [features, "n", shape.decoder[0]]))
        value = "codes" if codes_given else hashed(graph, model)
        for at in range(len(shape.decoder) - 1):
            value = graph.op("MatMul", value, graph.constant(np.stack([net[at][0].T for net in model.decoders])))
            value = graph.op("Add", value, graph.constant(np.stack([net[at][1] for net in model.decoders])[:, None]))
            value = graph.op("Relu" if at + 2 < len(shape.decoder) else "Sigmoid", value)
        vectors.append(graph.op("Transpose", value, perm=[1, 0, 2]))
    vectors = graph.op("Concat", *vectors, axis=1)
    products = graph.op("MatMul", vectors, graph.op("Transpose", vectors, perm=[0, 2, 1]))
    row, column = np.tril_indices(shape.vectors, -1)
    pairs = graph.constant(row * shape.vectors + column)
    products = graph.op("Gather", graph.op("Flatten", products, axis=1), pairs, axis=1)
    graph.net(graph.op("Concat", x, products, axis=1), model.top, "Sigmoid", gemm)
    graph.nodes[-1].output[0] = "score"
    output = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])]
    made = helper.make_graph(graph.nodes, "dlrm", inputs, output, graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def build_onnxruntime(precision, model, threads, scratch):
    import onnxruntime
    content = dlrm(model, gemm=precision != "int8").SerializeToString()
    if precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic
        # It recommends a pre-processing step that infers shapes, which a graph written directly does not need.
        logging.getLogger().setLevel(logging.ERROR)
        path = scratch / "model.onnx"
        path.write_bytes(content)
        # One scale per output where the operator can: a batched product takes one per matrix.
        quantize_dynamic(path, scratch / "int8.onnx", weight_type=QuantType.QInt8, per_channel=not model.shape.decoder,
                         op_types_to_quantize=["MatMul"])
        content = (scratch / "int8.onnx").read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    table = onnxruntime.OrtValue.ortvalue_from_numpy(model.rows) if model.shape.table else None

    def prepare(dense, ids):
        binding = session.io_binding()
        binding.bind_cpu_input("dense", dense)
        binding.bind_cpu_input("ids", ids)
        if table is not None:
            binding.bind_ortvalue_input("table", table)
        binding.bind_output("score")
        # The binding does not own what it points to.
        return binding, dense, ids

    def run(inputs):
        session.run_with_iobinding(inputs[0])
        return inputs[0]

    return prepare, run, lambda binding: binding.copy_outputs_to_cpu()[0].reshape(-1)


def build_openvino(precision, model, threads):
    import openvino
    from openvino import opset13
    shape, core = model.shape, openvino.Core()
    network = core.read_model(io.BytesIO(dlrm(model, codes_given=bool(shape.decoder)).SerializeToString()))
    if shape.table:
        parameter = next(p for p in network.get_parameters() if p.output(0).get_any_name() == "table")
        parameter.output(0).replace(opset13.constant(model.rows, shared_memory=True).output(0))
        network.remove_parameter(parameter)
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(network, "CPU", settings)
    in_use = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    if ("bf" in in_use) != (precision == "bf16"):
        raise ValueError(f"OpenVINO runs in {in_use} where {precision} was asked for")
    request = compiled.create_infer_request()
    a, b = ((model.hashes[:, :1].astype(np.float64), model.hashes[:, 1:].astype(np.float64)) if shape.decoder else (None, None))

    def codes(ids):
        # Exact: every value is an integer below 2^53.
        value = np.ascontiguousarray(ids.T)[:, :, None] * a
        value += b
        for modulus in (PRIME, RANGE):
            value -= np.floor(value / modulus) * modulus
        value = value.astype(np.float32)
        value /= np.float32(RANGE - 1)
        value *= np.float32(2)
        value -= np.float32(1)
        return value

    def prepare(dense, ids):
        return openvino.Tensor(dense, shared_memory=True), openvino.Tensor(ids, shared_memory=True), dense, ids

    def run(inputs):
        request.set_tensor("dense", inputs[0])
        if shape.table:
            request.set_tensor("ids", inputs[1])
        if shape.decoder:
            # The tensor does not own it: the name keeps it until the answer is there.
            own = codes(inputs[3])
            request.set_tensor("codes", openvino.Tensor(own, shared_memory=True))
        request.infer()
        return request

    return prepare, run, lambda request: np.array(request.get_tensor("score").data).reshape(-1)
