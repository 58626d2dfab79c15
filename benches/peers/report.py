"""Tables from the records: medians over rounds, the fastest peer of each cell, and how far mprec is ahead."""
import collections
import statistics

from contenders import RIVALS
from probe import WHOLE

median = statistics.median

# Threads, what is compared, how it is called, and the plans that count. Where a host is busy, medians say how much of a core was
# left, and the fastest runs say more of what was compared.
MEASURES = (
    (1, "p50_us", "µs a batch, p50", ("1",)),
    (1, "min_us", "µs a batch, the fastest run", ("1",)),
    (2, "samples_per_second", "samples/s", ("2x1", "1x2")),
)


def cells(records, value, plans):
    """(model, batch) -> who -> (precision, values by round): the best plan of each, by median."""
    by_plan = collections.defaultdict(list)
    for record in records:
        if record["plan"] in plans:
            key = (record["model"], record["batch"], record["who"], record["precision"], record["plan"])
            by_plan[key].append(record)
    out = collections.defaultdict(dict)
    for (model, batch, who, precision, plan), own in by_plan.items():
        values = [record[value] for record in sorted(own, key=lambda record: record["round"])]
        doubtful = any(record.get("cores", WHOLE) < WHOLE for record in own)
        better = max if value == "samples_per_second" else min
        found = out[model, batch].get(who)
        if found is None or better(median(values), median(found[1])) == median(values):
            out[model, batch][who] = (precision, values, plan, doubtful)
    return out


def ratios(records):
    """A row per model, batch, threads and precision: ours beside the fastest peer that may be compared with it."""
    rows = []
    for threads, value, _, plans in MEASURES:
        for (model, batch), found in cells(records, value, plans).items():
            for who, (precision, ours, _, doubtful) in found.items():
                if not who.startswith("mprec"):
                    continue
                rivals = {name: entry for name, entry in found.items()
                          if not name.startswith("mprec") and entry[0] in RIVALS[precision]}
                if not rivals:
                    continue
                best = (min if threads == 1 else max)(rivals, key=lambda name: median(rivals[name][1]))
                theirs = rivals[best][1]
                pairs = zip(theirs, ours) if threads == 1 else zip(ours, theirs)
                each = [left / right for left, right in pairs]
                rows.append({
                    "model": model, "batch": batch, "threads": threads, "precision": precision, "measure": value,
                    "peer": best, "peer_plan": rivals[best][2], "peer_values": theirs, "ours_values": ours,
                    "ratio": median(each), "ratio_min": min(each), "ratio_max": max(each),
                    "doubtful": doubtful or rivals[best][3],
                })
    return rows


def scaling(records):
    """Throughput on two threads over that on one, in the same rounds."""
    one, two = (cells(records, "samples_per_second", plans) for plans in (("1 of 2",), ("2x1", "1x2")))
    rows = []
    for (model, batch), found in two.items():
        for who, (_, values, plan, doubtful) in found.items():
            alone = one[model, batch][who]
            each = [both / single for both, single in zip(values, alone[1])]
            rows.append({"model": model, "batch": batch, "who": who, "plan": plan, "ratio": median(each),
                         "ratio_min": min(each), "ratio_max": max(each), "doubtful": doubtful or alone[3]})
    return rows


def spread(values):
    return f"{median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def ratio(row):
    return f"{row['ratio']:.2f} ({row['ratio_min']:.2f}–{row['ratio_max']:.2f}){'?' if row['doubtful'] else ''}"


def sections(records):
    """Title, header and rows of every table."""
    compared, scaled = ratios(records), scaling(records)
    for threads, value, unit, _ in MEASURES:
        rows = [(f"{row['model']} {row['precision']}, batch {row['batch']}",
                 row["peer"] + (f" ({row['peer_plan']})" if threads == 2 else ""),
                 spread(row["peer_values"]), spread(row["ours_values"]), ratio(row)) for row in compared if row["measure"] == value]
        if rows:
            yield (f"{threads} thread{'s' * (threads > 1)}: {unit}", ("target", "fastest peer", "peer", "ours", "ratio"), rows)
    if scaled:
        rows = [(f"{row['model']}, batch {row['batch']}", row["who"], row["plan"], ratio(row)) for row in scaled]
        yield "throughput of two threads over one", ("target", "who", "plan", "ratio"), rows
    rows = []
    for (model, batch), found in cells(records, "p50_us", ("1",)).items():
        for who, (_, values, _, _) in sorted(found.items(), key=lambda entry: median(entry[1][1])):
            rows.append((f"{model}, batch {batch}", who, spread(values)))
    yield "everybody, one thread: µs a batch, p50", ("target", "who", "median (min–max) over rounds"), rows


def markdown(records):
    out = []
    for title, header, rows in sections(records):
        out += [f"## {title}", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        out += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(out)


def terminal(records):
    out = []
    for title, header, rows in sections(records):
        widths = [max(map(len, column)) for column in zip(header, *rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (header, *rows)]
        out += [title, *lines, ""]
    return "\n".join(out) + "Ratio above 1: mprec is faster. `?`: the two CPUs were not whole cores in some round."
