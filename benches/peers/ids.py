"""The very batches that `mprec bench` draws, so that everybody looks up the same ids.

A copy of its generator (xoshiro256++ seeded by SplitMix64, as in the crate `rand`) and of its Zipf law. A rank is a power
of a float, so one id in very many could differ where the two libraries round `pow` differently.
"""
import numpy as np

MASK = (1 << 64) - 1
EXPONENT = 1.05
SEED = 2
SAMPLES = 65_536


def generator_state(seed):
    """State of `SmallRng::seed_from_u64(seed)`."""
    state = []
    for _ in range(4):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        state.append(z ^ z >> 31)
    return state


def draws(state, count):
    """The next `count` 64-bit numbers, and advances `state`."""
    a, b, c, d = state
    out = np.empty(count, np.uint64)
    view = memoryview(out)
    for at in range(count):
        x = (a + d) & MASK
        view[at] = (((x << 23) & MASK | x >> 41) + a) & MASK
        t = (b << 17) & MASK
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= t
        d = (d << 45) & MASK | d >> 19
    state[:] = a, b, c, d
    return out


def zipf(uniform, cardinality):
    """Ids whose ranks follow a truncated Zipf law, scattered so that hot rows are no neighbours."""
    power = 1.0 - EXPONENT
    most = 1.0 - (cardinality + 1.0) ** power
    rank = (1.0 - uniform * most) ** (1.0 / power)
    return (np.clip(rank.astype(np.int64), 1, cardinality) - 1) * 2654435761 % cardinality


def batches(cardinalities, dense, samples, count=None):
    """`count` pairs of dense values f32 [samples, dense] in 0..1 and ids i64 [samples, features].

    Without a count, as many as `mprec bench` keeps in rotation."""
    count = count or min(4096, max(16, SAMPLES // samples))
    state = generator_state(SEED)
    out = []
    for _ in range(count):
        raw = draws(state, samples * (dense + len(cardinalities)))
        values = (raw[:samples * dense] >> np.uint64(40)).astype(np.float32) * np.float32(2.0 ** -24)
        uniform = (raw[samples * dense:] >> np.uint64(11)).astype(np.float64) * 2.0 ** -53
        ids = [zipf(column, c) for column, c in zip(uniform.reshape(-1, samples), cardinalities)]
        out.append((values.reshape(samples, dense), np.ascontiguousarray(np.stack(ids, 1))))
    return out
