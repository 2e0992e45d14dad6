"""What an unmodified PyPI `centrifuge-python` sees: the same promises as the Node tests, through other eyes."""

import asyncio
import functools
import json
import pathlib
import sys

import pytest
from centrifuge import Client, ClientEventHandler, DeltaType, ReplyError, StreamPosition, SubscriptionEventHandler

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from server import Server, token, until  # noqa: E402


@pytest.fixture(scope="module")
def server():
    running = Server().run()
    yield running
    running.stop()


class SpeakingProtobuf(Client):
    """In Protobuf bodies are bytes to the SDK; people still say values, and `value` reads them."""

    def __init__(self, address, **options):
        super().__init__(address, use_protobuf=True, **options)

    def _encode_data(self, data):
        return super()._encode_data(json.dumps(data).encode())


def value(data):
    """What a body says, in either encoding."""
    return json.loads(data) if isinstance(data, bytes) else data


def story(test):
    """Runs an async test in either encoding, in a loop of its own, within a minute, and closes the clients that it opened."""

    @pytest.mark.parametrize("client", [Client, SpeakingProtobuf], ids=["json", "protobuf"])
    @functools.wraps(test)
    def run(server, client):
        async def bounded():
            people = People(server, client)
            try:
                await asyncio.wait_for(test(server, people), 60)
            finally:
                for opened in people.clients:
                    await opened.disconnect()

        asyncio.run(bounded())

    del run.__wrapped__  # or pytest would look for a fixture called `people`
    return run


class People:
    def __init__(self, server, client):
        self.server, self.client, self.clients = server, client, []

    def new(self, **options):
        client = self.client(self.server.ws, **options)
        self.clients.append(client)
        return client

    def channel(self, name):
        """A channel of this test in this encoding."""
        return f"{name}-{self.client.__name__}"

    async def join(self, user, events=None, **claims):
        client = self.new(events=events, token=token(user, **claims))
        await client.connect()
        await client.ready(15)
        return client


class Seen(SubscriptionEventHandler):
    """Keeps what one subscription was told, in order."""

    def __init__(self):
        self.records, self.joins, self.leaves, self.starts, self.ends = [], [], [], [], []

    async def on_publication(self, ctx):
        self.records.append(ctx.pub)

    async def on_join(self, ctx):
        self.joins.append(ctx.info.user)

    async def on_leave(self, ctx):
        self.leaves.append(ctx.info.user)

    async def on_subscribed(self, ctx):
        self.starts.append(ctx)

    async def on_unsubscribed(self, ctx):
        self.ends.append(ctx.code)

    @property
    def numbers(self):
        return [value(record.data)["n"] for record in self.records]


async def follow(client, channel, **options):
    seen = Seen()
    subscription = client.new_subscription(channel, events=seen, **options)
    await subscription.subscribe()
    await subscription.ready(15)
    return subscription, seen


def say(server, channel, start, end):
    for n in range(start, end + 1):
        server.api("publish", channel=channel, data={"n": n})


@story
async def test_publish_reaches_subscribers_in_order_with_its_author(server, people):
    anna, ben = await people.join("anna", info={"name": "Anna"}), await people.join("ben")
    _, seen = await follow(ben, people.channel("room:py-order"))
    sub, own = await follow(anna, people.channel("room:py-order"))
    for n in range(30):
        await sub.publish({"n": n})
    await until(lambda: len(seen.records) == 30 and len(own.records) == 30, "30 records")
    assert seen.numbers == own.numbers == list(range(30))
    assert [record.offset for record in seen.records] == list(range(1, 31))
    assert {(record.info.user, value(record.info.conn_info)["name"]) for record in seen.records} == {("anna", "Anna")}


@story
async def test_recovers_across_kill_9(server, people):
    anna = await people.join("anna")
    _, seen = await follow(anna, people.channel("room:py-killed"))
    say(server, people.channel("room:py-killed"), 1, 10)
    await until(lambda: len(seen.records) == 10, "10 records")
    server.kill()
    server.run()
    say(server, people.channel("room:py-killed"), 11, 30)
    await until(lambda: len(seen.records) >= 30, "30 records")
    assert seen.numbers == list(range(1, 31))
    assert seen.starts[-1].was_recovering and seen.starts[-1].recovered


@story
async def test_recovers_more_than_300_missed(server, people):
    anna = await people.join("anna")
    _, seen = await follow(anna, people.channel("room:py-away"))
    say(server, people.channel("room:py-away"), 1, 3)
    await until(lambda: len(seen.records) == 3, "3 records")
    await anna.disconnect()
    say(server, people.channel("room:py-away"), 4, 1003)
    await anna.connect()
    await until(lambda: len(seen.records) >= 1003, "1003 records")
    assert seen.numbers == list(range(1, 1004))
    assert seen.starts[-1].recovered


@story
async def test_tells_a_trimmed_position(server, people):
    anna = await people.join("anna")
    _, seen = await follow(anna, people.channel("short:py"))
    say(server, people.channel("short:py"), 1, 3)
    await until(lambda: len(seen.records) == 3, "3 records")
    await anna.disconnect()
    say(server, people.channel("short:py"), 4, 50)
    await anna.connect()
    await until(lambda: len(seen.starts) == 2, "the subscription to come back")
    say(server, people.channel("short:py"), 51, 51)
    await until(lambda: len(seen.records) >= 4, "the next record")
    assert (seen.starts[1].was_recovering, seen.starts[1].recovered) == (True, False)
    assert seen.numbers == [1, 2, 3, 51]


@story
async def test_history_forwards_and_backwards(server, people):
    sub, _ = await follow(await people.join("anna"), people.channel("room:py-history"))
    say(server, people.channel("room:py-history"), 1, 12)

    async def numbers(**query):
        return [value(record.data)["n"] for record in (await sub.history(**query)).publications]

    top = await sub.history()
    assert (top.publications, top.offset) == ([], 12)
    assert await numbers(limit=5) == [1, 2, 3, 4, 5]
    assert await numbers(limit=5, since=StreamPosition(offset=10, epoch=top.epoch)) == [11, 12]
    assert await numbers(limit=3, reverse=True) == [12, 11, 10]


@story
async def test_presence_and_two_sessions_of_one_user(server, people):
    first, second = await people.join("anna"), await people.join("anna")
    sub, seen = await follow(first, people.channel("room:py-presence"))
    other, others = await follow(second, people.channel("room:py-presence"))
    await sub.publish({"n": 1})
    await other.publish({"n": 2})
    await until(lambda: seen.numbers == others.numbers == [1, 2], "both to see both")
    members = (await sub.presence()).clients
    assert sorted(info.user for info in members.values()) == ["anna", "anna"]
    stats = await sub.presence_stats()
    assert (stats.num_clients, stats.num_users) == (2, 1)


@story
async def test_joins_and_leaves(server, people):
    _, seen = await follow(await people.join("anna"), people.channel("room:py-joins"), join_leave=True)
    ben, _ = await follow(await people.join("ben"), people.channel("room:py-joins"))
    await until(lambda: "ben" in seen.joins, "the join")
    assert "anna" in seen.joins
    await ben.unsubscribe()
    await until(lambda: seen.leaves == ["ben"], "the leave")


@story
async def test_refusals(server, people):
    eve = await people.join("eve")
    for channel, code in [(people.channel("closed:py"), 103), (people.channel("unheard-of:py"), 102)]:
        seen = Seen()
        await eve.new_subscription(channel, events=seen).subscribe()
        await until(lambda: seen.ends, f"the refusal of {channel}")
        assert seen.ends == [code]
        with pytest.raises(ReplyError) as refused:
            await eve.publish(channel, {})
        assert refused.value.code == code

    class Ended(ClientEventHandler):
        codes = []

        async def on_disconnected(self, ctx):
            self.codes.append(ctx.code)

    forged = people.new(events=Ended(), token=token("eve", secret="another secret, just as long as the right one"))
    await forged.connect()
    await until(lambda: Ended.codes, "the end of a forged token")
    assert Ended.codes == [3500]


@story
async def test_refresh_in_band(server, people):
    asked, connects = [], []

    class Connected(ClientEventHandler):
        async def on_connected(self, ctx):
            connects.append(ctx)

    async def renewed():
        asked.append(1)
        return token("anna", ttl=2 if len(asked) == 1 else 3600)

    client = people.new(events=Connected(), token=token("anna", ttl=2), get_token=renewed)
    await client.connect()
    await client.ready(15)
    sub, seen = await follow(client, people.channel("room:py-refresh"))
    await until(lambda: len(asked) == 2, "two refreshes")
    await sub.publish({"n": 1})
    await until(lambda: seen.numbers == [1], "the record")
    assert len(connects) == 1


@story
async def test_rpc_publish_with_a_key_is_once(server, people):
    anna = await people.join("anna")
    ask = {"channel": people.channel("room:py-keys"), "data": {"n": 1}, "key": "k"}
    first = value((await anna.rpc("fireside.publish", ask)).data)
    assert value((await anna.rpc("fireside.publish", ask)).data) == {**first, "duplicate": True}
    sub, _ = await follow(anna, people.channel("room:py-keys"))
    assert [value(record.data) for record in (await sub.history(limit=10)).publications] == [{"n": 1}]


@story
async def test_takes_records_as_patches_across_kill_9(server, people):
    anna, channel = await people.join("anna"), people.channel("room:py-delta")
    _, seen = await follow(anna, channel, delta=DeltaType.FOSSIL)

    def tell(start, end):
        for n in range(start, end + 1):
            server.api("publish", channel=channel, data={"text": "Once upon a fire 🔥 " * 20, "n": n})

    tell(1, 10)
    await until(lambda: len(seen.records) == 10, "10 records")
    server.kill()
    server.run()
    tell(11, 30)
    await until(lambda: len(seen.records) >= 30, "30 records")
    assert seen.numbers == list(range(1, 31))
    assert {value(record.data)["text"] for record in seen.records} == {"Once upon a fire 🔥 " * 20}
    assert [record.delta for record in seen.records[:10]] == [False] + [True] * 9
