"""Random parameters, the same for everybody: floats here, quantised copies for mprec in `bundle.py`."""
import dataclasses
import math

import numpy as np

from shapes import HASHES, PRIME

SEED = 123
CHUNK = 1 << 18
"""Rows made at once."""


@dataclasses.dataclass
class Model:
    """`bottom` and `top`: pairs of weight [out, in] and bias [out]. `rows`: all tables below each other [sum, dim], or
    None. `base` i64 [features]: where each starts. `hashes` i64 [features, 2, k]: a and b. `decoders`: nets like `bottom`,
    one a feature."""

    shape: object
    bottom: list
    top: list
    rows: object = None
    base: object = None
    hashes: object = None
    decoders: object = None


def net(random, widths):
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        weight = random.standard_normal((outputs, inputs), dtype=np.float32) * np.float32(math.sqrt(2 / (inputs + outputs)))
        bias = random.standard_normal(outputs, dtype=np.float32) * np.float32(math.sqrt(1 / outputs))
        layers.append((weight, bias))
    return layers


def table_chunks(shape, feature):
    """One feature's rows, a chunk at a time. In ±0.25, so that a wrong lookup shows in the score."""
    random = np.random.default_rng([SEED, 2, feature])
    left = shape.cardinalities[feature]
    while left > 0:
        chunk = random.random((min(left, CHUNK), shape.dim), dtype=np.float32)
        chunk -= np.float32(0.5)
        chunk *= np.float32(0.5)
        yield chunk
        left -= len(chunk)


def model(shape, tables_in_memory=True):
    """The parameters of a shape. Without tables in memory the caller maps them from a file."""
    random = np.random.default_rng([SEED, 1, shape.vectors])
    made = Model(shape, net(random, shape.bottom), net(random, shape.top))
    if shape.table:
        made.base = np.concatenate([[0], np.cumsum(shape.cardinalities)[:-1]]).astype(np.int64)
    if shape.table and tables_in_memory:
        # NumPy asks for large pages itself.
        made.rows = np.empty((sum(shape.cardinalities), shape.dim), np.float32)
        at = 0
        for feature in range(len(shape.cardinalities)):
            for chunk in table_chunks(shape, feature):
                made.rows[at:at + len(chunk)] = chunk
                at += len(chunk)
    if shape.decoder:
        features = range(len(shape.cardinalities))
        random = [np.random.default_rng([SEED, 3, feature, *shape.decoder[:2]]) for feature in features]
        made.hashes = np.stack([np.stack([r.integers(1, PRIME, HASHES), r.integers(0, PRIME, HASHES)]) for r in random])
        made.decoders = [net(r, shape.decoder) for r in random]
    return made
