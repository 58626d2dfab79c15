"""python3 -m unittest discover benches/gpu"""
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "peers")]

import table
import work
from shapes import Shape

TINY = Shape("tiny", (10, 20), 2, (3, 2), (5, 1), True, (4, 2))


class Work(unittest.TestCase):
    def test_counts_of_a_model_that_can_be_counted_by_hand(self):
        # Bottom 3·2, top 5·1, two decoders 4·2, and of 5 vectors 10 pairs of dim 2: each product is two operations.
        self.assertEqual(work.flops(TINY, 7), 7 * 2 * (6 + 5 + 2 * 8 + 10 * 2))
        # Inputs 3·4 + 2·8, rows 2·2·2·4; weights (6+2) + (5+1) floats, decoders (8+2) floats and 4 hashes of two i64.
        self.assertEqual(work.traffic(TINY, 7), 7 * (12 + 16 + 32) + 4 * 14 + 2 * (40 + 64))


class Table(unittest.TestCase):
    def test_a_row_has_the_ratio_and_the_shares_and_a_dash_for_what_was_not_measured(self):
        cell = {"model": "table", "batch": 8, "flops": 1e9, "bytes": 1e8,
                "mprec": {"p50_us": 1000.0, "p99_us": 2000.0, "samples_per_second": 8000.0}, "eager": {"p50_us": 2000.0}}
        row = table.row(cell, {"f32_tflops": 10.0, "copy_gbytes_per_second": 1000.0})
        self.assertEqual(row[2:], ("1000", "2000", "8000", "2000", "–", "0.50", "10.0", "10.0"))
        self.assertEqual(len(row), len(table.HEAD))


if __name__ == "__main__":
    unittest.main()
