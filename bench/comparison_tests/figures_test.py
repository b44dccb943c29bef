"""Medians, ratios and intervals."""

import unittest

from comparison import figures


class FiguresTest(unittest.TestCase):
    def test_a_median_is_the_middle_and_not_the_mean(self) -> None:
        self.assertEqual(figures.median([9.0, 1.0, 2.0]), 2.0)
        self.assertEqual(figures.median([1.0, 2.0, 3.0, 100.0]), 2.5)
        self.assertEqual(figures.median([7.0]), 7.0)

    def test_a_spread_has_the_extremes(self) -> None:
        self.assertEqual(figures.spread([3.0, 1.0, 2.0]), figures.Spread(2.0, 1.0, 3.0, 3))
        self.assertIsNone(figures.spread([]))

    def test_a_ratio_is_the_median_of_the_pairs_and_not_a_ratio_of_medians(self) -> None:
        pairs = [(1.0, 2.0), (2.0, 10.0), (30.0, 30.0)]
        found = figures.ratio(pairs, "seed")
        self.assertIsNotNone(found)
        assert found
        self.assertEqual((found.median, found.rounds), (0.5, 3))

    def test_one_pair_has_no_interval_and_none_has_no_ratio(self) -> None:
        self.assertEqual(figures.ratio([(1.0, 2.0)], "s"), figures.Ratio(0.5, None, None, 1))
        self.assertIsNone(figures.ratio([], "s"))
        self.assertIsNone(figures.ratio([(1.0, 0.0)], "s"), "nothing is divided by nothing")

    def test_the_interval_is_the_same_every_time(self) -> None:
        values = [0.61, 0.72, 0.58, 0.65, 0.69]
        first = figures.bootstrap(values, "fanout-50 json")
        self.assertEqual(first, figures.bootstrap(values, "fanout-50 json"))
        self.assertEqual(first, (0.58, 0.72), "five values: hardly less than their extremes")

    def test_the_interval_narrows_with_more_that_agree(self) -> None:
        low, high = figures.bootstrap([1.0 + n / 100 for n in range(-20, 21)], "s")
        self.assertLess(0.85, low)
        self.assertLess(high, 1.15)
        self.assertLess(low, 1.0)
        self.assertLess(1.0, high)

    def test_equal_values_have_no_width(self) -> None:
        self.assertEqual(figures.bootstrap([2.0] * 5, "s"), (2.0, 2.0))

    def test_numbers_are_written_in_about_three_digits(self) -> None:
        written = {
            0.0: "0",
            0.0123: "0.012",
            0.1234: "0.12",
            1.234: "1.23",
            12.34: "12.3",
            123.4: "123",
            1234567.0: "1,234,567",
            -0.00001: "0",
        }
        for value, text in written.items():
            self.assertEqual(figures.number(value), text)


if __name__ == "__main__":
    unittest.main()
