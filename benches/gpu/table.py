"""The results as a page for people."""

HEAD = ("model", "batch", "mprec µs", "p99 µs", "samples/s", "eager µs", "compiled µs", "mprec / eager", "% of f32 rate", "% of copy rate")


def number(value, form="{:.0f}"):
    return "–" if value is None else form.format(value)


def row(cell, limits):
    seconds = cell["mprec"]["p50_us"] / 1e6
    eager, compiled = cell.get("eager"), cell.get("compile")
    ratio = cell["mprec"]["p50_us"] / eager["p50_us"] if eager else None
    return (
        cell["model"], str(cell["batch"]), number(cell["mprec"]["p50_us"]), number(cell["mprec"]["p99_us"]),
        number(cell["mprec"]["samples_per_second"]),
        number(eager and eager["p50_us"]), number(compiled and compiled["p50_us"]), number(ratio, "{:.2f}"),
        number(100 * cell["flops"] / seconds / 1e12 / limits["f32_tflops"], "{:.1f}"),
        number(100 * cell["bytes"] / seconds / 1e9 / limits["copy_gbytes_per_second"], "{:.1f}"),
    )


def page(results):
    limits, made = results["limits"], results["made"]
    lines = [f"# {limits.get('card', 'CPU')}: mprec's torch backend beside PyTorch {limits['torch']}", "",
             f"Made by `{made['command']}` at commit {made['commit']}. Cardinalities divided by {made['scale_down']:g}, ids by Zipf's law, f32 "
             "(no TF32). Times hold the copy of inputs to the device and of scores back. Medians over rounds in turn.", ""]
    lines += ["Conformance suite: " + results["conformance"], ""]
    lines += ["Measured limits: " + ", ".join(f"{key} {value:.4g}" for key, value in limits.items() if isinstance(value, float)), ""]
    rows = [HEAD, tuple("---" for _ in HEAD)] + [row(cell, limits) for cell in results["cells"]]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    if results["left_out"]:
        lines += ["", "Left out:", ""] + [f"- {reason}" for reason in results["left_out"]]
    return "\n".join(lines) + "\n"
