"""What is read out of a round, and what counts for nothing."""

import tempfile
import unittest
from pathlib import Path

from comparison import results
from comparison.results import BadResult, Value
from comparison.scenarios import OURS, PEER, Measure, scenario
from comparison_tests.synthetic import delivery, document, floor, round_, row

CPU = Measure("cpu_us_per_delivery", "CPU", "µs")


class ValueTest(unittest.TestCase):
    def test_a_metric_and_a_latency_are_found(self) -> None:
        one = round_(1, delivery(5.0), delivery(9.0))
        self.assertEqual(results.value(one, OURS, CPU), Value(5.0))
        self.assertEqual(results.value(one, PEER, CPU), Value(9.0))
        p99 = Measure("latency.p99_us", "p99", "µs")
        self.assertEqual(results.value(one, PEER, p99), Value(9_000.0))

    def test_a_void_row_counts_for_nothing(self) -> None:
        one = round_(1, delivery(5.0, void="the generator was busy"), None)
        self.assertEqual(results.value(one, OURS, CPU), Value(None, "the generator was busy"))

    def test_a_run_with_failures_counts_for_nothing(self) -> None:
        report = {**delivery(5.0), "failures": ["member 3 missed 17"]}
        found = results.value(round_(1, report, None), OURS, CPU)
        self.assertEqual(found, Value(None, "failed: member 3 missed 17"))

    def test_a_machine_that_others_used_voids_a_row(self) -> None:
        quiet, busy = (delivery(5.0, other_cpu=others) for others in (0.05, 0.06))
        self.assertIsNone(results.value(round_(1, quiet, None), OURS, CPU).void)
        found = results.value(round_(1, busy, None), OURS, CPU)
        self.assertIsNone(found.number)
        self.assertIn("more than 5 %", found.void or "")

    def test_a_count_holds_on_a_busy_machine_but_not_in_a_run_that_failed(self) -> None:
        count = Measure("redis_commands", "commands", "", is_count=True)
        busy = document(row({"redis_commands": 7.0}, void="busy", other_cpu=0.5))
        self.assertEqual(results.value(round_(1, busy, None), OURS, count), Value(7.0))
        failed = {**busy, "failures": ["a gap"]}
        self.assertIsNone(results.value(round_(1, failed, None), OURS, count).number)

    def test_a_summary_does_not_stand_in_for_a_void_row(self) -> None:
        report = document(
            row({"cpu_us_per_delivery": 5.0}, void="busy"),
            row({"cpu_us_per_delivery": 5.0}, label="summary"),
        )
        self.assertEqual(results.value(round_(1, report, None), OURS, CPU), Value(None, "busy"))

    def test_a_measure_of_the_whole_run_needs_all_rows_left_alone(self) -> None:
        highest = Measure("max", "highest", "/s", whole_run=True)
        steps = [row({}, other_cpu=0.5), row({}, void="past the edge"), row({"max": 7.0})]
        self.assertIsNone(results.value(round_(1, document(*steps), None), OURS, highest).number)
        self.assertEqual(
            results.value(round_(1, document(*steps[1:]), None), OURS, highest),
            Value(7.0),
            "a step that the generator could not do is not the highest rate",
        )

    def test_a_ratio_to_a_void_row_counts_for_nothing(self) -> None:
        own = Measure("p99_ratio", "p99", "", own_ratio=True)
        report = document(row({}, void="busy"), row({"p99_ratio": 1.0}))
        self.assertEqual(results.value(round_(1, report, None), OURS, own), Value(None, "busy"))

    def test_what_is_missing_is_said(self) -> None:
        found = results.value(round_(1, document(row({})), None), OURS, CPU)
        self.assertEqual(found, Value(None, "cpu_us_per_delivery was not measured"))

    def test_troubles_are_named_once(self) -> None:
        fanout = scenario("fanout-50")
        assert fanout
        run = {"document": delivery(5.0, void="busy")}
        self.assertEqual(results.troubles(run, fanout, 0.05), ["busy"])
        self.assertEqual(results.troubles({"document": delivery(5.0)}, fanout, 0.05), [])
        self.assertEqual(results.troubles({"not_run": "x"}, fanout, 0.05), [])


class FloorTest(unittest.TestCase):
    def test_the_floor_follows_the_messages_of_a_frame(self) -> None:
        one = {"floor": [floor(4, 6.0), floor(1, 3.0), floor(16, 12.0)]}
        self.assertEqual(results.floor_us(one, 1.0), 3.0)
        self.assertEqual(results.floor_us(one, 2.5), 4.5 / 2.5)
        self.assertEqual(results.floor_us(one, 4.0), 1.5)
        self.assertEqual(results.floor_us(one, 99.0), 12.0 / 16, "no further than measured")
        self.assertEqual(results.floor_us({"floor": [floor(1, 3.0)]}, 5.0), 3.0)
        self.assertIsNone(results.floor_us({"floor": []}, 1.0))


class DiskTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_rounds_come_back_in_their_order(self) -> None:
        for number in (10, 9, 2):
            path = results.path_of(self.folder, "fanout-50", "json", number)
            results.store(path, round_(1, delivery(1.0), None) | {"round": number})
        found = results.rounds(self.folder, "fanout-50", "json")
        self.assertEqual([one["round"] for one in found], [2, 9, 10])
        self.assertEqual(results.rounds(self.folder, "chat", "json"), [])
        self.assertEqual(list(self.folder.rglob("*.draft")), [])

    def test_what_is_no_result_is_refused_by_name(self) -> None:
        for text in ("{", "[]", '{"format": 2}'):
            path = self.folder / "round-1.json"
            path.write_text(text)
            with self.assertRaisesRegex(BadResult, "round-1.json"):
                results.load(path)


if __name__ == "__main__":
    unittest.main()
