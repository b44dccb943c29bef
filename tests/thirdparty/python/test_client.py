"""The gateway as the Python client of the protocol sees it."""

import cent
import pytest
from centrifuge import DeltaType, Filter, ReplyError, StreamPosition

from clients import (
    Record,
    connection_token,
    subscribe,
    subscription,
    subscription_token,
    unique_channel,
)

# So long that a token is good when it comes, though the machine stands still meanwhile.
TTL_SECONDS = 6
THREE_LIVES_SECONDS = 45


async def test_a_token_lets_a_client_in(clients):
    _, events = await clients.connect()
    (connected,) = await events.count("connected")
    assert len(connected.client) == 36


async def test_a_token_signed_by_someone_else_ends_the_connection_for_good(clients):
    client, events = clients.make(token=connection_token("anna", secret="guessed"))
    await client.connect()
    (disconnected,) = await events.count("disconnected")
    assert disconnected.code == 3500


async def test_a_refreshed_token_keeps_the_connection(clients):
    asked = Record()

    async def get_token():
        asked.add("token", None)
        return connection_token("anna", ttl=TTL_SECONDS)

    client, events = await clients.connect(get_token=get_token)
    # A connection that is not refreshed is closed before the fourth is asked for.
    await asked.count("token", 4, THREE_LIVES_SECONDS)
    await client.publish(unique_channel("open"), clients.codec.pack("still here"))
    assert (len(events.named("connecting")), len(events.named("connected"))) == (1, 1)


async def test_a_message_reaches_the_other_client_and_names_its_author(clients):
    channel = unique_channel("open")
    author, _ = await clients.connect()
    reader, _ = await clients.connect("ben")
    _, events = await subscribe(reader, channel)
    await author.publish(channel, clients.codec.pack({"text": "hello"}))
    (publication,) = await events.count("publication")
    assert clients.codec.unpack(publication.pub.data) == {"text": "hello"}
    assert publication.pub.info.user == "anna"


async def test_errors_carry_their_code(clients):
    client, _ = await clients.connect()
    with pytest.raises(ReplyError) as denied:
        await client.publish(unique_channel("closed"), clients.codec.pack({}))
    assert denied.value.code == 103
    with pytest.raises(ReplyError) as unknown:
        await client.publish(unique_channel("unheardof"), clients.codec.pack({}))
    assert unknown.value.code == 102
    with pytest.raises(ReplyError) as unavailable:
        await client.rpc("anything", clients.codec.pack({}))
    assert unavailable.value.code == 108


async def test_a_closed_channel_opens_with_a_token_only(clients):
    client, _ = await clients.connect()
    channel = unique_channel("closed")
    sub, events = subscription(client, channel)
    await sub.subscribe()
    (unsubscribed,) = await events.count("unsubscribed")
    assert unsubscribed.code == 103
    other = unique_channel("closed")
    await subscribe(client, other, token=subscription_token("anna", other))


async def test_presence_counts_connections_and_users(clients):
    channel = unique_channel("present")
    subs = []
    for user in ("anna", "anna", "ben"):
        client, _ = await clients.connect(user)
        sub, _ = await subscribe(client, channel)
        subs.append(sub)
    presence = await subs[0].presence()
    assert sorted(info.user for info in presence.clients.values()) == ["anna", "anna", "ben"]
    assert all(key == info.client for key, info in presence.clients.items())
    stats = await subs[0].presence_stats()
    assert (stats.num_clients, stats.num_users) == (3, 2)


async def test_joining_and_leaving_are_seen_in_order(clients):
    channel = unique_channel("present")
    observer, _ = await clients.connect()
    _, events = await subscribe(observer, channel)
    visitor, _ = await clients.connect("ben")
    await subscribe(visitor, channel)
    await visitor.disconnect()
    await events.count("leave")
    seen = [
        (name, context.info.user) for name, context in events.items if name in ("join", "leave")
    ]
    assert seen == [("join", "anna"), ("join", "ben"), ("leave", "ben")]


async def test_history_is_read_from_both_ends(clients, api):
    channel = unique_channel("log")
    for n in range(1, 6):
        await api.publish(cent.PublishRequest(channel=channel, data=n))
    client, _ = await clients.connect()
    sub, _ = await subscribe(client, channel)
    newest = await sub.history(limit=2, reverse=True)
    assert [clients.codec.unpack(pub.data) for pub in newest.publications] == [5, 4]
    assert newest.offset == 5
    since = StreamPosition(offset=2, epoch=newest.epoch)
    later = await sub.history(limit=-1, since=since)
    assert [pub.offset for pub in later.publications] == [3, 4, 5]
    with pytest.raises(ReplyError) as another_life:
        await sub.history(limit=1, since=StreamPosition(offset=2, epoch="another"))
    assert another_life.value.code == 112


async def test_what_was_published_while_away_arrives_once_and_in_order(clients, api):
    channel = unique_channel("log")
    user = unique_channel("user")
    client, events = await clients.connect(user)
    sub, sub_events = await subscribe(client, channel)
    for n in range(1, 4):
        await api.publish(cent.PublishRequest(channel=channel, data=n))
    await sub_events.count("publication", 3)

    await client.disconnect()
    await events.count("disconnected")
    for n in range(4, 24):
        await api.publish(cent.PublishRequest(channel=channel, data=n))
    await client.connect()

    await sub_events.count("publication", 23)
    publications = sub_events.named("publication")
    assert [clients.codec.unpack(context.pub.data) for context in publications] == list(range(1, 24))
    back = sub_events.named("subscribed")[1]
    assert (back.was_recovering, back.recovered) == (True, True)


async def test_deltas_decode_to_the_originals(clients, api):
    channel = unique_channel("delta")
    client, _ = await clients.connect()
    _, events = await subscribe(client, channel, delta=DeltaType.FOSSIL)
    documents = [{"n": n, "text": "Grüße an alle Vögel \U0001f426 " * 20} for n in range(10)]
    for document in documents:
        await api.publish(cent.PublishRequest(channel=channel, data=document))
    publications = await events.count("publication", len(documents))
    assert [clients.codec.unpack(context.pub.data) for context in publications] == documents
    assert [bool(context.pub.delta) for context in publications] == [False] + [True] * 9


async def test_a_filter_lets_only_matching_messages_through(clients, api):
    channel = unique_channel("tags")
    client, _ = await clients.connect()
    _, events = await subscribe(client, channel, tags_filter=Filter.gte("price", "10"))
    for n, price in enumerate(["9", "10", "100", "9.5"]):
        await api.publish(cent.PublishRequest(channel=channel, data=n, tags={"price": price}))
    await api.publish(cent.PublishRequest(channel=channel, data="fence", tags={"price": "11"}))
    publications = await events.count("publication", 3)
    assert [clients.codec.unpack(context.pub.data) for context in publications] == [1, 2, "fence"]
