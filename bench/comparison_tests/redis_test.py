"""The Redis of a run, what is run around it, and what the fence costs it."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from comparison import fence, machine, redis, servers
from comparison.process import CannotRun
from comparison.redis import Connection, Redis, Used
from comparison.scenarios import FENCE, OURS, PEER, SCENARIOS, scenario
from comparison.servers import Access, Running
from comparison.stack import Stack
from comparison_tests.synthetic import redis_program


class WireTest(unittest.TestCase):
    def test_a_command_is_written_with_the_length_of_each_word(self) -> None:
        self.assertEqual(redis.command(b"ECHO", b"a\r\n"), b"*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n")

    def test_time_is_read_from_what_redis_tells(self) -> None:
        told = "# CPU\r\nused_cpu_sys:0.25\r\nused_cpu_user:1.5\r\nused_cpu_sys_children:9\r\n"
        self.assertEqual(Used.told_in(told), Used(1.75))


class ProgramTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        program = redis_program(self.folder / "redis-server")
        for patch in (
            mock.patch("comparison.process.pinned", return_value=[]),
            mock.patch.dict("os.environ", {"REDIS_SERVER": str(program)}),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def test_it_runs_for_as_long_as_it_is_needed(self) -> None:
        with redis.running(0, self.folder) as store:
            with Connection(store.port) as connection:
                self.assertEqual(connection.ask(b"PING"), b"+PONG\r\n")
            os.kill(store.pid, 0)
        with self.assertRaises(ProcessLookupError):
            os.kill(store.pid, 0)

    def test_a_refusal_is_an_error_and_no_answer(self) -> None:
        with redis.running(0, self.folder) as store, Connection(store.port) as connection:
            with self.assertRaisesRegex(CannotRun, "Redis refuses: -ERR unknown command"):
                connection.run(redis.command(b"PING") + redis.command(b"NONSENSE"))

    def test_the_program_says_its_version(self) -> None:
        self.assertEqual(redis.version(), "7.2.1")

    def test_without_a_program_nothing_is_run(self) -> None:
        with mock.patch.dict("os.environ", {"REDIS_SERVER": ""}):
            with mock.patch("shutil.which", return_value=None):
                self.assertIsNone(redis.version())
                with self.assertRaisesRegex(CannotRun, "none on PATH"):
                    with redis.running(0, self.folder):
                        pass

    def test_one_that_ends_at_its_start_is_told_with_its_last_words(self) -> None:
        broken = self.folder / "broken"
        broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
        broken.chmod(0o755)
        with mock.patch.dict("os.environ", {"REDIS_SERVER": str(broken)}):
            with self.assertRaisesRegex(CannotRun, "ends with 3 at its start: out of luck"):
                with redis.running(0, self.folder):
                    pass

    def test_the_fence_costs_what_its_script_costs_more(self) -> None:
        with redis.running(0, self.folder) as store:
            report = fence.measure(store.port, pairs=2, channels=2)
        metrics = report["rows"][0]["metrics"]
        self.assertAlmostEqual(metrics["fenced_us_per_publication"], 5.0, places=2)
        self.assertAlmostEqual(metrics["plain_us_per_publication"], 4.0, places=2)
        self.assertAlmostEqual(metrics["fence_ratio"], 1.25, places=2)


class ScriptTest(unittest.TestCase):
    """The two scripts that the fence is measured with."""

    def test_both_take_the_same_steps_but_for_the_fence(self) -> None:
        fenced, plain = (path.read_text() for path in (fence.FENCED, fence.PLAIN))
        for step in ("'hincrby'", "'xadd'", "'MAXLEN'", "'del'", "'__p1:'"):
            self.assertIn(step, fenced)
            self.assertIn(step, plain)
        self.assertNotIn("identity", plain)
        self.assertIn("identity", fenced)

    def test_a_publication_goes_to_the_keys_of_its_channel(self) -> None:
        call = fence.Script(b"d", "plain", (b"publish",)).call(7)
        for word in (b"plain.stream.7", b"plain.stream.meta.7", b"plain.client.7", b"300"):
            self.assertIn(b"\r\n%s\r\n" % word, call)


class StackTest(unittest.TestCase):
    def running(self, port: int) -> Running:
        return Running(port + 1, Access(port, f"token-{port}", f"key-{port}"))

    def test_a_generator_is_told_of_redis_and_of_whom_to_publish_to(self) -> None:
        told = Stack(self.running(10), Redis(90, 91), self.running(20)).flags()
        pairs = list(zip(told, told[1:]))
        self.assertIn(("--url", "ws://127.0.0.1:10/connection/websocket"), pairs)
        self.assertIn(("--api-url", "http://127.0.0.1:20/api"), pairs)
        self.assertIn(("--api-key", "key-20"), pairs)
        self.assertIn(("--redis", "127.0.0.1:91"), pairs)
        self.assertIn(("--pid", "11"), pairs)
        self.assertEqual([pid for flag, pid in pairs if flag == "--beside"], ["21", "90"])

    def test_without_redis_nothing_is_said_of_it(self) -> None:
        told = Stack(self.running(10)).flags()
        self.assertFalse({"--redis", "--beside", "--api-url"} & set(told))

    def test_both_servers_get_the_same_redis(self) -> None:
        for one in (one for one in SCENARIOS if one.redis and one.generator != FENCE):
            ours, peer = (
                servers.configuration(one, column, Access(1, "t", "a"), Redis(5, 6))
                for column in (OURS, PEER)
            )
            self.assertEqual(ours, peer)
            engine = {"type": "redis", "redis": {"address": "redis://127.0.0.1:6"}}
            self.assertEqual(ours["engine"], engine)

    def test_presence_is_renewed_as_often_as_the_run_counts_on(self) -> None:
        presence = scenario("redis-presence")
        assert presence
        config = servers.configuration(presence, OURS, Access(1, "t", "a"), Redis(5, 6))
        client, channel = config["client"], config["channel"]
        assert isinstance(client, dict) and isinstance(channel, dict)
        self.assertEqual(client["presence_update_interval"], "10s")
        self.assertIs(channel["without_namespace"]["presence"], True)
        self.assertEqual(int(presence.options["seconds"]) % 10, 0)


class MachineTest(unittest.TestCase):
    def test_a_machine_that_its_host_gave_to_others_voids_a_row(self) -> None:
        before, later = (
            machine.Times.told_in(f"cpu  100 0 0 {idle} 0 0 0 {stolen} 0 0\ncpu0 1\n")
            for idle, stolen in ((0, 0), (97, 3))
        )
        self.assertIn("3.0%", before.void_until(later) or "")
        self.assertIsNone(before.void_until(machine.Times(before.total + 100, 2)))


if __name__ == "__main__":
    unittest.main()
