"""PyTorch in its fastest forms: eager, TorchScript (f32, dynamic int8, bf16) and torch.compile.

Written plainly and well: one merged table and one lookup, decoders of all features as one batched product, the pairs of the
interaction computed once. The hash runs in doubles, which hold every intermediate value exactly and vectorise; eager keeps
the 64-bit integers of the published code. Imported in workers only, after their threads are set.
"""
import numpy as np
import torch
from torch import nn

from shapes import PRIME, RANGE


def net(layers, last, dtype):
    modules = []
    for at, (weight, bias) in enumerate(layers):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = torch.from_numpy(weight).to(dtype), torch.from_numpy(bias).to(dtype)
        modules += [layer, last if at + 1 == len(layers) else nn.ReLU()]
    return nn.Sequential(*modules)


class Dlrm(nn.Module):
    """`per_feature`: a decoder is a stack of nn.Linear, which the quantiser can see, instead of a batched product."""

    def __init__(self, model, dtype=torch.float32, integer_hash=False, per_feature=False):
        super().__init__()
        shape = model.shape
        self.dtype, self.integer_hash = dtype, integer_hash
        self.bottom, self.top = net(model.bottom, nn.ReLU(), dtype), net(model.top, nn.Sigmoid(), dtype)
        row, column = np.tril_indices(shape.vectors, -1)
        self.register_buffer("pairs", torch.from_numpy(row * shape.vectors + column))
        self.stored, self.decoders, self.layers = shape.table, None, 0
        if self.stored:
            self.register_buffer("table", torch.from_numpy(model.rows))
            self.register_buffer("base", torch.from_numpy(model.base))
        self.dhe = bool(shape.decoder)
        if self.dhe:
            kind = torch.int64 if integer_hash else torch.float64
            self.register_buffer("a", torch.from_numpy(model.hashes[:, :1].copy()).to(kind))
            self.register_buffer("b", torch.from_numpy(model.hashes[:, 1:].copy()).to(kind))
            if per_feature:
                self.decoders = nn.ModuleList([net(decoder, nn.Sigmoid(), dtype) for decoder in model.decoders])
            else:
                self.layers = len(shape.decoder) - 1
                for at in range(self.layers):
                    weight = np.stack([decoder[at][0].T for decoder in model.decoders])
                    bias = np.stack([decoder[at][1] for decoder in model.decoders])[:, None]
                    self.register_buffer(f"weight{at}", torch.from_numpy(weight).to(dtype).contiguous())
                    self.register_buffer(f"bias{at}", torch.from_numpy(bias).to(dtype))

    def codes(self, ids):
        """[features, samples, hashes] in -1..1."""
        ids = ids.t().unsqueeze(2)
        if self.integer_hash:
            value = (ids * self.a).add(self.b).fmod(PRIME).fmod(RANGE)
        else:
            value = ids.double() * self.a + self.b
            value = value - torch.floor(value / PRIME) * PRIME
            value = value - torch.floor(value / RANGE) * RANGE
        return value.to(torch.float32) / float(RANGE - 1) * 2 - 1

    def decode(self, codes):
        if self.decoders is not None:
            return torch.stack([decoder(codes[at]) for at, decoder in enumerate(self.decoders)], 1)
        for at in range(self.layers):
            codes = torch.baddbmm(getattr(self, f"bias{at}"), codes, getattr(self, f"weight{at}"))
            codes = torch.relu(codes) if at + 1 < self.layers else torch.sigmoid(codes)
        return codes.transpose(0, 1)

    def forward(self, dense, ids):
        x = self.bottom(dense.to(self.dtype))
        vectors = [x.unsqueeze(1)]
        if self.stored:
            vectors.append(nn.functional.embedding(ids + self.base, self.table).to(self.dtype))
        if self.dhe:
            vectors.append(self.decode(self.codes(ids).to(self.dtype)))
        vectors = torch.cat(vectors, 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        return self.top(torch.cat([x, products], 1)).to(torch.float32).squeeze(1)


def prepare(dense, ids):
    return torch.from_numpy(dense), torch.from_numpy(ids)


def build(form, precision, model, threads):
    """`prepare` makes inputs of arrays; `run` scores them."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.set_grad_enabled(False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    module = Dlrm(model, dtype, integer_hash=form == "eager", per_feature=precision == "int8").eval()
    if model.shape.decoder:
        exact_codes(module, model)
    if precision == "int8":
        for part in ("bottom", "top") + (("decoders",) if model.shape.decoder else ()):
            quantised = torch.ao.quantization.quantize_dynamic(getattr(module, part), {nn.Linear}, dtype=torch.qint8)
            setattr(module, part, quantised)
    if form == "script":
        example = (torch.rand(4, model.shape.bottom[0]), torch.zeros(4, len(model.shape.cardinalities), dtype=torch.int64))
        module = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, example)))
    if form == "compile":
        # A graph per batch size. Not frozen: freezing would copy the tables.
        torch._dynamo.config.recompile_limit = 64
        module = torch.compile(module, dynamic=False)

    def run(inputs):
        with torch.inference_mode():
            return module(*inputs)

    return prepare, run, lambda scores: scores.numpy()


def exact_codes(module, model):
    """The hash must be exact, or a wrong one could hide in the tolerance of a reduced precision."""
    cardinalities = np.array(model.shape.cardinalities)
    ids = (np.random.default_rng(5).random((32, len(cardinalities))) * cardinalities).astype(np.int64)
    ids[0] = cardinalities - 1
    a, b = model.hashes[:, :1], model.hashes[:, 1:]
    value = ((ids.T[:, :, None] * a + b) % PRIME % RANGE).astype(np.float32)
    expected = value / np.float32(RANGE - 1) * np.float32(2) - np.float32(1)
    got = module.codes(torch.from_numpy(ids)).numpy()
    if not np.array_equal(got, expected):
        raise ValueError("PyTorch's hash values differ from those of 64-bit integers")
