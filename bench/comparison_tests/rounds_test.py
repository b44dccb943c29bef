"""The order of runs, what is run again, and what is never run twice."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from comparison import command, machine, results, rounds, servers
from comparison.process import CannotRun
from comparison.results import Json
from comparison.scenarios import (
    CODECS,
    OURS,
    OURS_DELAY,
    PEER,
    PEER_TUNED,
    SCENARIOS,
    Measure,
    scenario,
)
from comparison.servers import Access
from comparison_tests.synthetic import (
    calls_of,
    delivery,
    document,
    generator_program,
    redis_program,
    row,
    server_program,
)


class OrderTest(unittest.TestCase):
    def test_every_second_round_runs_backwards(self) -> None:
        pair = ("a", "b")
        order = "".join("".join(rounds.in_order(pair, number)) for number in range(1, 6))
        self.assertEqual(order, "abbaabbaab")


class ScenarioTest(unittest.TestCase):
    def test_a_round_fits_into_a_call(self) -> None:
        for one in SCENARIOS:
            self.assertLess(len(one.columns) * one.seconds + command.FLOOR_S, 600, one.name)

    def test_all_quick_rounds_fit_into_half_an_hour(self) -> None:
        # A run of quick options is less than half as long as a full one.
        seconds = sum(2 * one.seconds / 2 + command.FLOOR_S for one in SCENARIOS)
        self.assertLess(seconds, command.QUICK_MINUTES * 60)

    def test_names_are_unique_and_something_is_wanted_of_each(self) -> None:
        self.assertEqual(len({one.name for one in SCENARIOS}), len(SCENARIOS))
        for one in SCENARIOS:
            self.assertTrue(any(measure.target for measure in one.measures), one.name)
            self.assertTrue(set(one.codecs) <= set(CODECS), one.name)

    def test_an_aim_is_beyond_what_must_be(self) -> None:
        for measure in (measure for one in SCENARIOS for measure in one.measures):
            if measure.target and measure.target.aim is not None:
                further = measure.target.aim > measure.target.must
                self.assertEqual(further, measure.more_is_better, measure.title)


class ServerTest(unittest.TestCase):
    def test_columns_differ_in_nothing_but_their_setting(self) -> None:
        fanout = scenario("fanout-50")
        assert fanout
        configs = {
            column: servers.configuration(fanout, column, Access(1, "t", "a"))
            for column in fanout.columns
        }
        self.assertEqual(configs[OURS], configs[PEER])
        tuned = configs[PEER_TUNED].pop("websocket")
        self.assertEqual(tuned, {"read_buffer_size": 1024, "use_write_buffer_pool": True})
        self.assertEqual(configs[PEER_TUNED], configs[PEER])
        client = configs[OURS_DELAY]["client"]
        assert isinstance(client, dict)
        self.assertEqual(client.pop("write_delay"), "5ms")
        self.assertEqual(configs[OURS_DELAY], configs[OURS])

    def test_versions_are_read_as_both_servers_write_them(self) -> None:
        self.assertEqual(servers.parse_version("Bobolink v0.1.0\n"), ("Bobolink", "0.1.0"))
        self.assertEqual(
            servers.parse_version("Centrifugo v6.9.1 (Go version: go1.26)"), ("Centrifugo", "6.9.1")
        )
        with self.assertRaises(CannotRun):
            servers.parse_version("hello")

    def test_the_first_processor_gives_the_machine_its_name(self) -> None:
        text = "processor\t: 0\nmodel name\t: Abacus 9\nprocessor\t: 1\nmodel name\t: Other\n"
        self.assertEqual(machine.cpu_model(text), "Abacus 9")

    def test_what_does_not_fit_on_a_machine_is_said(self) -> None:
        with mock.patch("os.sched_getaffinity", return_value={0, 1}):
            self.assertIsNone(machine.obstacle(10_000, (0, 1), 20_000))
            self.assertIn("10200", machine.obstacle(10_000, (0, 1), 10_000) or "")
            self.assertIn("two processors", machine.obstacle(1, (0, 2), 1_000) or "")
            self.assertIn("two processors", machine.obstacle(1, (0, 0), 1_000) or "")


class RunTest(unittest.TestCase):
    """The whole command, with programs that only pretend."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.ours = server_program(self.folder / "ours", "Bobolink", "1.0.0")
        self.peer = server_program(self.folder / "peer", "Centrifugo", "6.9.1")
        self.generator = self.folder / "generator"
        redis_server = redis_program(self.folder / "redis-server")
        # One processor does for programs that do nothing.
        for patch in (
            mock.patch("comparison.machine.obstacle", return_value=None),
            mock.patch("comparison.process.pinned", return_value=[]),
            mock.patch("shutil.which", return_value=None),
            mock.patch.dict(
                "os.environ", {"CENTRIFUGO": "", "REDIS_SERVER": str(redis_server)}
            ),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def run_command(self, *more: str, peer: bool = True, scenario_: str = "fanout-50") -> int:
        """Runs two rounds; returns the exit code. What it says is in `self.said`."""
        arguments = ["--scenario", scenario_, "--pairs", "2", "--set", "It"]
        arguments += ["--ours", str(self.ours), "--generator", str(self.generator)]
        arguments += ["--limit", str(self.folder / "none")]
        arguments += ["--results", str(self.folder / "results")]
        arguments += ["--peer", str(self.peer)] if peer else []
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            code = command.main([*arguments, *more])
        self.said = said.getvalue()
        return code

    def round(self, number: int, name: str = "fanout-50") -> Json:
        document = results.load(self.path(number, name))
        assert document
        return document

    def path(self, number: int, name: str = "fanout-50") -> Path:
        return results.path_of(self.folder / "results" / "it", name, "json", number)

    def test_rounds_are_run_in_turned_order_and_kept(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        self.assertEqual(self.run_command(), 0, self.said_so)
        first, second = self.round(1), self.round(2)
        self.assertEqual(first["order"], [OURS, PEER, PEER_TUNED, OURS_DELAY])
        self.assertEqual(second["order"], first["order"][::-1])
        self.assertEqual(first["runs"][PEER]["document"], delivery(5.0))
        self.assertEqual(first["servers"][PEER]["version"], "6.9.1")
        self.assertEqual(first["floor"], [])

    def test_a_setting_that_a_server_does_not_know_is_not_measured(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        self.run_command()
        self.assertIn("client.write_delay", self.round(1)["runs"][OURS_DELAY]["not_run"])

    def test_a_round_that_is_there_is_not_run_again(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        self.run_command()
        before, kept = len(calls_of(self.generator)), self.round(1)
        self.path(2).unlink()
        self.assertEqual(self.run_command(), 0)
        self.assertEqual(len(calls_of(self.generator)) - before, 3, "one round of three columns")
        self.assertEqual(self.round(1), kept)

    def test_without_a_peer_its_runs_are_recorded_as_not_run_and_made_up_for_later(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        self.assertEqual(self.run_command(peer=False), 0)
        self.assertIn("not_run", self.round(1)["runs"][PEER])
        self.assertIn(f"{PEER}: not run", self.said)
        self.assertNotIn(PEER, self.round(1)["servers"])
        self.assertEqual(self.run_command(), 0)
        self.assertIn("document", self.round(1)["runs"][PEER])

    def test_a_void_run_is_run_again_but_not_for_ever(self) -> None:
        void = delivery(5.0, void="busy")
        generator_program(self.generator, [void, delivery(5.0), void, void, void])
        self.run_command("--pairs", "1")
        runs = self.round(1)["runs"]
        self.assertEqual((runs[OURS]["attempts"], runs[PEER]["attempts"]), (2, rounds.ATTEMPTS))
        self.assertIn("counts for nothing (busy)", self.said)

    def test_a_void_run_is_not_run_again_where_the_call_would_last_too_long(self) -> None:
        generator_program(self.generator, [delivery(5.0, void="busy")])
        self.run_command("--pairs", "1", "--minutes", "0")
        runs = self.round(1)["runs"]
        self.assertEqual((runs[OURS]["attempts"], runs[PEER]["attempts"]), (1, 1))
        self.assertIn("not run again, the time is over", self.said)

    def test_a_void_run_leaves_the_columns_behind_it_their_time(self) -> None:
        generator_program(self.generator, [delivery(5.0, void="busy")])
        fanout = scenario("fanout-50")
        assert fanout
        # Not enough for the three columns behind the first and for that a second time.
        self.run_command("--pairs", "1", "--minutes", str(3.5 * fanout.seconds / 60))
        runs = self.round(1)["runs"]
        attempts = [runs[column]["attempts"] for column in (OURS, PEER, PEER_TUNED)]
        self.assertEqual(attempts, [1, 3, 3])

    def test_a_generator_that_breaks_is_recorded_with_what_it_said(self) -> None:
        generator_program(self.generator, [None])
        self.run_command("--pairs", "1")
        run = self.round(1)["runs"][OURS]
        self.assertIn("it broke", run["failed"])
        self.assertEqual(run["attempts"], 1)

    def test_a_failure_is_a_result_and_not_tried_away(self) -> None:
        generator_program(self.generator, [{**delivery(5.0), "failures": ["a gap"]}])
        self.run_command("--pairs", "1")
        run = self.round(1)["runs"][OURS]
        self.assertEqual((run["attempts"], run["document"]["failures"]), (1, ["a gap"]))
        self.assertIn("counts for nothing (failed: a gap)", self.said)

    def test_another_build_does_not_get_mixed_in(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        self.run_command()
        server_program(self.ours, "Bobolink", "1.0.1")
        self.assertEqual(self.run_command(), 1)
        self.assertIn("--set", self.said)

    def test_a_call_ends_in_time_and_asks_for_another(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        self.assertEqual(self.run_command("--minutes", "0"), command.AGAIN)
        self.assertTrue(self.path(1).exists() and not self.path(2).exists())
        self.assertEqual(self.run_command("--minutes", "0"), 0)

    def test_another_build_of_ours_as_the_peer_has_no_tuning(self) -> None:
        server_program(self.peer, "Bobolink", "0.9.0")
        generator_program(self.generator, [delivery(5.0)])
        self.run_command("--peer-name", "before")
        self.assertNotIn(PEER_TUNED, self.round(1)["runs"])
        self.assertEqual(self.round(1)["servers"][PEER]["label"], "before")

    def test_the_generator_is_told_what_it_needs(self) -> None:
        connected = {"connect_cpu_us": 1.0, "connect_p99_us": 1.0, "connect_per_s": 1.0}
        generator_program(self.generator, [document(row(connected))])
        self.run_command("--pairs", "1", scenario_="connect")
        call = calls_of(self.generator)[0]
        self.assertEqual(call[:2], ["bench", "idle"])
        told = dict(zip(call, call[1:]))
        self.assertTrue(told["--url"].startswith("ws://127.0.0.1:"))
        self.assertEqual((told["--connections"], told["--codec"]), ("10000", "json"))
        for flag in ("--token-secret", "--api-key", "--pid", "--cpu"):
            self.assertIn(flag, told)
        self.assertNotIn(told["--api-key"], json.dumps(self.round(1, "connect")))

    def test_a_scenario_with_redis_has_one_and_says_which(self) -> None:
        relayed = {"cpu_us_per_delivery": 1.0, "messages_per_frame": 1.0}
        generator_program(self.generator, [document(row(relayed))])
        self.assertEqual(self.run_command("--pairs", "1", scenario_="redis-relay"), 0)
        self.assertEqual(self.round(1, "redis-relay")["redis"], "7.2.1")
        call = calls_of(self.generator)[0]
        self.assertEqual(call.count("--beside"), 2, "Redis, and the node that is published to")
        told = dict(zip(call, call[1:]))
        self.assertNotIn(told["--api-url"].split(":")[2].split("/")[0], told["--url"])

    def test_a_missing_redis_is_recorded_as_not_run(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        with mock.patch.dict("os.environ", {"REDIS_SERVER": ""}):
            self.run_command("--pairs", "1", scenario_="redis-publish")
        run = self.round(1, "redis-publish")["runs"][OURS]
        self.assertIn("redis-server: none on PATH", run["not_run"])
        self.assertEqual(calls_of(self.generator), [])

    def test_the_fence_is_measured_without_a_server(self) -> None:
        # What the host of this test takes from it is not what is tested.
        quiet = mock.patch("comparison.machine.Times.read", return_value=machine.Times(100, 0))
        with quiet, mock.patch("comparison.fence.PAIRS", 1):
            self.assertEqual(self.run_command("--pairs", "1", scenario_="redis-fence"), 0)
        one = self.round(1, "redis-fence")
        self.assertEqual(list(one["runs"]), [OURS])
        value = results.value(one, OURS, Measure("fence_ratio", "", "", own_ratio=True))
        self.assertAlmostEqual(value.number or 0.0, 1.25, places=1)
        self.assertEqual(calls_of(self.generator), [])

    def test_a_flag_without_a_value_stays_without(self) -> None:
        generator_program(self.generator, [document(row({"max_deliveries_per_s": 1.0}))])
        self.run_command("--pairs", "1", scenario_="highest-1000")
        call = calls_of(self.generator)[0]
        self.assertEqual(call[call.index("--find-max") + 1], "--p99")

    def test_wrong_flags_are_named(self) -> None:
        generator_program(self.generator, [delivery(5.0)])
        self.assertEqual(self.run_command(scenario_="fan"), 1)
        self.assertIn("fanout-50", self.said)
        self.assertEqual(self.run_command("--codec", "protobuf", scenario_="publish"), 1)
        self.assertEqual(self.run_command("--peer", str(self.folder / "nothing")), 1)
        self.assertIn("--peer: there is no program", self.said)

    @property
    def said_so(self) -> str:
        return getattr(self, "said", "")


if __name__ == "__main__":
    unittest.main()
