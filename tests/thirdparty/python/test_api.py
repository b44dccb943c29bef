"""The server API as its Python client sees it."""

import json
import uuid

import cent
import pytest
import requests

from clients import subscribe, unique_channel
from gateway import API_KEY


async def test_publish_returns_the_position(api):
    channel = unique_channel("log")
    first = await api.publish(cent.PublishRequest(channel=channel, data={"a": 1}))
    second = await api.publish(cent.PublishRequest(channel=channel, data={"a": 2}))
    assert (first.offset, second.offset) == (1, 2)
    assert first.epoch == second.epoch != ""


async def test_publish_without_history_has_no_position(api):
    result = await api.publish(cent.PublishRequest(channel=unique_channel("open"), data={}))
    assert (result.offset, result.epoch) == (0, "")


async def test_publish_may_skip_the_history(api):
    channel = unique_channel("log")
    skipped = await api.publish(cent.PublishRequest(channel=channel, data={}, skip_history=True))
    assert skipped.offset == 0
    assert (await api.history(cent.HistoryRequest(channel=channel, limit=-1))).publications == []


async def test_a_repeated_idempotency_key_publishes_once(api):
    channel = unique_channel("log")
    request = cent.PublishRequest(channel=channel, data={}, idempotency_key="once")
    assert [(await api.publish(request)).offset for _ in range(3)] == [1, 1, 1]
    assert (await api.history(cent.HistoryRequest(channel=channel, limit=-1))).offset == 1


async def test_broadcast_answers_for_each_channel(api):
    channels = [unique_channel("log"), unique_channel("unheardof"), unique_channel("open")]
    result = await api.broadcast(cent.BroadcastRequest(channels=channels, data={"a": 1}))
    log, unheardof, plain = result.responses
    assert log.result.offset == 1
    assert unheardof.error.code == 102
    assert plain.error is None


async def test_errors_carry_their_code(api):
    for request, code in [
        (cent.PublishRequest(channel=unique_channel("unheardof"), data={}), 102),
        (cent.PublishRequest(channel="", data={}), 107),
        (cent.PublishRequest(channel=unique_channel("object"), data="no object"), 107),
    ]:
        with pytest.raises(cent.CentApiResponseError) as error:
            await api.publish(request)
        assert error.value.code == code
    with pytest.raises(cent.CentApiResponseError) as error:
        await api.history(cent.HistoryRequest(channel=unique_channel("open")))
    assert error.value.code == 108
    with pytest.raises(cent.CentApiResponseError) as error:
        await api.presence(cent.PresenceRequest(channel=unique_channel("open")))
    assert error.value.code == 108


async def test_history_is_read_from_both_ends(api):
    channel = unique_channel("log")
    for n in range(1, 6):
        request = cent.PublishRequest(channel=channel, data={"n": n}, tags={"n": str(n)})
        await api.publish(request)

    async def offsets(**options):
        result = await api.history(cent.HistoryRequest(channel=channel, **options))
        return [publication.offset for publication in result.publications]

    everything = await api.history(cent.HistoryRequest(channel=channel, limit=-1))
    contents = [publication.data for publication in everything.publications]
    assert contents == [{"n": n} for n in range(1, 6)]
    assert everything.publications[0].tags == {"n": "1"}
    assert everything.offset == 5
    assert await offsets() == []
    assert await offsets(limit=2) == [1, 2]
    assert await offsets(limit=2, reverse=True) == [5, 4]
    since = cent.StreamPosition(offset=3, epoch=everything.epoch)
    assert await offsets(limit=-1, since=since) == [4, 5]
    assert await offsets(limit=-1, since=since, reverse=True) == [2, 1]
    with pytest.raises(cent.CentApiResponseError) as error:
        await offsets(limit=1, since=cent.StreamPosition(offset=3, epoch="another"))
    assert error.value.code == 112


async def test_history_remove_keeps_the_position(api):
    channel = unique_channel("log")
    before = await api.publish(cent.PublishRequest(channel=channel, data={}))
    await api.history_remove(cent.HistoryRemoveRequest(channel=channel))
    after = await api.history(cent.HistoryRequest(channel=channel, limit=-1))
    assert (after.publications, after.offset, after.epoch) == ([], 1, before.epoch)


async def test_presence_lists_and_counts(api, clients):
    channel = unique_channel("present")
    client, events = await clients.connect("ben")
    await subscribe(client, channel)
    (connected,) = await events.count("connected")
    presence = (await api.presence(cent.PresenceRequest(channel=channel))).presence
    assert list(presence) == [connected.client]
    assert presence[connected.client].user == "ben"
    stats = await api.presence_stats(cent.PresenceStatsRequest(channel=channel))
    assert (stats.num_clients, stats.num_users) == (1, 1)


async def test_subscribe_and_unsubscribe_a_user(api, clients):
    user, channel = str(uuid.uuid4()), unique_channel("open")
    _, events = await clients.connect(user)
    await api.subscribe(cent.SubscribeRequest(user=user, channel=channel))
    (subscribed,) = await events.count("subscribed")
    assert subscribed.channel == channel
    await api.publish(cent.PublishRequest(channel=channel, data={"a": 1}))
    (publication,) = await events.count("publication")
    assert clients.codec.unpack(publication.pub.data) == {"a": 1}
    await api.unsubscribe(cent.UnsubscribeRequest(user=user, channel=channel))
    (unsubscribed,) = await events.count("unsubscribed")
    assert unsubscribed.channel == channel


async def test_disconnect_with_a_code_of_ones_own(api, clients):
    user = str(uuid.uuid4())
    _, events = await clients.connect(user)
    request = cent.DisconnectRequest(user=user, disconnect=cent.Disconnect(code=4500, reason="bye"))
    await api.disconnect(request)
    (disconnected,) = await events.count("disconnected")
    assert (disconnected.code, disconnected.reason) == (4500, "bye")


async def test_refresh_with_expired_ends_the_connection(api, clients):
    user = str(uuid.uuid4())
    _, events = await clients.connect(user)
    await api.refresh(cent.RefreshRequest(user=user, expired=True))
    connecting = await events.count("connecting", 2)
    assert connecting[1].code == 3005


async def test_info_describes_the_node(api, clients):
    await clients.connect()
    (node,) = (await api.info(cent.InfoRequest())).nodes
    assert node.uid and node.name and node.version
    assert node.num_clients >= 1 and node.num_users >= 1


async def test_channels_are_found_by_pattern(api, clients):
    client, _ = await clients.connect()
    channel = unique_channel("open")
    await subscribe(client, channel)
    found = (await api.channels(cent.ChannelsRequest(pattern=channel[:-4] + "*"))).channels
    assert {name: info.num_clients for name, info in found.items()} == {channel: 1}
    assert channel in (await api.channels(cent.ChannelsRequest())).channels


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_answers_in_order(api, parallel):
    channel = unique_channel("log")
    requests_made = [
        cent.PublishRequest(channel=channel, data={}),
        cent.BroadcastRequest(channels=[unique_channel("log")], data={}),
        cent.PresenceStatsRequest(channel=unique_channel("present")),
    ]
    request = cent.BatchRequest(requests=requests_made, parallel=parallel)
    published, broadcast, stats = (await api.batch(request)).replies
    assert published.offset == 1
    assert broadcast.responses[0].result.offset == 1
    assert stats.num_clients == 0


async def test_a_wrong_key_is_unauthorized(gateway):
    async with cent.AsyncClient(gateway.api_url, "guessed") as client:
        with pytest.raises(cent.CentUnauthorizedError):
            await client.info(cent.InfoRequest())


def test_the_blocking_client_works_too(gateway):
    with cent.Client(gateway.api_url, API_KEY, session=_session()) as client:
        assert len(client.info(cent.InfoRequest()).nodes) == 1


@pytest.mark.parametrize(
    "headers",
    [{"X-API-Key": API_KEY}, {"Authorization": f"apikey {API_KEY}"}],
    ids=["x-api-key", "authorization"],
)
def test_the_key_is_taken_from_either_header(gateway, headers):
    response = _session().post(f"{gateway.api_url}/info", json={}, headers=headers)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("nonsense", "{}", 404), ("info", "", 400), ("publish", "{", 400), ("connections", "{}", 404)],
)
def test_what_is_no_call_is_an_http_error(gateway, method, body, status):
    headers = {"X-API-Key": API_KEY}
    response = _session().post(f"{gateway.api_url}/{method}", data=body, headers=headers)
    assert response.status_code == status


def test_only_post_is_allowed(gateway):
    response = _session().get(f"{gateway.api_url}/info", headers={"X-API-Key": API_KEY})
    assert response.status_code == 405


def test_an_unknown_remote_call_is_not_found(gateway):
    assert _call(gateway, "rpc", {"method": "anything", "params": {}})["error"]["code"] == 104


def test_broken_base64_is_a_bad_request(gateway):
    params = {"channel": unique_channel("open"), "b64data": "!"}
    assert _call(gateway, "publish", params)["error"]["code"] == 107


@pytest.mark.parametrize(
    ("method", "params", "status", "code"),
    [
        ("publish", {"channel": "unheardof:a", "data": {}}, 404, 102),
        ("publish", {"channel": "", "data": {}}, 400, 107),
        ("presence", {"channel": "open:a"}, 400, 108),
        ("history", {"channel": "log:a", "limit": 1, "since": {"offset": 1, "epoch": "x"}}, 416, 112),
    ],
)
def test_errors_become_http_statuses_on_request(gateway, method, params, status, code):
    headers = {"X-API-Key": API_KEY, "X-Centrifugo-Error-Mode": "transport"}
    response = _session().post(f"{gateway.api_url}/{method}", json=params, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)


def _call(gateway, method: str, params: dict) -> dict:
    url = f"{gateway.api_url}/{method}"
    response = _session().post(url, data=json.dumps(params), headers={"X-API-Key": API_KEY})
    assert response.status_code == 200
    return response.json()


def _session() -> requests.Session:
    session = requests.Session()
    # A proxy of the environment has no business between a test and its own server.
    session.trust_env = False
    return session
