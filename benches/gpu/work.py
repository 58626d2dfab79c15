"""What a batch asks of a device at the least: arithmetic and traffic, counted from a model's shape."""


def parameters(widths):
    return sum(i * o + o for i, o in zip(widths, widths[1:]))


def products(widths):
    """Multiplications and additions of one sample in a net."""
    return 2 * sum(i * o for i, o in zip(widths, widths[1:]))


def flops(shape, samples):
    """Of the nets, the decoders and the interaction's pairs. Hashing is integer work and not counted."""
    features, pairs = len(shape.cardinalities), shape.vectors * (shape.vectors - 1) // 2
    decoders = features * products(shape.decoder) if shape.decoder else 0
    return samples * (products(shape.bottom) + products(shape.top) + decoders + pairs * 2 * shape.dim)


def traffic(shape, samples):
    """Bytes: inputs, each looked-up row in and out, and every weight and hash parameter once."""
    features = len(shape.cardinalities)
    inputs = samples * (shape.bottom[0] * 4 + features * 8)
    rows = 2 * samples * features * shape.dim * 4 if shape.table else 0
    weights = 4 * (parameters(shape.bottom) + parameters(shape.top))
    if shape.decoder:
        weights += features * (4 * parameters(shape.decoder) + 2 * 8 * shape.decoder[0])
    return inputs + rows + weights
