"""What the device can do, measured: copies, products of matrices, and the two primitives that the models are made of.

Run as a process of its own, so that nothing of it is left on the device: `python limits.py cuda:0` prints one JSON object.
"""
import json
import sys
import time

import torch


def fastest(device, run, seconds=0.5):
    """Seconds of the fastest of several calls; every call is waited for."""
    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run()
    wait()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        run()
        wait()
        best = min(best, time.perf_counter() - before)
    return best


def product_rate(device, size, dtype, tf32=False):
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    rate = 2 * size**3 / fastest(device, lambda: torch.mm(a, b, out=out)) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    return rate


def measure(name):
    device = torch.device(name)
    gpu = device.type == "cuda"
    scale = 1 if gpu else 16
    source = torch.empty((1 << 28) // scale, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / fastest(device, lambda: target.copy_(source)) / 1e9
    del source, target
    size = 8192 if gpu else 1024
    limits = {"copy_gbytes_per_second": copy, "f32_tflops": product_rate(device, size, torch.float32)}
    if gpu:
        limits["tf32_tflops"] = product_rate(device, size, torch.float32, tf32=True)
        limits["bf16_tflops"] = product_rate(device, size, torch.bfloat16)

    # The gather of 8,192 samples of 26 features, and 26 decoders 1024-512 on 2,048 samples, by PyTorch's own operations.
    rows, dim, count = 10_000_000 // scale, 64, 26 * 8192
    table = torch.randn(rows, dim, device=device)
    ids = torch.randint(rows, (count,), device=device)
    gathered = fastest(device, lambda: torch.nn.functional.embedding(ids, table))
    limits["gather_gbytes_per_second"] = (2 * count * dim * 4 + count * 8) / gathered / 1e9
    samples = 2048 // scale
    codes, weights = torch.randn(26, samples, 1024, device=device), torch.randn(26, 1024, 512, device=device)
    limits["decoder_tflops"] = 2 * 26 * samples * 1024 * 512 / fastest(device, lambda: torch.bmm(codes, weights)) / 1e12
    about = {"device": name, "torch": torch.__version__}
    if gpu:
        card = torch.cuda.get_device_properties(device)
        about |= {"card": card.name, "memory_bytes": card.total_memory, "multiprocessors": card.multi_processor_count,
                  "cuda": torch.version.cuda}
    return about | limits


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
