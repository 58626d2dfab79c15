"""A contender in a process of its own, forked so that all share one copy of the weights, with its threads pinned.

It waits for orders on a pipe: nothing runs in two of them at once unless asked to.
"""
import multiprocessing
import os
import pathlib
import tempfile
import time
import traceback
import warnings

FORK = multiprocessing.get_context("fork")
TURN_LIMIT = 1800
"""Most seconds an order may take: torch.compile builds a kernel per batch size."""


class ContenderError(Exception):
    """A contender failed; the message holds its own traceback."""


class Worker:
    """`cpus`: what it may run on, one a thread."""

    def __init__(self, name, build, model, batches, cpus, scratch):
        self.name = name
        self.pipe, other = FORK.Pipe()
        arguments = (other, build, model, batches, cpus, scratch)
        self.process = FORK.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()

    def send(self, *order):
        self.pipe.send(order)

    def answer(self):
        try:
            if not self.pipe.poll(TURN_LIMIT):
                raise ContenderError(f"{self.name} did not answer within {TURN_LIMIT} s")
            kind, value = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise ContenderError(f"{self.name} ended with {self.process.exitcode}; out of memory?") from None
        if kind == "failed":
            raise ContenderError(f"{self.name} failed:\n{value}")
        return value

    def ask(self, *order):
        self.send(*order)
        return self.answer()

    def close(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(pipe, build, model, batches, cpus, scratch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(len(cpus))
    os.environ.update(TORCHINDUCTOR_CACHE_DIR=str(scratch / "inductor"), TORCHINDUCTOR_COMPILE_THREADS="1")
    os.sched_setaffinity(0, cpus)
    # TorchScript and its quantiser say at every call that they are deprecated.
    warnings.filterwarnings("ignore")
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as own:
            orders(pipe, *build(model, len(cpus), pathlib.Path(own)), batches)
    except EOFError:
        pass
    except Exception:
        pipe.send(("failed", traceback.format_exc()))


def orders(pipe, prepare, run, read, batches):
    pipe.send(("done", None))
    inputs = None
    while True:
        order, *arguments = pipe.recv()
        answer = None
        if order == "score":
            answer = read(run(prepare(*arguments))).copy()
        elif order == "warm":
            inputs = [prepare(*batch) for batch in batches[arguments[0]]]
            run(inputs[0])
        elif order == "time":
            answer = timed(run, inputs, *arguments)
        pipe.send(("done", answer))


def timed(run, inputs, samples, seconds):
    """As `mprec bench` does it: a fifth of the time to warm up, then at least ten batches, in rotation."""
    clock, at = time.perf_counter, 0
    begin = clock()
    while at < 3 or clock() - begin < seconds * 0.2:
        run(inputs[at % len(inputs)])
        at += 1
    times, begin = [], clock()
    while len(times) < 10 or clock() - begin < seconds:
        before = clock()
        run(inputs[at % len(inputs)])
        times.append(clock() - before)
        at += 1
    elapsed = clock() - begin
    times.sort()
    return {"p50_us": times[(len(times) - 1) // 2] * 1e6, "min_us": times[0] * 1e6, "runs": len(times),
            "samples_per_second": len(times) * samples / elapsed}
