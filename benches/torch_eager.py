"""Latency of the Kaggle-shape table model in PyTorch eager mode, one thread, as JSON.

    python3 benches/torch_eager.py BATCH [SECONDS]

The same architecture, cardinalities and distributions as `src/kaggle.rs`, written plainly: one merged
table with one lookup, `bmm` for the interaction, inference mode. Prints the smallest, median and
95th-percentile time per batch in microseconds over different batches in rotation, and the mean
processor time, which other programs on the machine disturb less.
"""
import json
import sys
import time

import torch
from torch import nn

CARDINALITIES = [
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27,
    14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
]
ROWS = [c // 8 if c > 100_000 else c for c in CARDINALITIES]
DIM = 16


def mlp(widths, last):
    layers = []
    for at, (i, o) in enumerate(zip(widths, widths[1:])):
        layers.append(nn.Linear(i, o))
        if last or at + 2 < len(widths):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.bottom = mlp([13, 512, 256, 64, DIM], last=True)
        self.top = mlp([DIM + 27 * 26 // 2, 512, 256, 1], last=False)
        self.table = nn.Parameter(torch.rand(sum(ROWS), DIM).sub_(0.5).mul_(0.5))
        self.register_buffer("base", torch.tensor([0] + ROWS[:-1]).cumsum(0))
        below = torch.tril_indices(27, 27, -1)
        self.register_buffer("below", below[0] * 27 + below[1])

    def forward(self, dense, ids):
        x = self.bottom(dense)
        rows = torch.nn.functional.embedding(ids + self.base, self.table)
        vectors = torch.cat([x.unsqueeze(1), rows], 1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)
        met = torch.cat([x, products.index_select(1, self.below)], 1)
        return torch.sigmoid(self.top(met)).squeeze(1)


def zipf(samples, cardinality, generator):
    power = 1 - 1.05
    u = torch.rand(samples, generator=generator, dtype=torch.float64)
    rank = (1 - u * (1 - (cardinality + 1.0) ** power)) ** (1 / power)
    return (rank.long().clamp(1, cardinality) - 1) * 2654435761 % cardinality


def main():
    samples = int(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = Model().eval()
    generator = torch.Generator().manual_seed(2)
    batches = []
    for _ in range(min(max(65536 // samples, 32), 4096)):
        dense = torch.rand(samples, 13, generator=generator)
        ids = torch.stack([zipf(samples, rows, generator) for rows in ROWS], 1)
        batches.append((dense, ids))
    with torch.inference_mode():
        times = []
        for limit in (0.2 * seconds, seconds):
            times, processor = [], time.thread_time()
            start = time.perf_counter()
            while time.perf_counter() - start < limit or len(times) < 12:
                dense, ids = batches[len(times) % len(batches)]
                before = time.perf_counter_ns()
                model(dense, ids)
                times.append((time.perf_counter_ns() - before) / 1e3)
        cpu_us = round((time.thread_time() - processor) * 1e6 / len(times), 1)
    times.sort()
    at = lambda share: round(times[int((len(times) - 1) * share)], 1)
    print(json.dumps({"path": "torch eager", "torch": torch.__version__, "batch": samples,
                      "min_us": at(0), "p50_us": at(0.5), "p95_us": at(0.95), "cpu_us": cpu_us}))


if __name__ == "__main__":
    main()
