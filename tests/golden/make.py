"""Golden vectors for the representations and the DLRM around them, made by PyTorch.

    pip install torch==2.11.0 safetensors numpy
    python tests/golden/make.py tests/golden

The model below is written with PyTorch's own modules (EmbeddingBag, Linear, BatchNorm1d, bmm), from the
published formulas, and shares nothing with the Rust code but the names of the tensors. Every case becomes
<case>.json (schema, architecture) and <case>.safetensors (parameters, inputs, expected scores).
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

CARDINALITIES = [7, 40, 3_000_000]      # the last one exceeds the artifact's p = 1,000,003
DIM = 4
SAMPLES = 9
ACTIVATIONS = {
    "none": torch.nn.Identity(), "relu": torch.nn.ReLU(),
    "sigmoid": torch.nn.Sigmoid(), "mish": torch.nn.Mish(),
}


def linear(generator, n_in, n_out, name, tensors):
    layer = torch.nn.Linear(n_in, n_out)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(n_out, n_in, generator=generator) * (1.5 / n_in**0.5))
        layer.bias.copy_(torch.randn(n_out, generator=generator) * 0.2)
    tensors[f"{name}.weight"] = layer.weight.detach().clone()
    tensors[f"{name}.bias"] = layer.bias.detach().clone()
    return layer


def table(generator, rows, dim, name, tensors):
    bag = torch.nn.EmbeddingBag(rows, dim, mode="sum")
    with torch.no_grad():
        bag.weight.copy_(torch.randn(rows, dim, generator=generator) * 0.5)
    tensors[name] = bag.weight.detach().clone()
    return bag


class Bags:
    """ids, offsets and weights of one feature."""

    def __init__(self, ids, lengths, weights):
        self.ids, self.lengths, self.weights = ids, lengths, weights
        self.offsets = torch.cumsum(lengths, 0) - lengths

    def with_ids(self, ids):
        return Bags(ids, self.lengths, self.weights)

    def sum_rows(self, bag):
        return bag(self.ids, self.offsets, per_sample_weights=self.weights)

    def reduce(self, vectors):
        if self.weights is not None:
            vectors = vectors * self.weights[:, None]
        out = torch.zeros(len(self.lengths), vectors.shape[1])
        owner = torch.repeat_interleave(torch.arange(len(self.lengths)), self.lengths)
        return out.index_add(0, owner, vectors)


def dhe(generator, feature, spec, tensors):
    k, m = spec["hashes"], 1_000_000
    p = spec.pop("p", 1_000_003)
    a = torch.randint(1, p, (k,), generator=generator)
    b = torch.randint(0, p, (k,), generator=generator)
    tensors[f"dhe_l.hash_params.{feature}"] = torch.stack(
        [a, b, torch.full((k,), p), torch.full((k,), m)], 1)
    widths = [k, *spec["hidden"], spec["dim"]]
    layers = [
        linear(generator, widths[j], widths[j + 1], f"dhe_l.dhe_mlps.{feature}.{2 * j}", tensors)
        for j in range(len(widths) - 1)
    ]
    norm = None
    if spec.get("normalised"):
        norm = torch.nn.BatchNorm1d(spec["dim"]).eval()
        with torch.no_grad():
            for part in (norm.weight, norm.bias, norm.running_mean):
                part.copy_(torch.randn(spec["dim"], generator=generator))
            norm.running_var.copy_(torch.rand(spec["dim"], generator=generator) + 0.1)
        for part, value in (("gamma", norm.weight), ("beta", norm.bias),
                            ("mean", norm.running_mean), ("variance", norm.running_var)):
            tensors[f"batch_norm.{feature}.{part}"] = value.detach().clone()

    def forward(bags):
        x = bags.ids[:, None]
        h = (a * x + b) % p % m
        if spec.get("transform", "uniform") == "uniform":
            code = h / (m - 1) * 2 - 1
        else:
            v = (h + 1) / m
            radius = torch.sqrt(-2 * torch.log(v[:, 0::2]))
            angle = 2 * torch.pi * v[:, 1::2]
            code = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 2)
            code = code.reshape(len(x), k)
        assert code.dtype == torch.float32
        for at, layer in enumerate(layers):
            code = layer(code)
            last = at + 1 == len(layers)
            code = ACTIVATIONS[spec["activation"] if last else "relu"](code)
        if norm is not None:
            code = norm(code) if len(code) else code
        return bags.reduce(code)

    return forward


def representation(generator, feature, cardinality, spec, tensors):
    """Returns (stored or None, computed or None), each a function from bags to vectors."""
    kind, name = spec["representation"], f"emb_l.{feature}.weight"
    if kind == "table":
        bag = table(generator, cardinality, spec["dim"], name, tensors)
        return lambda bags: bags.sum_rows(bag), None
    if kind == "hash":
        bag = table(generator, min(spec["rows"], cardinality), spec["dim"], name, tensors)
        return lambda bags: bags.with_ids(bags.ids % spec["rows"]).sum_rows(bag), None
    if kind == "quotient_remainder":
        c = spec["collisions"]
        quotients = table(generator, -(-cardinality // c), spec["dim"], f"{name}_q", tensors)
        remainders = table(generator, c, spec["dim"], f"{name}_r", tensors)

        def combined(bags):
            q = bags.with_ids(torch.div(bags.ids, c, rounding_mode="floor")).sum_rows(quotients)
            r = bags.with_ids(bags.ids % c).sum_rows(remainders)
            how = spec["combination"]
            return q * r if how == "mult" else q + r if how == "add" else torch.cat([q, r], 1)

        return combined, None
    if kind == "dhe":
        return None, dhe(generator, feature, spec, tensors)
    stored, _ = representation(
        generator, feature, cardinality, {"representation": "table", "dim": spec["dim"]}, tensors)
    return stored, dhe(generator, feature, spec["dhe"], tensors)


def interact(spec, vectors):
    if spec["op"] == "cat":
        return torch.cat(vectors, 1)
    stacked = torch.stack(vectors, 1)
    products = torch.bmm(stacked, stacked.transpose(1, 2))
    rows, columns = torch.tril_indices(len(vectors), len(vectors), 0 if spec["itself"] else -1)
    return torch.cat([vectors[0], products[:, rows, columns]], 1)


def width_of(spec):
    if spec["representation"] == "dhe":
        return [spec["dim"]]
    if spec["representation"] == "hybrid":
        return [spec["dim"], spec["dhe"]["dim"]]
    return [spec["dim"] * (2 if spec.get("combination") == "concat" else 1)]


def make(folder, name, seed, features, interaction=None, lengths=(1, 1), weighted=False,
         cardinalities=CARDINALITIES):
    generator = torch.Generator().manual_seed(seed)
    interaction = interaction or {"op": "dot", "itself": False}
    features = [json.loads(json.dumps(spec)) for spec in features]
    tensors = {}
    dim = width_of(features[0])[0]
    bottom = [3, 6, dim]
    bottom_net = [linear(generator, bottom[j], bottom[j + 1], f"bot_l.{2 * j}", tensors) for j in range(2)]
    parts = [
        representation(generator, at, cardinality, spec, tensors)
        for at, (cardinality, spec) in enumerate(zip(cardinalities, features))
    ]
    dense = torch.rand(SAMPLES, 3, generator=generator) * 3
    bags = []
    for cardinality in cardinalities:
        count = torch.randint(lengths[0], lengths[1] + 1, (SAMPLES,), generator=generator)
        total = int(count.sum())
        ids = torch.randint(0, cardinality, (total,), generator=generator)
        weights = torch.randn(total, generator=generator) if weighted else None
        bags.append(Bags(ids, count, weights))
    with torch.no_grad():
        x = dense
        for layer in bottom_net:
            x = torch.relu(layer(x))
        stored = [part[0](bag) for part, bag in zip(parts, bags) if part[0]]
        computed = [part[1](bag) for part, bag in zip(parts, bags) if part[1]]
        z = interact(interaction, [x, *stored, *computed])
        top = [z.shape[1], 5, 1]
        top_net = [linear(generator, top[j], top[j + 1], f"top_l.{2 * j}", tensors) for j in range(2)]
        hidden = torch.relu(top_net[0](z))
        scores = torch.sigmoid(top_net[1](hidden))[:, 0]
    tensors["input.dense"] = dense
    tensors["input.ids"] = torch.cat([bag.ids for bag in bags])
    tensors["input.lengths"] = torch.cat([bag.lengths for bag in bags])
    if weighted:
        tensors["input.weights"] = torch.cat([bag.weights for bag in bags])
    tensors["expected.interaction"] = z
    tensors["expected.scores"] = scores
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / f"{name}.safetensors")
    case = {
        "made_with": f"torch {torch.__version__.split('+')[0]}, seed {seed}",
        "schema": {
            "dense": ["a", "b", "c"],
            "sparse": [{"name": f"s{at}", "cardinality": c} for at, c in enumerate(cardinalities)],
        },
        "architecture": {"bottom": bottom, "top": top, "interaction": interaction, "features": features},
    }
    (folder / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    small = [7, 40, 25]
    table_spec = {"representation": "table", "dim": DIM}
    cat, itself = {"op": "cat"}, {"op": "dot", "itself": True}

    def dhe_spec(**more):
        return {"hashes": 16, "hidden": [12], "dim": DIM, "activation": "sigmoid", **more}

    def all_of(spec):
        return [spec] * 3

    many = {"lengths": (0, 4), "cardinalities": small}
    make(folder, "table-one-hot", 1, all_of(table_spec), cardinalities=small)
    make(folder, "table-multi-hot", 2, all_of(table_spec), **many)
    make(folder, "table-weighted", 3, all_of(table_spec), weighted=True, **many)
    make(folder, "table-cat", 4, all_of(table_spec), cat, cardinalities=small)
    make(folder, "table-itself", 5, all_of(table_spec), itself, cardinalities=small)
    make(folder, "hash-modulo", 6, all_of({"representation": "hash", "dim": DIM, "rows": 9}))
    make(folder, "hash-multi-hot", 7, all_of({"representation": "hash", "dim": DIM, "rows": 9}),
         lengths=(0, 4), weighted=True)
    for seed, combination in enumerate(["mult", "add", "concat"]):
        spec = {"representation": "quotient_remainder", "dim": DIM, "collisions": 6,
                "combination": combination}
        make(folder, f"qr-{combination}", 10 + seed, all_of(spec), **many)
    for seed, activation in enumerate(ACTIVATIONS):
        for transform in ["uniform", "gaussian"]:
            spec = {"representation": "dhe", **dhe_spec(activation=activation, transform=transform)}
            make(folder, f"dhe-{transform}-{activation}", 20 + seed, all_of(spec))
    wide_prime = {"representation": "dhe", **dhe_spec(p=2**31 - 1)}
    make(folder, "dhe-wide-prime", 30, all_of(wide_prime))
    make(folder, "dhe-no-hidden", 31, all_of({"representation": "dhe", **dhe_spec(hidden=[])}))
    make(folder, "dhe-deep", 32, all_of({"representation": "dhe", **dhe_spec(hidden=[14, 10, 6])}))
    make(folder, "dhe-normalised", 33, all_of({"representation": "dhe", **dhe_spec(normalised=True)}))
    make(folder, "dhe-multi-hot", 34, all_of({"representation": "dhe", **dhe_spec()}),
         lengths=(0, 4), weighted=True)
    hybrid = {"representation": "hybrid", "dim": DIM, "dhe": dhe_spec()}
    make(folder, "hybrid-dot", 40, all_of(hybrid), cardinalities=small)
    make(folder, "hybrid-cat", 41,
         all_of({"representation": "hybrid", "dim": DIM, "dhe": dhe_spec(dim=3)}), cat, **many)
    select = [{"representation": "dhe", **dhe_spec()}, table_spec, {"representation": "dhe", **dhe_spec()}]
    make(folder, "select-dot", 42, select)
    make(folder, "select-cat", 43, select, cat, lengths=(0, 3))


main()
