"""Makes this folder's two files from the small Open Bandit Dataset (see README.md).

    python3 make.py FOLDER

FOLDER holds {bts,random}_{all,men,women}.csv (or .csv.xz) and the item contexts beside them, named
as in obp/dataset/obd of the sdist `obp` but with the folders joined by underscores.
"""

import csv
import lzma
import pathlib
import sys

USER = [f"user_feature_{number}" for number in range(4)]
ITEM = [f"item_feature_{number}" for number in range(4)]


def rows(folder, name):
    path = folder / f"{name}.csv"
    text = open(path) if path.exists() else lzma.open(f"{path}.xz", "rt")
    with text:
        yield from csv.DictReader(text)


folder = pathlib.Path(sys.argv[1])
here = pathlib.Path(__file__).parent
log, items = [], []
for campaign in ["all", "men", "women"]:
    for policy in ["bts", "random"]:
        for row in rows(folder, f"{policy}_{campaign}"):
            item = f"{campaign}-{row['item_id']}"
            log.append([row["timestamp"], policy, item, row["position"], row["click"]]
                       + [row[name] for name in USER])
    for row in rows(folder, f"bts_{campaign}_item_context"):
        items.append([f"{campaign}-{row['item_id']}"] + [row[name] for name in ITEM])

log.sort(key=lambda row: row[0])  # Stable, and the times sort as text.
text = "\n".join(",".join(row) for row in
                 [["timestamp", "policy", "item_id", "position", "click"] + USER] + log) + "\n"
(here / "impressions.csv.xz").write_bytes(
    lzma.compress(text.encode(), check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME))
text = "\n".join(",".join(row) for row in [["item_id"] + ITEM] + items) + "\n"
(here / "item_context.csv").write_text(text)
