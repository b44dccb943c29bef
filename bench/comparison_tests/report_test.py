"""What the page says of rounds that are known."""

import tempfile
import unittest
from pathlib import Path

from comparison import report, results
from comparison.report import Series
from comparison.results import Json
from comparison.scenarios import OURS, PEER, PEER_TUNED, Measure, Target, scenario
from comparison_tests.synthetic import delivery, described, document, round_, row

CPU = Measure("cpu_us_per_delivery", "CPU per delivery", "µs", Target(0.8, 0.6))


def series(*rounds: Json, name: str = "fanout-50") -> Series:
    found = scenario(name)
    assert found
    return Series(found, "json", list(rounds))


def five(ours: float, peer: float, tuned: float | None = None) -> Series:
    """Five rounds; the tuned peer does as well as the other unless it is said."""
    return rounds_of(ours, peer, peer if tuned is None else tuned)


def rounds_of(ours: float, peer: float, tuned: float | None) -> Series:
    rounds = []
    for number in range(1, 6):
        # A machine that is slower for a round is slower for both.
        slower = 1 + number / 10
        one = round_(number, delivery(ours * slower), delivery(peer * slower))
        if tuned is not None:
            one["runs"][PEER_TUNED] = {"document": delivery(tuned * slower)}
        rounds.append(one)
    return series(*rounds)


def tuned(one: Json) -> Json:
    """A round whose tuned peer did as well as the other."""
    one["runs"][PEER_TUNED] = one["runs"][PEER]
    return one


class VerdictTest(unittest.TestCase):
    def test_met_not_met_and_the_aim(self) -> None:
        self.assertEqual(report.verdict(five(5.9, 10.0), CPU), "aim met")
        self.assertEqual(report.verdict(five(7.9, 10.0), CPU), "met")
        self.assertEqual(report.verdict(five(8.1, 10.0), CPU), "not met")

    def test_a_target_without_an_aim_is_met_and_no_more(self) -> None:
        plain = Measure("cpu_us_per_delivery", "CPU per delivery", "µs", Target(0.8))
        self.assertEqual(report.verdict(five(0.1, 10.0), plain), "met")

    def test_the_tuned_peer_must_be_beaten_too(self) -> None:
        self.assertEqual(report.verdict(five(7.0, 10.0, tuned=6.0), CPU), "not met (tuned)")
        self.assertEqual(report.verdict(five(7.0, 10.0, tuned=8.0), CPU), "met")

    def test_a_target_is_not_met_as_long_as_the_tuned_peer_gave_no_value(self) -> None:
        said = report.verdict(rounds_of(7.0, 10.0, None), CPU)
        self.assertEqual(said, "met, tuned peer not measured")
        said = report.verdict(rounds_of(5.0, 10.0, None), CPU)
        self.assertEqual(said, "aim met, tuned peer not measured")
        self.assertEqual(report.verdict(rounds_of(9.0, 10.0, None), CPU), "not met")
        void = rounds_of(7.0, 10.0, 8.0)
        for one in void.rounds:
            one["runs"][PEER_TUNED] = {"document": delivery(8.0, void="busy")}
        self.assertEqual(report.verdict(void, CPU), "met, tuned peer not measured")

    def test_what_was_not_run_never_passes(self) -> None:
        self.assertEqual(report.verdict(series(), CPU), "not run")
        alone = [round_(number, delivery(1.0), None) for number in range(1, 6)]
        self.assertEqual(report.verdict(series(*alone), CPU), "not run")

    def test_void_rounds_do_not_count_and_few_rounds_are_said(self) -> None:
        void = delivery(1.0, void="busy")
        rounds = [round_(number, void, delivery(10.0)) for number in range(1, 5)]
        self.assertEqual(report.verdict(series(*rounds), CPU), "no value counts")
        rounds.append(round_(5, delivery(9.0), delivery(10.0)))
        self.assertEqual(report.verdict(series(*rounds), CPU), "not met, 1 round only")

    def test_more_is_better_where_a_rate_is_meant(self) -> None:
        rate = Measure("max_deliveries_per_s", "", "/s", Target(1.7, 2.3), more_is_better=True)
        reports = [document(row({"max_deliveries_per_s": number})) for number in (180.0, 100.0)]
        rounds = [tuned(round_(number, *reports)) for number in range(1, 6)]
        self.assertEqual(report.verdict(series(*rounds, name="highest-1000"), rate), "met")

    def test_a_bound_counts_for_us_and_not_for_the_peer(self) -> None:
        rate = Measure("max_deliveries_per_s", "", "/s", Target(1.7, 2.3), more_is_better=True)
        bound = document(row({"max_deliveries_per_s": 180.0}, at_least="busy"))
        known = document(row({"max_deliveries_per_s": 100.0}))
        ours = [tuned(round_(number, bound, known)) for number in range(1, 6)]
        self.assertEqual(report.verdict(series(*ours, name="highest-1000"), rate), "met")
        theirs = [round_(number, known, bound) for number in range(1, 6)]
        said = report.verdict(series(*theirs, name="highest-1000"), rate)
        self.assertEqual(said, "no value counts")

    def test_a_bound_below_a_target_decides_nothing(self) -> None:
        rate = Measure("max_deliveries_per_s", "", "/s", Target(1.7, 2.3), more_is_better=True)
        known = document(row({"max_deliveries_per_s": 100.0}))
        bound = document(row({"max_deliveries_per_s": 160.0}, at_least="busy"))
        rounds = [tuned(round_(number, bound, known)) for number in range(1, 6)]
        said = report.verdict(series(*rounds, name="highest-1000"), rate)
        self.assertEqual(said, "not decided")
        for one in rounds:
            one["runs"][OURS] = {"document": document(row({"max_deliveries_per_s": 160.0}))}
        said = report.verdict(series(*rounds, name="highest-1000"), rate)
        self.assertEqual(said, "not met")
        faster = document(row({"max_deliveries_per_s": 190.0}))
        bound = document(row({"max_deliveries_per_s": 180.0}, at_least="busy"))
        rounds = [round_(number, bound, known) for number in range(1, 6)]
        for one in rounds:
            one["runs"][PEER_TUNED] = {"document": faster}
        said = report.verdict(series(*rounds, name="highest-1000"), rate)
        self.assertEqual(said, "not decided (tuned)")

    def test_a_ratio_of_our_own_needs_no_peer(self) -> None:
        own = Measure("p99_ratio", "", "", Target(1.2, 1.05), own_ratio=True)
        rounds = [round_(n, document(row({"p99_ratio": 1.1})), None) for n in range(1, 6)]
        self.assertEqual(report.verdict(series(*rounds, name="slow"), own), "met")

    def test_a_change_needs_an_interval_without_one(self) -> None:
        self.assertEqual(report.change(five(5.0, 10.0), CPU), "better")
        self.assertEqual(report.change(five(11.0, 10.0), CPU), "worse")
        noisy = [round_(n, delivery(9.0 + n / 2), delivery(10.5)) for n in range(1, 6)]
        self.assertEqual(report.change(series(*noisy), CPU), "no difference seen")
        single = series(round_(1, delivery(1.0), delivery(10.0)))
        self.assertEqual(report.change(single, CPU), "one round cannot tell")
        void = series(round_(1, delivery(1.0, void="busy"), delivery(10.0)))
        self.assertEqual(report.change(void, CPU), "no value counts")


class PageTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def keep(self, *rounds: Json, name: str = "a-set") -> str:
        for one in rounds:
            path = results.path_of(self.root / name, one["scenario"], one["codec"], one["round"])
            results.store(path, one)
        return report.render(self.root)

    def test_a_page_says_which_redis_was_used(self) -> None:
        page = self.keep({**round_(1, delivery(5.0), delivery(9.0)), "redis": "7.0.15"})
        self.assertIn("- Redis: 7.0.15", page)

    def test_an_empty_folder_claims_nothing(self) -> None:
        page = report.render(self.root)
        self.assertIn("## No runs", page)
        verdicts = [line.split("|")[-2].strip() for line in page.splitlines() if " ≤ " in line]
        self.assertEqual(set(verdicts), {"not run"})

    def test_a_page_has_medians_spread_ratio_interval_and_floor(self) -> None:
        page = self.keep(*five(5.0, 10.0, tuned=8.0).rounds)
        self.assertIn(
            "| fanout-50 | json | CPU per delivery, µs | 6.50 | 13.0 | 0.50 | 0.50 to 0.50 | 0.62 "
            "| ≤ 0.8 | ≤ 0.6 | aim met |",
            page,
        )
        self.assertIn("| CPU per delivery, µs | 6.50 (5.50 to 7.50) | 13.0 (11.0 to 15.0) |", page)
        self.assertIn("| share of the physical floor | 46 % | 23 % |", page)
        self.assertIn("- Date: 2026-01-01 to 2026-01-05", page)
        self.assertIn("- Machine: Abacus, 2 cores, 8 GiB, Linux 6.1", page)
        self.assertIn("- Server: Centrifugo 6.9.1 (digest-6.9.1)", page)

    def test_the_same_rounds_make_the_same_page(self) -> None:
        noisy = [round_(n, delivery(5.0 + n % 3), delivery(10.0 - n % 2)) for n in range(1, 6)]
        self.assertEqual(self.keep(*noisy), report.render(self.root))

    def test_void_failed_and_missing_runs_are_listed_with_their_rounds(self) -> None:
        void = delivery(1.0, void="busy")
        page = self.keep(round_(1, void, None), round_(2, void, None))
        self.assertIn("| CPU per delivery, µs | void | not run |", page)
        self.assertIn("- ours: busy (rounds 1, 2)", page)
        self.assertIn("- peer: not run: no peer", page)
        self.assertIn("- The peer was not run", page)

    def test_another_build_of_ours_is_compared_and_not_judged(self) -> None:
        rounds = five(5.0, 10.0).rounds
        for one in rounds:
            one["servers"][PEER] = {**described("Bobolink", "0.9.0"), "label": "before"}
        page = self.keep(*rounds)
        self.assertIn("| Change |", page)
        self.assertNotIn("Verdict", page)
        self.assertIn("- Server: before: Bobolink 0.9.0 (digest-0.9.0)", page)

    def test_each_set_has_its_own_part(self) -> None:
        self.keep(round_(1, delivery(5.0), delivery(9.0)), name="one")
        page = self.keep(round_(1, delivery(50.0), delivery(90.0)), name="two")
        self.assertLess(page.index("## two"), page.index("## one"))

    def test_columns_that_nobody_ran_are_left_out(self) -> None:
        page = self.keep(round_(1, delivery(5.0), delivery(9.0)))
        self.assertIn("| Measure | Ours | Peer |", page)
        self.assertIn(OURS, page.lower())


if __name__ == "__main__":
    unittest.main()
