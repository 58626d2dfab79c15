"""python3 -m unittest discover -s benches/peers  (needs NumPy only)"""
import unittest

import numpy as np

import bundle
import ids


class Ids(unittest.TestCase):
    def test_the_generator_gives_the_numbers_of_its_reference_implementation(self):
        expected = [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205, 9973669472204895162]
        self.assertEqual(ids.draws([1, 2, 3, 4], 6).tolist(), expected)

    def test_the_seed_is_spread_as_splitmix_does(self):
        self.assertEqual(ids.generator_state(0)[0], 0xE220A8397B1DCDAF)

    def test_ids_are_below_their_cardinalities_and_values_below_one(self):
        for dense, sparse in ids.batches([1, 3, 10_131_227], 2, 50, 3):
            self.assertTrue((dense >= 0).all() and (dense < 1).all())
            self.assertTrue((sparse >= 0).all() and (sparse < [1, 3, 10_131_227]).all())


class Quantised(unittest.TestCase):
    def test_bf16_rounds_to_even(self):
        values = np.array([0x3F808000, 0x3F818000, 0x3F808001], np.uint32).view(np.float32)
        self.assertEqual(bundle.bf16(values).tolist(), [0x3F80, 0x3F82, 0x3F81])

    def test_rows_come_back_within_a_step(self):
        rows = np.random.default_rng(1).random((20, 16), dtype=np.float32) - np.float32(0.5)
        stored = bundle.int8_rows(rows)
        scale, bias = np.ascontiguousarray(stored[:, 16:]).view(np.float16).astype(np.float32).T
        self.assertLess(np.abs(stored[:, :16] * scale[:, None] + bias[:, None] - rows).max(), 1.01 / 255)

    def test_the_largest_weight_of_an_output_is_127(self):
        codes, scale = bundle.int8_layer(np.array([[0.5, -1.0], [2.0, 1.0]], np.float32))
        self.assertEqual(codes.tolist(), [[64, -127], [127, 64]])
        np.testing.assert_allclose(scale, [1 / 127, 2 / 127], rtol=1e-6)


if __name__ == "__main__":
    unittest.main()
