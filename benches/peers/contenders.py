"""Who runs against mprec, and how each is built."""
import functools
import importlib.util
import pathlib
import platform


def torch_form(form, precision):
    def build(model, threads, scratch):
        import torch_peers
        return torch_peers.build(form, precision, model, threads)
    return build


def onnxruntime(precision):
    def build(model, threads, scratch):
        import onnx_peers
        return onnx_peers.build_onnxruntime(precision, model, threads, scratch)
    return build


def openvino(precision):
    def build(model, threads, scratch):
        import onnx_peers
        return onnx_peers.build_openvino(precision, model, threads)
    return build


CONTENDERS = {
    # name: (precision, package, how it is built)
    "torch-eager": ("f32", "torch", torch_form("eager", "f32")),
    "torchscript": ("f32", "torch", torch_form("script", "f32")),
    "torchscript-int8": ("int8", "torch", torch_form("script", "int8")),
    "torchscript-bf16": ("bf16", "torch", torch_form("script", "bf16")),
    "torch-compile": ("f32", "torch", torch_form("compile", "f32")),
    "torch-compile-bf16": ("bf16", "torch", torch_form("compile", "bf16")),
    "onnxruntime": ("f32", "onnxruntime", onnxruntime("f32")),
    "onnxruntime-int8": ("int8", "onnxruntime", onnxruntime("int8")),
    "openvino": ("f32", "openvino", openvino("f32")),
    "openvino-bf16": ("bf16", "openvino", openvino("bf16")),
}

RIVALS = {"f32": ("f32",), "bf16": ("f32", "bf16"), "int8": ("f32", "bf16", "int8")}
"""Whom mprec in some precision is compared with: everybody who computes at least as finely, or as coarsely."""

EXACT = 1e-5
"""How far an f32 peer's score, a probability, may be from mprec's in f32."""

REDUCED = 1 / 3
"""How far a score in reduced precision may be, as a share of the furthest that other ids move a score. Random decoders are kind
to no quantiser: PyTorch's is 1.8e-2 off on dhe, where other ids move scores by 7.7e-2. What such a tolerance could hide, a
wrong lookup or hash of one feature, shows in the same contender in f32, which runs the same code."""


@functools.cache
def cpu_has_bf16():
    """Whether products of bf16 are in the instruction set: without, peers emulate them or widen to f32."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return bool(words & ({"bf16"} if platform.machine() == "aarch64" else {"avx512_bf16", "amx_bf16"}))


def missing(names):
    """Packages that some of the names need and this Python lacks."""
    needed = {"numpy", "safetensors"} | {CONTENDERS[name][1] for name in names}
    if needed & {"onnxruntime", "openvino"}:
        needed.add("onnx")
    return sorted(package for package in needed if importlib.util.find_spec(package) is None)
