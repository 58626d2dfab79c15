"""Measures: everybody scores alike first, then runs in turn, round after round, so that the host's noise falls on all."""
import sys
import time

import numpy as np

import bundle
import ids
import weights
from contenders import CONTENDERS, EXACT, REDUCED
from ours import COMPARED, Mprec
from shapes import DENSE, shape
from worker import Worker

SETTLE = 0.2
"""Seconds between turns: some runtimes' threads go on spinning for a while."""
TWO_THREADS_FROM = 128
"""Batches below this are not worth dividing."""

START = time.monotonic()


def note(text):
    print(f"[{time.monotonic() - START:6.0f} s] {text}", file=sys.stderr, flush=True)


class Kind:
    """One model, its bundle, batches and scores, and the records of its cells."""

    def __init__(self, name, options, precisions, scratch):
        self.name, self.options, self.precisions, self.scratch = name, options, precisions, scratch
        made = shape(name, options.scale_down)
        note(f"{name}: making {sum(made.cardinalities) if made.table else 0:,} rows and a bundle in {', '.join(precisions)}")
        # The larger tables are mapped from the bundle by everybody: two copies do not fit into most memories.
        in_memory = name != "terabyte"
        self.model = weights.model(made, tables_in_memory=in_memory)
        bundle.write(scratch / name, self.model, precisions)
        self.mprec = Mprec(options.mprec, scratch / name, scratch, options.resident and made.table and in_memory)
        self.sizes = options.batches if made.table and not made.decoder else [size for size in options.batches if size == 128]
        self.batches = {size: ids.batches(made.cardinalities, DENSE, size) for size in self.sizes}
        self.compared = ids.batches(made.cardinalities, DENSE, COMPARED, 1)[0]
        self.records, self.agreement = [], {}
        self.expected = self.mprec.scores(name, *self.compared)
        dense, sparse = self.compared
        moved = np.abs(self.mprec.scores(name, dense, np.roll(sparse, 1, axis=0)) - self.expected).max()
        self.tolerance = {"f32": EXACT, "bf16": REDUCED * float(moved), "int8": REDUCED * float(moved)}
        note(f"{name}: other ids move scores by up to {moved:.1e}")
        if not moved > 1e-2:
            raise SystemExit(f"{name}: other ids hardly move the scores: the comparison could not fail")
        for precision in precisions:
            self.compare(f"mprec {precision}", precision, self.mprec.scores(self.variant(precision), *self.compared))

    def variant(self, precision):
        return self.name if precision == "f32" else f"{self.name}-{precision}"

    def compare(self, who, precision, scores):
        off = float(np.abs(scores - self.expected).max())
        note(f"{self.name}: {who} is at most {off:.1e} from mprec in f32 ({self.tolerance[precision]:.1e} allowed)")
        if not off <= self.tolerance[precision]:
            raise SystemExit(f"{who} gives other scores: nothing is measured")
        self.agreement[who] = max(off, self.agreement.get(who, 0.0))

    def start(self, name, cpus):
        build = CONTENDERS[name][2]
        return Worker(name, build, self.model, self.batches, cpus, self.scratch)

    def checked(self, workers):
        """Waits until all are built, and compares their scores."""
        for worker in workers:
            worker.answer()
            self.compare(worker.name, CONTENDERS[worker.name][0], worker.ask("score", *self.compared))

    def record(self, who, precision, size, plan, at, result):
        self.records.append({"model": self.name, "who": who, "precision": precision, "batch": size, "plan": plan, "round": at, **result})
        note(f"{self.name}, batch {size}, round {at + 1}: {who}{'' if plan == '1' else f' ({plan})'} {result['p50_us']:.0f} µs, "
             f"{result['samples_per_second']:.0f} samples/s" + (f", {result['cores']:.2f} cores" if "cores" in result else ""))
        time.sleep(SETTLE)

    def one_thread(self, names, cpus):
        workers = []
        try:
            for name in names:
                workers.append(self.start(name, cpus[:1]))
                self.checked(workers[-1:])
            for size in self.sizes:
                for worker in workers:
                    worker.ask("warm", size)
                for at in range(self.options.rounds):
                    for precision in self.precisions:
                        result = self.mprec.timed(self.variant(precision), size, 1, self.options.seconds)
                        self.record(f"mprec {precision}", precision, size, "1", at, result)
                    for worker in workers:
                        result = worker.ask("time", size, self.options.seconds)
                        self.record(worker.name, CONTENDERS[worker.name][0], size, "1", at, result)
        finally:
            for worker in workers:
                worker.close()

    def two_threads(self, names, cpus, probe):
        """Plans: `1` thread; `2x1`, two copies of one thread each, as mprec's workers are; `1x2`, one with two threads."""
        sizes = [size for size in self.sizes if size >= TWO_THREADS_FROM]
        teams = []
        try:
            for name in names if sizes else ():
                teams.append((name, []))
                for own in (cpus[:1], cpus[1:2], cpus[:2]):
                    teams[-1][1].append(self.start(name, own))
                    self.checked(teams[-1][1][-1:])
            for size in sizes:
                for _, team in teams:
                    for worker in team:
                        worker.ask("warm", size)
                for at in range(self.options.rounds):
                    self.two_threads_round(teams, size, at, probe)
        finally:
            for _, team in teams:
                for worker in team:
                    worker.close()

    def two_threads_round(self, teams, size, at, probe):
        seconds = self.options.seconds
        for precision in self.precisions:
            for threads, plan in ((1, "1 of 2"), (2, "2x1")):
                result = probe.whole(lambda: self.mprec.timed(self.variant(precision), size, threads, seconds))
                self.record(f"mprec {precision}", precision, size, plan, at, result)
        for name, (first, second, wide) in teams:
            precision = CONTENDERS[name][0]
            for plan, turn in (("1 of 2", [first]), ("2x1", [first, second]), ("1x2", [wide])):
                result = probe.whole(lambda: together(turn, size, seconds))
                self.record(name, precision, size, plan, at, result)


def together(workers, size, seconds):
    """Times of all at once: rates add up, the slower one's times stand."""
    for worker in workers:
        worker.send("time", size, seconds)
    results = [worker.answer() for worker in workers]
    slowest = max(results, key=lambda result: result["p50_us"])
    return {**slowest, "samples_per_second": sum(result["samples_per_second"] for result in results)}
