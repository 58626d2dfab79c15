"""mprec itself: scores for the comparison, and `mprec bench` for the times."""
import json
import subprocess

import numpy as np
from safetensors.numpy import load_file, save_file

COMPARED = 128
"""Samples whose scores are compared: a batch that is measured too, so that torch.compile builds nothing for it alone."""


class Mprec:
    backend = "cpu"

    def __init__(self, binary, bundle, scratch, resident):
        self.binary, self.bundle, self.scratch, self.resident = binary, bundle, scratch, resident

    def call(self, *arguments):
        done = subprocess.run([self.binary, *map(str, arguments), "--json", "--quiet"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"mprec {' '.join(map(str, arguments))} failed:\n{done.stderr or done.stdout}")
        return json.loads(done.stdout)

    def scores(self, variant, dense, ids):
        offsets = np.ascontiguousarray(np.broadcast_to(np.arange(len(ids)), ids.T.shape))
        source, target = self.scratch / "in.safetensors", self.scratch / "out.safetensors"
        save_file({"dense": dense, "indices": np.ascontiguousarray(ids.T), "offsets": offsets}, source)
        self.call("score", self.bundle, "--path", f"{variant}@{self.backend}", "--input", source, "--output", target)
        return load_file(target)["scores"]

    def timed(self, variant, samples, threads, seconds):
        flags = ["--resident-tables"] if self.resident else []
        report = self.call("bench", "--bundle", self.bundle, "--path", f"{variant}@{self.backend}", "--batch", samples,
                           "--threads", threads, "--seconds", seconds, *flags)
        keys = ("p50_us", "p99_us", "min_us", "runs", "samples_per_second", "peak_gflops", "fraction_of_peak")
        return {key: report[key] for key in keys}


def can_copy_tables(binary):
    """Whether this build of mprec can hold tables in large pages of its own, as the peers' tables are."""
    return "--resident-tables" in subprocess.run([binary, "bench", "--help"], check=True, capture_output=True, text=True).stdout
