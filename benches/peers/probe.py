"""Tells whether two CPUs are two whole cores just now. On a virtual machine the host may put both on one for a second."""
import pathlib
import platform
import shutil
import subprocess

WHOLE = 1.8
"""Both together do at least so many times what one alone does."""
TRIES = 6


class Probe:
    def __init__(self, scratch, cpus):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("two-thread cells need a C compiler for the probe; install one or pass --one-thread")
        self.binary, self.cpus = scratch / "probe", [str(cpu) for cpu in cpus]
        source = pathlib.Path(__file__).with_name("probe.c")
        x86 = platform.machine() == "x86_64"
        native = "-march=native" if platform.machine() == "x86_64" else "-mcpu=native"
        flags = ["-O3", native, "-ffp-contract=fast", "-pthread"]
        subprocess.run([compiler, *flags, str(source), "-o", str(self.binary)], check=True)

    def cores(self):
        done = subprocess.run([self.binary, *self.cpus], check=True, capture_output=True, text=True)
        return float(done.stdout)

    def whole(self, measure):
        """Measures until the CPUs were whole cores before and after; the last try says in `cores` when they never were."""
        best = None
        for _ in range(TRIES):
            before = self.cores()
            result = measure()
            result["cores"] = min(before, self.cores())
            if best is None or result["cores"] > best["cores"]:
                best = result
            if best["cores"] >= WHOLE:
                break
        return best
