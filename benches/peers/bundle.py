"""A bundle for mprec: the parameters in f32, and quantised copies as variants, as docs/bundle.md defines them."""
import hashlib
import json
import struct

import numpy as np

from shapes import DENSE, HASHES, PRIME, RANGE
from weights import CHUNK, table_chunks

DTYPES = {"f4": "F32", "i8": "I64", "i1": "I8", "u1": "U8", "u2": "BF16"}
SIZES = {"F32": 4, "I64": 8, "I8": 1, "U8": 1, "BF16": 2}


def bf16(values):
    """Upper halves of floats, rounded to even, as u16."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def int8_layer(weight):
    """Codes i8 [out, in] and scale f32 [out]: the largest of an output's weights becomes ±127."""
    most = np.abs(weight).max(1)
    codes = np.rint(weight * (np.float32(127) / most)[:, None]).astype(np.int8)
    return codes, most / np.float32(127)


def int8_rows(rows):
    """Bytes [rows, dim + 4]: codes, then scale and bias as 16-bit floats."""
    bias = rows.min(1).astype(np.float16)
    scale = ((rows.max(1) - bias.astype(np.float32)) / np.float32(255)).astype(np.float16)
    codes = (rows - bias.astype(np.float32)[:, None]) / scale.astype(np.float32)[:, None]
    codes = np.clip(np.rint(codes), 0, 255).astype(np.uint8)
    tail = np.stack([scale, bias], 1).view(np.uint8)
    return np.concatenate([codes, tail], 1)


def tensors(model, precision):
    """Name, dtype, shape and a function that gives the chunks, of every tensor; the tables last, one after the other."""
    shape, out = model.shape, []

    def whole(name, value):
        value = np.ascontiguousarray(value)
        out.append((name, DTYPES[value.dtype.str[1:]], value.shape, lambda: [value]))

    def layers(prefix, net):
        for at, (weight, bias) in enumerate(net):
            name = f"{prefix}.{2 * at}.weight"
            if precision == "int8" and len(weight) > 1:
                codes, scale = int8_layer(weight)
                whole(name, codes)
                whole(f"{name}_scale", scale)
            else:
                whole(name, bf16(weight) if precision == "bf16" and len(weight) > 1 else weight)
            whole(f"{prefix}.{2 * at}.bias", bias)

    layers("bot_l", model.bottom)
    layers("top_l", model.top)
    for feature in range(len(shape.cardinalities) if shape.decoder else 0):
        a, b = model.hashes[feature]
        whole(f"dhe_l.hash_params.{feature}", np.stack([a, b, np.full(HASHES, PRIME), np.full(HASHES, RANGE)], 1))
        layers(f"dhe_l.dhe_mlps.{feature}", model.decoders[feature])
    # Wide values first: every tensor is then aligned.
    out.sort(key=lambda tensor: -SIZES[tensor[1]])
    convert, dtype, extra = {"f32": (lambda rows: rows, "F32", 0), "bf16": (bf16, "BF16", 0),
                             "int8": (int8_rows, "U8", 4)}[precision]
    for feature, rows in enumerate(shape.cardinalities if shape.table else ()):
        chunks = lambda feature=feature, rows=rows: (convert(chunk) for chunk in table_rows(model, feature, rows))
        out.append((f"emb_l.{feature}.weight", dtype, (rows, shape.dim + extra), chunks))
    return out


def table_rows(model, feature, rows):
    if model.rows is None:
        return table_chunks(model.shape, feature)
    start = int(model.base[feature])
    return (model.rows[start + at:start + min(rows, at + CHUNK)] for at in range(0, rows, CHUNK))


def write_variant(folder, model, precision):
    """Writes one variant's file; returns its entry for the manifest and where its tables start."""
    shape, described = model.shape, tensors(model, precision)
    header, at, tables = {}, 0, None
    for name, dtype, dims, _ in described:
        tables = at if tables is None and name.startswith("emb_l") else tables
        size = int(np.prod(dims, dtype=np.int64)) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(dims), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    start = struct.pack("<Q", len(text)) + text
    name = shape.name if precision == "f32" else f"{shape.name}-{precision}"
    path = folder / f"{name}.safetensors"
    whole, entries = hashlib.sha256(start), {}
    with open(path, "wb") as file:
        file.write(start)
        for tensor, dtype, dims, chunks in described:
            own = hashlib.sha256()
            for chunk in chunks():
                data = np.ascontiguousarray(chunk).data.cast("B")
                file.write(data)
                own.update(data)
                whole.update(data)
            entries[tensor] = {"dtype": dtype, "shape": list(dims), "sha256": own.hexdigest()}
    dhe = {"hashes": HASHES, "hidden": list(shape.decoder[1:-1]), "dim": shape.dim, "transform": "uniform", "activation": "sigmoid"}
    if shape.table and shape.decoder:
        feature = {"representation": "hybrid", "dim": shape.dim, "dhe": dhe}
    else:
        feature = {"representation": "table", "dim": shape.dim} if shape.table else {"representation": "dhe", **dhe}
    architecture = {"model": "dlrm", "bottom": list(shape.bottom), "top": list(shape.top),
                    "interaction": {"op": "dot", "itself": False}, "features": [feature] * len(shape.cardinalities)}
    if precision != "f32":
        architecture["precision"] = {"rows": precision, "layers": precision}
    entry = {"name": name, "architecture": architecture, "file": path.name, "bytes": path.stat().st_size,
             "sha256": whole.hexdigest(), "tensors": entries}
    return entry, path, len(start) + (tables or 0)


def write(folder, model, precisions):
    """Writes a bundle with a variant per precision, `f32` first; maps the tables from it if they are not in memory."""
    folder.mkdir(parents=True)
    variants = []
    for precision in precisions:
        entry, path, tables = write_variant(folder, model, precision)
        variants.append(entry)
        if precision == "f32":
            f32_file, f32_tables = path, tables
    schema = {
        "dense": [f"i{at}" for at in range(DENSE)],
        "sparse": [{"name": f"c{at}", "cardinality": rows} for at, rows in enumerate(model.shape.cardinalities)],
        "out_of_vocabulary": "zero",
    }
    manifest = {"format": 1, "model": "peers", "version": "1", "schema": schema, "variants": variants}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if model.shape.table and model.rows is None:
        total = (sum(model.shape.cardinalities), model.shape.dim)
        model.rows = np.memmap(f32_file, np.float32, "c", f32_tables, total)
