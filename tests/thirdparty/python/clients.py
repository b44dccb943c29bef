"""Clients of the protocol that record what happens to them, and the tokens they carry."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Callable, List, Tuple

from centrifuge import Client, ClientEventHandler, Subscription, SubscriptionEventHandler

from gateway import TOKEN_SECRET, Gateway

# Several times what a busy machine stands still, since it is only ever used up by a failing test.
PATIENCE_SECONDS = 15


@dataclass(frozen=True)
class Codec:
    """An encoding of the protocol, and how its payloads look to an application."""

    name: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


codecs = [
    Codec("json", lambda value: value, lambda data: data),
    Codec("protobuf", lambda value: json.dumps(value).encode(), json.loads),
]


class Record:
    """Keeps what happened, in order, and lets a test wait until enough did."""

    def __init__(self) -> None:
        self.items: List[Tuple[str, Any]] = []
        self._changed = asyncio.Event()

    def add(self, name: str, context: Any) -> None:
        self.items.append((name, context))
        self._changed.set()

    def named(self, name: str) -> List[Any]:
        """The contexts of the events of that name."""
        return [context for each, context in self.items if each == name]

    async def count(
        self, name: str, count: int = 1, patience: float = PATIENCE_SECONDS
    ) -> List[Any]:
        """Waits for so many events of that name, past ones included."""
        try:
            async with asyncio.timeout(patience):
                while len(self.named(name)) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {count} × {name}: {self.items}") from None
        return self.named(name)


class _ClientEvents(ClientEventHandler):
    def __init__(self, record: Record) -> None:
        for name in _methods(ClientEventHandler):
            setattr(self, name, _recorder(record, name))


class _SubscriptionEvents(SubscriptionEventHandler):
    def __init__(self, record: Record) -> None:
        for name in _methods(SubscriptionEventHandler):
            setattr(self, name, _recorder(record, name))


def _methods(handler: type) -> List[str]:
    return [name for name in vars(handler) if name.startswith("on_")]


def _recorder(record: Record, method: str) -> Callable[[Any], Any]:
    async def add(context: Any) -> None:
        record.add(method.removeprefix("on_"), context)

    return add


class Clients:
    """Makes clients of one gateway and one codec."""

    def __init__(self, gateway: Gateway, codec: Codec) -> None:
        self.codec = codec
        self._gateway = gateway
        self._made: List[Client] = []

    def make(self, user: str = "anna", **options: Any) -> Tuple[Client, Record]:
        """A client of `user` that is not connected yet."""
        record = Record()
        if "get_token" not in options:
            options.setdefault("token", connection_token(user))
        client = Client(
            self._gateway.endpoint,
            events=_ClientEvents(record),
            use_protobuf=self.codec.name == "protobuf",
            min_reconnect_delay=0.02,
            max_reconnect_delay=0.2,
            # Giving up on a machine that only stands still would look like a lost connection.
            timeout=PATIENCE_SECONDS,
            proxy=None,
            **options,
        )
        self._made.append(client)
        return client, record

    async def connect(self, user: str = "anna", **options: Any) -> Tuple[Client, Record]:
        """A client of `user` that is connected."""
        client, record = self.make(user, **options)
        await client.connect()
        await client.ready()
        return client, record

    async def close(self) -> None:
        for client in self._made:
            await client.disconnect()


async def subscribe(client: Client, channel: str, **options: Any) -> Tuple[Subscription, Record]:
    """A subscription that is live."""
    sub, record = subscription(client, channel, **options)
    await sub.subscribe()
    await sub.ready()
    return sub, record


def subscription(client: Client, channel: str, **options: Any) -> Tuple[Subscription, Record]:
    """A subscription that is not started yet."""
    record = Record()
    sub = client.new_subscription(
        channel, events=_SubscriptionEvents(record), min_resubscribe_delay=0.02, **options
    )
    return sub, record


def unique_channel(namespace: str) -> str:
    """A channel of the namespace that no other test uses."""
    return f"{namespace}:{uuid.uuid4()}"


def connection_token(user: str, ttl: int | None = None, secret: str = TOKEN_SECRET, **claims) -> str:
    """A token to connect with; `ttl` in seconds, none means that it does not expire."""
    return _sign({"sub": user, **_expiration(ttl), **claims}, secret)


def subscription_token(
    user: str, channel: str, ttl: int | None = None, secret: str = TOKEN_SECRET, **claims
) -> str:
    """A token that lets `user` subscribe to `channel`."""
    return _sign({"sub": user, "channel": channel, **_expiration(ttl), **claims}, secret)


def _expiration(ttl: int | None) -> dict:
    return {} if ttl is None else {"exp": int(time.time()) + ttl}


def _sign(claims: dict, secret: str) -> str:
    parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims)]
    signature = hmac.digest(secret.encode(), ".".join(parts).encode(), hashlib.sha256)
    return ".".join([*parts, _base64url(signature)])


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
