"""A served overload: the real endpoint under one, two and five times what its most accurate path can carry, load generator in a
process of its own.

    cargo build --release
    mprec demo --quick --out DIR                                  # a bundle to serve; or one of your own
    python3 benches/overload.py DIR/model [--profiles FILE] [--policies multi-path,mp-rec,fastest] [--rounds 5]

For every round and load, each policy serves the same queries in turn, on a server started anew. The load of 1 is what the most accurate
path (or --accurate) can carry by its profile, in its largest batches on all lanes; `cheap` is the same of the cheapest path. Prints medians
over rounds: queries in time of those offered and of those admitted, quantiles of latency over the SLA, refusals, goodput, and goodput over that of a
simulation of the same queries from the same profiles. The generator shares the cores: where its send lag is not far below the SLA, the row tells of it and
not of the server; such a bundle is too light for these cores. Loads are bounded and go to the loopback interface.
"""
import argparse
import json
import os
import pathlib
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile

MEAN = 120.0
"""Samples per query of the default sizes of `mprec load`, lognormal:4.6,0.6."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--profiles", type=pathlib.Path, help="default: measured now")
    parser.add_argument("--paths", default="", help="paths to serve, separated by commas; default: those of the profiles")
    parser.add_argument("--policies", default="multi-path,fastest,mp-rec")
    parser.add_argument("--accurate", help="path whose capacity is a load of 1; default: the most accurate")
    parser.add_argument("--loads", default="1,2,5")
    parser.add_argument("--sla-ms", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--burst", action="store_true", help="instead: half the accurate path's capacity, then 30 s of five times it, then half again")
    parser.add_argument("--mprec", default=str(pathlib.Path(__file__).resolve().parents[1] / "target/release/mprec"))
    parser.add_argument("--json", type=pathlib.Path, help="also every run, to this file")
    options = parser.parse_args()
    if options.burst:
        options.seconds = sum(seconds for seconds, _ in BURST)
    with tempfile.TemporaryDirectory() as scratch:
        if options.profiles is None:
            options.profiles = pathlib.Path(scratch) / "profiles.json"
            command(options, "profile", options.bundle, "--out", options.profiles, *(["--paths", options.paths] if options.paths else []))
        runs = measure(options)
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")
    print((bursts if options.burst else table)(runs))


def command(options, *arguments):
    done = subprocess.run([options.mprec, *map(str, arguments), "--json", "--quiet"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"mprec {' '.join(map(str, arguments))} failed:\n{done.stderr or done.stdout}")
    return json.loads(done.stdout)


def capacity(path):
    """Samples per second in the batches that it is best at, on all lanes."""
    return max(path["lanes"] * point["batch"] / point["p50_us"] * 1e6 for point in path["service"])


def measure(options):
    known = json.loads(options.profiles.read_text())["paths"]
    wanted = options.paths.split(",") if options.paths else [path["name"] for path in known]
    paths = {path["name"]: path for path in known if path["name"] in wanted}
    if len(paths) != len(wanted):
        sys.exit(f"the profiles have {', '.join(path['name'] for path in known)}")
    accurate = options.accurate or max(paths, key=lambda name: (paths[name]["accuracy"], -capacity(paths[name])))
    cheapest = max(paths, key=lambda name: capacity(paths[name]))
    one = capacity(paths[accurate])
    print(f"SLA {options.sla_ms:g} ms; a load of 1 is {one:.0f} samples/s, `{accurate}`; the cheapest, `{cheapest}`, carries "
          f"{capacity(paths[cheapest]) / one:.1f}", flush=True)
    runs = []
    for turn in range(options.rounds):
        for load in [BURST[1][1]] if options.burst else map(float, options.loads.split(",")):
            for policy in options.policies.split(","):
                run = serve(options, list(paths), policy, load * one / MEAN, turn + 1)
                runs.append({"round": turn + 1, "load": load, "policy": policy, "cheapest_share": capacity(paths[cheapest]) / (load * one), "asked_s": options.seconds} | run)
                print(f"round {turn + 1}, load {load:g}, {policy}: {run['in_time']} of {run['offered']} in time", file=sys.stderr, flush=True)
    return runs


def serve(options, paths, policy, qps, seed):
    arguments = [options.mprec, "serve", "--bundle", options.bundle, "--profiles", options.profiles, "--paths", ",".join(paths),
                 "--policy", policy, "--sla-ms", options.sla_ms, "--listen", "127.0.0.1:0",
                 "--grpc-listen", "off", "--json", "--quiet"]
    server = subprocess.Popen(list(map(str, arguments)), stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line:
            sys.exit("the server ended before it served; see above")
        url = json.loads(line)["url"]
        before, others = cores(server.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as trace:
            arrivals = []
            if options.burst:
                trace.write("".join(f"{second:.6f}\n" for second in burst(qps / BURST[1][1], seed)))
                trace.flush()
                arrivals = ["--arrivals", f"file:{trace.name}"]
            run = command(options, "load", "--url", url, "--qps", f"{qps:.3f}", "--sla-ms", options.sla_ms, "--seconds", options.seconds,
                      "--seed", seed, *arrivals, "--compare-profiles", options.profiles, "--compare-policy", policy)
        after, ended = cores(server.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
        # The generator is the only child that ended meanwhile; its simulation for comparison is in it.
        generator = ended.ru_utime + ended.ru_stime - others.ru_utime - others.ru_stime
        return run | {"workers_s": after[0] - before[0], "endpoint_s": after[1] - before[1], "generator_s": generator}
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


BURST = ((5, 0.5), (30, 5.0), (10, 0.5))
"""Seconds, and the load in them."""


def burst(one, seed):
    """Poisson arrivals at the loads of BURST, in seconds; `one` is the load of 1 in queries per second."""
    random_, at, end = random.Random(seed), 0.0, 0.0
    for seconds, load in BURST:
        at, end = end, end + seconds
        while (at := at + random_.expovariate(load * one)) < end:
            yield at


def bursts(runs):
    """Of each run: what was in time before, during and after the burst, and from when on all was as before it."""
    rows = ["| round | policy | in time before, % | during | in the first second after | later | late windows of 250 ms after the burst |", "|---|---|---|---|---|---|---|"]
    start, end = BURST[0][0], BURST[0][0] + BURST[1][0]
    for run in runs:
        def share(first, last):
            here = [window for window in run["windows"] if first <= window["start_s"] < last]
            offered = sum(window[key] for window in here for key in ("in_time", "late", "refused", "failed"))
            return f"{100 * sum(window['in_time'] for window in here) / max(1, offered):.2f}"
        after = [window for window in run["windows"] if window["start_s"] >= end]
        late = [f"{window['start_s'] - end:.2f}" for window in after if window["late"] + window["failed"]]
        rows.append(f"| {run['round']} | {run['policy']} | {share(0, start)} | {share(start, end)} | {share(end, end + 1)} | {share(end + 1, 1e9)} | {', '.join(late) or 'none'} |")
    return "\n".join(rows)


def cores(pid):
    """Seconds of processor time that the workers of a server and its other threads have had."""
    seconds = [0.0, 0.0]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name, fields = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        user, system = map(int, fields.split()[11:13])
        seconds[not name.startswith("cpu-")] += (user + system) / os.sysconf("SC_CLK_TCK")
    return seconds


HEAD = ("load", "policy", "in time, % of offered", "% of admitted", "p50 ms", "p99 ms", "p99.9 ms", "refused %", "accuracy", "refused in, p99 ms", "correct in time/s", "served / simulated", "send lag p99 ms",
        "in time, % of what the cheapest path can carry", "cores: workers, endpoint, generator")


def table(runs):
    rows = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for load, policy in dict.fromkeys((run["load"], run["policy"]) for run in runs):
        here = [run for run in runs if (run["load"], run["policy"]) == (load, policy)]
        middle = lambda value: statistics.median(map(value, here))
        goodput = sorted(run["correct_in_time_per_s"] for run in here)
        rows.append("| " + " | ".join((
            f"{load:g}", policy,
            f"{middle(lambda run: 100 * run['in_time'] / run['offered']):.2f}",
            f"{middle(lambda run: 100 * run['in_time'] / max(1, run['offered'] - run['refused'])):.2f}",
            *(f"{middle(lambda run: run[key]):.2f}" for key in ("p50_ms", "p99_ms", "p999_ms")),
            f"{middle(lambda run: 100 * run['refused'] / run['offered']):.2f}",
            f"{middle(lambda run: run['accuracy']):.4f}", f"{middle(lambda run: run['refusal_p99_ms']):.2f}",
            f"{statistics.median(goodput):.0f} ({goodput[0]:.0f}–{goodput[-1]:.0f})",
            f"{middle(lambda run: run['goodput_ratio']):.3f}", f"{middle(lambda run: run['send_lag_p99_ms']):.2f}",
            f"{middle(lambda run: 100 * run['in_time'] / run['offered'] / min(1, run['cheapest_share'])):.2f}",
            ", ".join(f"{middle(lambda run: run[key] / run['asked_s']):.2f}" for key in ("workers_s", "endpoint_s", "generator_s")),
        )) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
