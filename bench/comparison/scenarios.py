"""What is compared: the loads, the measures taken under each, and what is wanted of them."""

from __future__ import annotations

from dataclasses import dataclass, field

CODECS = ("json", "protobuf")

# In the place of a load of `bobolink bench`: scripts are run, and no server is.
FENCE = "fence"

# The columns of a comparison, and of which server each is a configuration.
OURS = "ours"
OURS_DELAY = "ours-write-delay"
PEER = "peer"
PEER_TUNED = "peer-tuned"


@dataclass(frozen=True)
class Target:
    """What a ratio has to be: `must` to pass, `aim` to be content if that is more."""

    must: float
    aim: float | None = None


@dataclass(frozen=True)
class Measure:
    """A number of a run. `name` is a metric of the generator, or a field of its latency."""

    name: str
    title: str
    unit: str
    target: Target | None = None
    more_is_better: bool = False
    # The number is a ratio in itself (to another phase of the same run), so no peer is needed.
    own_ratio: bool = False
    # Counts what was asked of Redis, which a busy machine changes little.
    is_count: bool = False
    # Comes of all rows of a run, so that other programs must have left all of them alone.
    whole_run: bool = False


@dataclass(frozen=True)
class Scenario:
    """A load. `options` are those of `bobolink bench`, `quick` replaces some for a short look."""

    name: str
    title: str
    generator: str
    options: dict[str, str]
    quick: dict[str, str]
    measures: tuple[Measure, ...]
    # Seconds that one run takes, at most; decides whether another round fits into a call.
    seconds: float
    # Sockets that the server holds at the same time.
    sockets: int
    # The server has a Redis.
    redis: bool = False
    # Publications go to a second node; the one that is measured gets them from Redis.
    two_nodes: bool = False
    # Settings of the section `client`.
    client: dict[str, object] = field(default_factory=dict)
    # Options of the channels, beyond that everybody may use them.
    channels: dict[str, object] = field(default_factory=dict)
    # Clients sign in with a JWT each.
    tokens: bool = False
    # How clients write; one where there are none.
    codecs: tuple[str, ...] = CODECS
    # Whether `client.write_delay` can matter.
    delay_matters: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The configurations that it is run with, in the order of the first round."""
        if self.generator == FENCE:
            return (OURS,)
        delay = (OURS_DELAY,) if self.delay_matters else ()
        return (OURS, PEER, PEER_TUNED, *delay)


def scenario(name: str) -> Scenario | None:
    """The scenario of a name."""
    return next((one for one in SCENARIOS if one.name == name), None)


def _delivery(target: Target, user: Target | None = None) -> tuple[Measure, ...]:
    return (
        Measure("cpu_us_per_delivery", "CPU per delivery", "µs", target),
        Measure("user_us_per_delivery", "user part", "µs", user),
        Measure("system_us_per_delivery", "system part", "µs"),
        Measure("messages_per_frame", "messages per frame", ""),
        Measure("latency.p50_us", "p50", "µs"),
        Measure("latency.p99_us", "p99", "µs"),
    )


def _highest(target: Target) -> tuple[Measure, ...]:
    return (
        Measure(
            "max_deliveries_per_s",
            "highest rate",
            "/s",
            target,
            more_is_better=True,
            whole_run=True,
        ),
    )


def _api(method: str) -> Scenario:
    return Scenario(
        name=method,
        title=f"HTTP API, method {method}, 32 connections, one request after the other",
        generator="publish",
        options={"method": method, "connections": "32", "items": "100", "rate": "max"},
        quick={"seconds": "8", "warmup": "2"},
        measures=(
            Measure("cpu_us_per_publication", "CPU per publication", "µs", Target(0.6, 0.3)),
            Measure("user_us_per_publication", "user part", "µs"),
            Measure("system_us_per_publication", "system part", "µs"),
            Measure("publications_per_s", "publications", "/s", more_is_better=True),
            Measure("latency.p99_us", "p99 of the answer", "µs"),
        ),
        seconds=30,
        sockets=32,
        codecs=("json",),
    )


_SHORT = {"seconds": "8", "warmup": "2"}
# They come back all at once, so all of them are under way at the same time.
_STORM = {"connections": "5000", "missed": "50", "window": "5000"}

# Of channels with history.
HISTORY: dict[str, object] = {"history_size": 100, "history_ttl": "300s"}
# How often presence is renewed, so that a run sees it several times.
PRESENCE_INTERVAL_S = 10


def _through_redis(in_flight: int, measures: tuple[Measure, ...]) -> Scenario:
    return Scenario(
        name="redis-publish" if in_flight < 100 else f"redis-publish-{in_flight}",
        title=f"Redis: HTTP API, method publish, with history, {in_flight} in flight",
        generator="publish",
        options={"method": "publish", "connections": str(in_flight), "rate": "max"},
        quick={"seconds": "8", "warmup": "2"},
        measures=measures,
        seconds=30,
        sockets=in_flight,
        redis=True,
        channels=HISTORY,
        codecs=("json",),
    )

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="idle",
        title="10,000 idle connections with a subscription each; all dropped and back three times",
        generator="idle",
        # Two pings each, and the phases of rest.
        options={
            "connections": "10000",
            "subscriptions": "1",
            "seconds": "50",
            "churn": "3",
            "settle": "60",
        },
        quick={"seconds": "26", "settle": "5"},
        measures=(
            Measure("bytes_per_connection", "memory per connection", "B", Target(0.20, 0.08)),
            Measure(
                "idle_cpu_us_per_connection_s",
                "CPU per connection and second",
                "µs",
                Target(0.5, 0.2),
            ),
            Measure(
                "bytes_per_connection_after_churn",
                "memory per connection after three rounds",
                "B",
                Target(0.3, 0.1),
            ),
            Measure("peak_bytes_per_connection", "memory per connection at the peak", "B"),
            Measure("bytes_per_connection_after_close", "left per connection closed", "B"),
        ),
        seconds=190,
        sockets=10_000,
    ),
    Scenario(
        name="connect",
        title="10,000 connect with a JWT and subscribe, 200 of them under way",
        generator="idle",
        options={
            "connections": "10000",
            "subscriptions": "1",
            "window": "200",
            "seconds": "1",
            "settle": "0",
        },
        quick={},
        measures=(
            Measure("connect_cpu_us", "CPU per connect and subscribe", "µs", Target(0.6, 0.4)),
            Measure("connect_p99_us", "p99", "µs", Target(0.5, 0.15)),
            Measure("connect_per_s", "rate", "/s", more_is_better=True),
        ),
        seconds=15,
        sockets=10_000,
        tokens=True,
    ),
    Scenario(
        name="fanout-50",
        title="1 to 1,000 at 50,000 deliveries/s",
        generator="fanout",
        # Not 50, which is every fifth tick of a kernel with 250 in a second: what a server does at a
        # tick decides what is counted as user and as system time, and it would always be the same.
        options={"subscribers": "1000", "rate": "50.3"},
        quick=_SHORT,
        measures=_delivery(Target(0.8, 0.6), Target(0.5, 0.15)),
        seconds=30,
        sockets=1_000,
        delay_matters=True,
    ),
    Scenario(
        name="fanout-200",
        title="1 to 1,000 at 200,000 deliveries/s",
        generator="fanout",
        options={"subscribers": "1000", "rate": "200"},
        quick=_SHORT,
        measures=_delivery(Target(0.9, 0.75)),
        seconds=30,
        sockets=1_000,
        delay_matters=True,
    ),
    Scenario(
        name="highest-1000",
        title="highest rate 1 to 1,000 with p99 < 100 ms",
        generator="fanout",
        options={
            "subscribers": "1000",
            "rate": "200",
            "find-max": "",
            "p99": "100ms",
            "seconds": "5",
            "warmup": "2",
        },
        quick={"seconds": "3", "warmup": "1"},
        measures=_highest(Target(1.7, 2.3)),
        seconds=130,
        sockets=1_000,
        delay_matters=True,
    ),
    Scenario(
        name="highest-10000",
        title="highest rate 1 to 10,000 with p99 < 500 ms",
        generator="fanout",
        options={
            "subscribers": "10000",
            "rate": "20",
            "find-max": "",
            "p99": "500ms",
            "seconds": "5",
            "warmup": "2",
        },
        quick={"seconds": "3", "warmup": "1"},
        measures=_highest(Target(1.4, 1.8)),
        seconds=140,
        sockets=10_000,
        delay_matters=True,
    ),
    Scenario(
        name="saturated",
        # Past what Centrifugo holds on one core of a machine of 2026, and within what ours should.
        title="1 to 1,000 at 600,000 deliveries/s, where Centrifugo saturates",
        generator="fanout",
        options={"subscribers": "1000", "rate": "600"},
        quick=_SHORT,
        measures=(
            Measure("latency.p99_us", "p99", "µs", Target(0.2, 0.05)),
            Measure("latency.p50_us", "p50", "µs"),
            Measure("delivered_per_s", "delivered", "/s", more_is_better=True),
            Measure("messages_per_frame", "messages per frame", ""),
        ),
        seconds=35,
        sockets=1_000,
        delay_matters=True,
    ),
    Scenario(
        name="chat",
        title="1,000 channels of 2 members, 20,000 messages/s of clients",
        generator="chat",
        options={"channels": "1000", "members": "2", "rate": "20000"},
        quick=_SHORT,
        # Each message is two deliveries, for both servers.
        measures=_delivery(Target(0.7, 0.4)),
        seconds=30,
        sockets=2_000,
        delay_matters=True,
    ),
    _api("publish"),
    _api("broadcast"),
    _api("batch"),
    Scenario(
        name="storm",
        title="5,000 clients of one channel drop, and come back to recover 50 publications each",
        generator="storm",
        options=_STORM,
        quick={},
        measures=(
            Measure("whole_s", "time until the last is whole", "s", Target(0.5, 0.3)),
            Measure("cpu_us_per_client", "CPU per client", "µs"),
        ),
        seconds=40,
        sockets=5_000,
        channels={"history_size": 100, "history_ttl": "300s", "force_recovery": True},
    ),
    Scenario(
        name="slow",
        title="1 to 1,000 at 50,000 deliveries/s while 50 do not read",
        generator="slow",
        options={"subscribers": "1000", "stopped": "50", "rate": "50"},
        quick=_SHORT,
        measures=(
            Measure(
                "p99_ratio",
                "p99 of the others, with to without",
                "",
                Target(1.2, 1.05),
                own_ratio=True,
                whole_run=True,
            ),
        ),
        seconds=70,
        sockets=1_000,
    ),
    _through_redis(
        16,
        (
            Measure("latency.p50_us", "p50 of the answer", "µs", Target(0.5, 0.15)),
            Measure("latency.p99_us", "p99 of the answer", "µs"),
            Measure("publications_per_s", "publications", "/s", more_is_better=True),
            Measure("cpu_us_per_publication", "CPU per publication", "µs"),
            Measure("redis_cpu_us_per_publication", "CPU of Redis per publication", "µs"),
        ),
    ),
    _through_redis(
        512,
        (
            Measure("cpu_us_per_publication", "CPU per publication", "µs", Target(1.0)),
            Measure(
                "redis_cpu_us_per_publication", "CPU of Redis per publication", "µs", Target(1.05)
            ),
            Measure("redis_commands_per_publication", "commands of Redis per publication", ""),
            Measure("publications_per_s", "publications", "/s", more_is_better=True),
            Measure("latency.p99_us", "p99 of the answer", "µs"),
        ),
    ),
    Scenario(
        name="redis-relay",
        title=(
            "Redis: 5,000 messages/s published at another node, to 1,000 channels of a subscriber"
            " each"
        ),
        generator="fanout",
        options={"channels": "1000", "subscribers": "1", "publishers": "32", "rate": "5000"},
        quick=_SHORT,
        # Each message has one delivery, so this is what relaying one takes, its delivery included.
        measures=(
            Measure("cpu_us_per_delivery", "CPU per relayed message", "µs", Target(0.5, 0.25)),
            Measure("user_us_per_delivery", "user part", "µs"),
            Measure("system_us_per_delivery", "system part", "µs"),
            Measure("messages_per_frame", "messages per frame", ""),
            Measure("latency.p50_us", "p50", "µs"),
            Measure("latency.p99_us", "p99", "µs"),
        ),
        seconds=40,
        sockets=1_000,
        redis=True,
        two_nodes=True,
    ),
    Scenario(
        name="redis-presence",
        title=(
            "Redis: 10,000 idle connections in 4 of 40 channels each, presence renewed every"
            f" {PRESENCE_INTERVAL_S} s"
        ),
        generator="idle",
        # Each entry is renewed three times.
        options={
            "connections": "10000",
            "subscriptions": "4",
            "channels": "40",
            "seconds": str(3 * PRESENCE_INTERVAL_S),
            "settle": "0",
        },
        quick={"seconds": str(PRESENCE_INTERVAL_S)},
        measures=(
            Measure(
                "idle_redis_commands_per_s", "commands of Redis", "/s", Target(0.2), is_count=True
            ),
            Measure("idle_redis_scripts_per_s", "scripts among them", "/s", is_count=True),
            Measure("idle_redis_cpu", "CPU of Redis", "s/s"),
            Measure(
                "idle_cpu_us_per_connection_s", "CPU per connection and second of a node", "µs"
            ),
        ),
        seconds=65,
        sockets=10_000,
        redis=True,
        client={"presence_update_interval": f"{PRESENCE_INTERVAL_S}s"},
        channels={"presence": True},
        codecs=("json",),
    ),
    Scenario(
        name="redis-storm",
        title=(
            "Redis: 5,000 clients of one channel drop, and come back to recover 50 publications"
            " each"
        ),
        generator="storm",
        options=_STORM,
        quick={},
        measures=(
            Measure("redis_commands", "commands of Redis", "", Target(0.02), is_count=True),
            Measure("redis_scripts", "scripts among them", "", is_count=True),
            Measure("redis_cpu_us_per_client", "CPU of Redis per client", "µs"),
            Measure("whole_s", "time until the last is whole", "s"),
            Measure("cpu_us_per_client", "CPU per client", "µs"),
        ),
        seconds=40,
        sockets=5_000,
        redis=True,
        channels={**HISTORY, "force_recovery": True},
        codecs=("json",),
    ),
    Scenario(
        name="redis-fence",
        title=(
            "Redis: the publish script with the fence, and its steps without one, in turn; no"
            " server takes part, and the plain script is ours"
        ),
        generator=FENCE,
        options={},
        quick={},
        measures=(
            Measure(
                "fence_ratio", "CPU of Redis, with to without", "", Target(1.05), own_ratio=True
            ),
            Measure("fenced_us_per_publication", "CPU of Redis with the fence", "µs"),
            Measure("plain_us_per_publication", "without", "µs"),
        ),
        seconds=30,
        sockets=1,
        redis=True,
        codecs=("json",),
    ),
)
