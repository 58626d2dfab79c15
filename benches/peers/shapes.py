"""The models that are measured: shapes of the two Criteo data sets, and what stands for a sparse feature."""
import dataclasses
import math

KAGGLE = [
    1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194, 27,
    14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572,
]
TERABYTE = [
    9980333, 36084, 17217, 7378, 20134, 3, 7112, 1442, 61, 9758201, 1333352, 313829,
    10, 2208, 11156, 122, 4, 970, 14, 9994222, 7267859, 9946608, 415421, 12420, 101, 36,
]
DENSE = 13
HASHES = 1024
RANGE, PRIME = 1_000_000, 1_000_003
"""The published hash: ((a x + b) mod PRIME) mod RANGE, PRIME the first prime above RANGE."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A DLRM without its parameters. `decoder` is [hashes, ..., dim], or nothing without a DHE."""

    name: str
    cardinalities: tuple
    dim: int
    bottom: tuple
    top: tuple
    table: bool
    decoder: tuple

    @property
    def vectors(self):
        """Vectors that meet in the interaction: the bottom net's, the stored ones, the computed ones."""
        return 1 + len(self.cardinalities) * (self.table + bool(self.decoder))


def scaled_down(cardinalities, factor):
    """As `mprec bench --scale-down`: cardinalities up to 100 stay, none falls below that."""
    return tuple(c if c <= 100 else max(100, math.ceil(c / factor)) for c in cardinalities)


def shape(name, scale_down=1.0):
    """`table`, `dhe`, `dhe-small` and `hybrid` of Criteo Kaggle; `terabyte` for the table model of the larger shape, and
    `terabyte-dhe` and so on for its others."""
    terabyte = name.startswith("terabyte")
    kind = name.removeprefix("terabyte").removeprefix("-") or "table"
    dim = 64 if terabyte else 16
    bottom = (DENSE, 512, 256, 64) if terabyte else (DENSE, 512, 256, 64, dim)
    hidden = {"dhe": (512, 256), "dhe-small": (128,), "hybrid": (512, 256)}.get(kind)
    made = Shape(
        name=name,
        cardinalities=scaled_down(TERABYTE if terabyte else KAGGLE, scale_down),
        dim=dim,
        bottom=bottom,
        top=(),
        table=kind in ("table", "hybrid"),
        decoder=(HASHES, *hidden, dim) if hidden else (),
    )
    pairs = made.vectors * (made.vectors - 1) // 2
    top = (dim + pairs, 512, 512, 256, 1) if terabyte else (dim + pairs, 512, 256, 1)
    return dataclasses.replace(made, top=top)
