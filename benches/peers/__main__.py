"""mprec beside the strongest CPU runtimes, on the same weights and ids: a table of ratios.

Makes random parameters at published shapes, hands them to everybody, checks that all score alike, then lets everybody run
in turn, round after round. mprec runs from a bundle on `cpu`, in f32, int8, and bf16 where the CPU multiplies bf16.

  target           a model in one of mprec's precisions, a batch size, a number of threads
  peer             the fastest peer allowed there: f32 meets f32; bf16 meets f32 and bf16; int8 meets all
  ratio            median over rounds of the peer's p50 over ours (one thread), or of our samples/s over the peer's (two)
  in brackets      smallest and largest over rounds

Models: table (Criteo Kaggle, 13-512-256-64-16, 26 tables of dim 16, 512-256-1) at every batch; dhe (1024-512-256-16),
dhe-small (1024-128-16) and hybrid (a table beside dhe) at batch 128; terabyte (dim 64, 512-512-256-1) on request: its
12.6 GB want 16 GB of disk and of free memory, and its tables are mapped by all.
Scores, which are probabilities, may be 1e-5 apart in f32, and in reduced precision a third of the furthest that other ids
move a score; anything more ends the run.
Two-thread cells run between two checks that both CPUs are whole cores, and again if they were not.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

EXAMPLES = """examples:
  benches/peers.sh --quick                               a look: small tables, one round; its figures mean little
  benches/peers.sh --json runs.json --markdown table.md  everything but terabyte, for a quiet machine
  benches/peers.sh --models table --batches 1,8 --peers onnxruntime,openvino --one-thread
  benches/peers.sh --models terabyte --json terabyte.json --markdown terabyte.md
"""
ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_MODELS = ["table", "dhe-small", "dhe", "hybrid"]
MODELS = [*DEFAULT_MODELS, "terabyte"]


def listed(text):
    return text.split(",")


def positive(kind):
    def parse(text):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value
    return parse


def parse(names):
    parser = argparse.ArgumentParser(prog="benches/peers.sh", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="table and dhe-small, tables divided by 64, batches 1 and 128, one round")
    parser.add_argument("--models", type=listed, help=f"of {', '.join(MODELS)} (default: all but terabyte)")
    parser.add_argument("--peers", type=listed, help=f"of {', '.join(names)} (default: all that fit the CPU)")
    parser.add_argument("--batches", type=listed, help="samples a batch (default: 1,8,128,2048)")
    parser.add_argument("--one-thread", action="store_true", help="no two-thread cells")
    parser.add_argument("--rounds", type=positive(int), help="turns of everybody in every cell (default: 5)")
    parser.add_argument("--seconds", type=positive(float), help="length of a turn (default: 1)")
    parser.add_argument("--scale-down", type=positive(float), help="divides cardinalities above 100 (default: 1; whole tables are 2.2 GB)")
    parser.add_argument("--mprec", default=str(ROOT / "target/release/mprec"), help="the binary (default: target/release/mprec)")
    parser.add_argument("--json", type=pathlib.Path, help="every run, the ratios, the command, commit and machine")
    parser.add_argument("--markdown", type=pathlib.Path, help="the tables for a README")
    options = parser.parse_args()
    quick = options.quick
    options.models = options.models or (["table", "dhe-small"] if quick else DEFAULT_MODELS)
    options.batches = options.batches or (["1", "128"] if quick else ["1", "8", "128", "2048"])
    options.rounds = options.rounds or (1 if quick else 5)
    options.seconds = options.seconds or (0.2 if quick else 1.0)
    options.scale_down = options.scale_down or (64.0 if quick else 1.0)
    options.one_thread |= quick
    for value, known, what in ((options.models, MODELS, "model"), (options.peers or [], names, "peer")):
        for name in value:
            if name not in known:
                parser.error(f"`{name}` is no {what}; known are {', '.join(known)}")
    if not all(size.isdigit() and 1 <= int(size) <= 65536 for size in options.batches):
        parser.error("--batches takes numbers from 1 to 65536, separated by commas")
    options.batches = [int(size) for size in options.batches]
    if not any(name in ("table", "terabyte") for name in options.models) and 128 not in options.batches:
        parser.error("dhe, dhe-small and hybrid are measured at batch 128, which --batches leaves out")
    if not os.access(options.mprec, os.X_OK) or pathlib.Path(options.mprec).is_dir():
        parser.error(f"no binary at {options.mprec}: run `cargo build --release` or pass --mprec")
    options.mprec = str(pathlib.Path(options.mprec).resolve())
    return options


def output_of(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=pathlib.Path(__file__).parent)
    return done.stdout.strip() if done.returncode == 0 else None


def machine():
    """What a published figure must say about where it was taken."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in cpuinfo.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "i8mm", "bf16")
    return {
        "cpu": fields.get("model name"), "features": [flag for flag in wanted if flag in fields.get("flags", fields.get("Features", "")).split()],
        "cpus": len(os.sched_getaffinity(0)), "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(), "python": platform.python_version(), "load_before": os.getloadavg(),
        "packages": {name: importlib.metadata.version(name) for name in ("numpy", "torch", "onnx", "onnxruntime", "openvino")
                     if importlib.util.find_spec(name)},
    }


def main():
    from contenders import CONTENDERS, cpu_has_bf16, missing
    options = parse(list(CONTENDERS))
    bf16 = cpu_has_bf16()
    names = options.peers or [name for name, entry in CONTENDERS.items() if bf16 or entry[0] != "bf16"]
    lacking = missing(names)
    if lacking:
        sys.exit(f"this Python lacks {', '.join(lacking)}: pip install them, or leave their peers out with --peers")
    import cells
    import ours
    import report
    from probe import Probe
    if not bf16:
        cells.note("no cells in bf16: this CPU does not multiply bf16, and peers would emulate it")
    options.resident = ours.can_copy_tables(options.mprec)
    cells.note("mprec copies tables to large pages" if options.resident else "this mprec maps its tables; the peers' lie in large pages")
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2 and not options.one_thread:
        sys.exit("two-thread cells need two CPUs; pass --one-thread")
    about, records, agreement = machine(), [], {}
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "mprec" / "peers"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="run-") as scratch:
        scratch = pathlib.Path(scratch)
        probe = None if options.one_thread else Probe(scratch, cpus[:2])
        for model in options.models:
            precisions = ["f32", "int8"] + ["bf16"] * (bf16 and model != "terabyte")
            kind = cells.Kind(model, options, precisions, scratch)
            kind.one_thread(names, cpus)
            if probe:
                # Eager is TorchScript's code with more overhead: it is never the fastest on two threads either.
                kind.two_threads([name for name in names if name != "torch-eager"], cpus, probe)
            records += kind.records
            agreement[model] = kind.agreement
            save(options, about, records, agreement)
            shutil.rmtree(scratch / model)
    print(report.terminal(records))


def save(options, about, records, agreement):
    """Written after every model: a run that ends early keeps what it has."""
    import report
    for path in filter(None, (options.json, options.markdown)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if options.markdown:
        options.markdown.write_text(report.markdown(records))
    if options.json:
        options.json.write_text(json.dumps({
            "command": shlex.join(["benches/peers.sh", *sys.argv[1:]]), "commit": output_of("git", "rev-parse", "HEAD"),
            "uncommitted": output_of("git", "status", "--porcelain", "--untracked-files=no"),
            "mprec": output_of(options.mprec, "--version"),
            "machine": about, "load_after": os.getloadavg(), "tables": "large pages" if options.resident else "mapped by mprec",
            "largest_difference_of_scores": agreement, "ratios": report.ratios(records), "scaling": report.scaling(records), "runs": records,
        }, indent=1) + "\n")


if __name__ == "__main__":
    from worker import ContenderError
    # So that the scratch folder, gigabytes of tables, goes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except ContenderError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
