"""Notifications: what is told, to whom, when, how often; across failures, quiet hours and restarts."""

from __future__ import annotations

import itertools
import json
import logging
import re
import signal
import subprocess
import sys
import time
from datetime import UTC
from datetime import time as clock_time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from house import MODEL, NOON, TWO, House, Place, Process, virtually
from webhook import SECRET, Webhook

from rlmd.config.policy import Notify
from rlmd.notify import targets
from rlmd.notify.notifier import AGAIN, GIVE_UP, KEEP_AGAIN, LONGEST_RETRY, MOST, TESTS, TOLD, Notifier
from rlmd.store.database import Store
from rlmd.wire.messages import Event, rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from house import Peer

    from rlmd.core.model import EventKind

KINDS: tuple[EventKind, ...] = ("switched", "exhausted", "recovered", "warning", "all_limited", "auth")
HOUR = 3600.0


class Post:
    """A notifier on virtual time whose messages arrive here."""

    def __init__(self, path: Path, nursery: trio.Nursery) -> None:
        self.path = path
        self.got: list[tuple[float, str, str]] = []
        """Minutes since noon, address, message."""
        self.broken: set[str] = set()
        self.tried = 0
        self._nursery = nursery
        self._scope = trio.CancelScope()

    def now(self) -> float:
        return NOON + trio.current_time()

    async def begin(self, *addresses: str, quiet: str | None = None, events: tuple[EventKind, ...] = KINDS) -> None:
        self.store = Store(self.path)
        self.notifier = Notifier(self.store, self.now, self._send)
        self.configure(*addresses, quiet=quiet, events=events)
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._run)
        await self.settled()

    def configure(self, *addresses: str, quiet: str | None = None, events: tuple[EventKind, ...] = KINDS) -> None:
        hours = None
        if quiet:
            begin, _, end = quiet.partition("-")
            hours = (clock_time.fromisoformat(begin), clock_time.fromisoformat(end))
        self.notifier.configure(Notify(targets=addresses, events=events, quiet_hours=hours), UTC)

    async def _run(self) -> None:
        with self._scope:
            await self.notifier.run()

    async def end(self) -> None:
        self.notifier.stop()
        self._scope.cancel()
        await self.settled()
        self.store.close()

    async def _send(self, address: str, text: str, event: str) -> str | None:
        del event
        self.tried += 1
        await trio.lowlevel.checkpoint()
        if address in self.broken:
            return "it cannot be reached"
        self.got.append((round(trio.current_time() / 60, 1), address, text.removeprefix("rlmd: ")))
        return None

    async def settled(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    async def happens(self, message: str = "anthropic is tired", event: EventKind = "exhausted", **facts: Any) -> None:
        until = facts.pop("until", None)
        stamp = None if until is None else rfc3339(self.now() + until)
        given = {"provider": "anthropic", "reason": "quota"} | facts
        self.notifier.take(Event(event=event, at=rfc3339(self.now()), message=message, until=stamp, **given))
        await self.settled()

    def messages(self, address: str = "a://x") -> list[str]:
        return [text for _, to, text in self.got if to == address]


@pytest.fixture
async def post(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Post]:
    post = Post(tmp_path / "state.db", nursery)
    yield post
    await post.end()


async def test_an_event_is_told_at_once_to_everyone(post: Post) -> None:
    await post.begin("a://x", "b://y")
    await post.happens("anthropic is cooling down until 12:30:00 (quota)", until=1800)
    assert sorted(post.got) == [
        (0.0, to, "anthropic is cooling down until 12:30:00 (quota)") for to in ("a://x", "b://y")
    ]


async def test_only_the_kinds_that_are_wanted_are_told(post: Post) -> None:
    await post.begin("a://x", events=("auth",))
    await post.happens()
    await post.happens("log in again", "auth")
    assert post.messages() == ["log in again"]


async def test_a_fact_is_told_once_until_its_end(post: Post) -> None:
    await post.begin("a://x")
    for _ in range(3):
        await post.happens(until=1800)
        await post.happens("another", provider="openrouter", until=1800)
        await post.happens("another reason", reason="credits", until=1800)
        await trio.sleep(300)
    assert post.messages() == ["anthropic is tired", "another", "another reason"]
    await trio.sleep(1800)
    await post.happens(until=1800)
    assert len(post.got) == 4


async def test_a_fact_without_an_end_may_be_told_again_later(post: Post) -> None:
    await post.begin("a://x")
    await post.happens("one switched", "switched", to="openrouter", model=MODEL, session="s1")
    await post.happens("another switched", "switched", to="openrouter", model=MODEL, session="s2")
    await trio.sleep(AGAIN)
    await post.happens("a third switched", "switched", to="openrouter", model=MODEL, session="s3")
    assert post.messages() == ["sonnet: one switched", "sonnet: a third switched"]


async def test_two_limits_of_a_provider_are_two_facts(post: Post) -> None:
    await post.begin("a://x")
    for share in ("80 of 100 per 1h", "95 of 100 per 1h", "800 of 1000 per 1d"):
        await post.happens(share, "warning", reason="limit", until=1800)
    assert len(post.got) == 3


async def test_what_was_told_is_remembered_across_a_restart(post: Post) -> None:
    await post.begin("a://x")
    await post.happens(until=1800)
    await post.end()
    await post.begin("a://x")
    await post.happens(until=1700)
    assert len(post.got) == 1


async def test_what_could_not_be_told_is_tried_again_across_a_restart_and_says_when_it_was(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x")
    await post.happens("anthropic is cooling down until 15:00:00 (quota)", until=3 * HOUR)
    await trio.sleep(HOUR)
    await post.end()
    post.broken.clear()
    await post.begin("a://x")
    await trio.sleep(HOUR)
    assert post.messages() == ["12:00:00 anthropic is cooling down until 15:00:00 (quota)"]


async def test_attempts_become_rarer(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x")
    await post.happens()
    await trio.sleep(1)
    assert post.tried == 1
    await trio.sleep(2)
    assert post.tried == 2
    await trio.sleep(HOUR)
    assert 30 <= post.tried <= 40
    assert post.notifier.infos()[0].error == "it cannot be reached"
    post.broken.clear()
    await trio.sleep(120)
    assert post.messages() == ["12:00:00 anthropic is tired"]
    assert (post.notifier.infos()[0].ok, post.notifier.infos()[0].waiting) == (True, 0)


async def test_nobody_wants_yesterdays_news(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x")
    await post.happens()
    await trio.sleep(GIVE_UP + 700)
    assert post.notifier.infos()[0].waiting == 0
    assert post.store.queued() == {}


async def test_a_target_that_fails_holds_up_no_other(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x", "b://y")
    await post.happens()
    await post.happens("more", provider="openrouter")
    assert post.messages("b://y") == ["anthropic is tired", "more"]
    assert [(t.target, t.ok, t.waiting) for t in post.notifier.infos()] == [("a://…", False, 2), ("b://…", True, 0)]


async def test_messages_to_one_target_keep_their_order(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x")
    for n in range(5):
        await post.happens(str(n), provider=str(n))
    post.broken.clear()
    await trio.sleep(30)
    assert post.messages() == ["0", "1", "2", "3", "4"]


async def test_only_so_many_wait(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x")
    for n in range(MOST + 10):
        await post.happens(str(n), provider=str(n))
    assert post.notifier.infos()[0].waiting == len(post.store.queued()) == MOST


async def test_only_so_many_facts_are_remembered_as_told(post: Post) -> None:
    await post.begin("a://x")
    for n in range(TOLD + 5):
        await post.happens(reason=f"reason {n}", until=HOUR)
    assert (len(post.notifier._told), len(post.store.told())) == (TOLD, TOLD)
    before = len(post.got)
    await post.happens(reason="reason 5")
    assert len(post.got) == before
    await post.happens(reason="reason 4")
    assert len(post.got) == before + 1, "the oldest were forgotten"


async def test_only_so_many_tests_wait(post: Post) -> None:
    await post.begin("a://x")
    for _ in range(1000):
        assert post.notifier.test() == 1
    await post.settled()
    assert post.messages() == ["this is a test, and it works"] * TESTS


async def test_quiet_hours_hold_and_what_is_over_by_then_is_not_told(post: Post) -> None:
    await post.begin("a://x", quiet="12:30-14:00")
    await post.happens("before", provider="p1")
    await trio.sleep(45 * 60)  # 12:45
    await post.happens("short", provider="p2", until=600)
    await post.happens("long", provider="p3", until=3 * HOUR)
    await trio.sleep(74 * 60)  # 13:59
    assert post.messages() == ["before"]
    await trio.sleep(120)
    assert post.messages() == ["before", "12:45:00 long"]
    assert post.got[-1][0] == 120.0


async def test_quiet_hours_go_over_midnight(post: Post) -> None:
    await post.begin("a://x", quiet="22:00-07:00")
    await trio.sleep(12.5 * HOUR)  # 00:30
    await post.happens("at night", until=24 * HOUR)
    await trio.sleep(6.4 * HOUR)  # 06:54
    assert post.got == []
    await trio.sleep(0.2 * HOUR)
    assert post.messages() == ["00:30:00 at night"]


async def test_a_letter_of_the_quiet_hours_survives_a_restart(post: Post) -> None:
    await post.begin("a://x", quiet="11:00-13:00")
    await post.happens("kept", until=3 * HOUR)
    await post.end()
    await post.begin("a://x", quiet="11:00-13:00")
    await trio.sleep(HOUR - 1)
    assert post.got == []
    await trio.sleep(2)
    assert post.messages() == ["12:00:00 kept"]


async def test_a_test_comes_at_once_whatever_waits(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x", "b://y", quiet="11:00-13:00")
    await post.happens()
    assert post.notifier.test() == 2
    await post.settled()
    assert post.messages("b://y") == ["this is a test, and it works"]
    assert [(t.ok, t.waiting) for t in post.notifier.infos()] == [(False, 1), (True, 1)]


async def test_a_test_that_arrives_takes_what_waits_with_it(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x")
    await post.happens()
    await trio.sleep(HOUR)
    post.broken.clear()
    post.notifier.test()
    await post.settled()
    assert post.messages() == ["this is a test, and it works", "12:00:00 anthropic is tired"]


async def test_a_reload_brings_and_takes_targets(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x", "b://y")
    await post.happens()
    post.configure("b://y", "c://z")
    await post.happens("new", provider="openrouter")
    assert (post.messages("b://y"), post.messages("c://z")) == (["anthropic is tired", "new"], ["new"])
    assert post.store.queued() == {}
    tried = post.tried
    await trio.sleep(HOUR)
    assert post.tried == tried


async def test_a_target_that_is_missing_for_a_while_loses_nothing(post: Post) -> None:
    """A file that cannot be read leaves the daemon without targets until it is mended."""
    post.broken = {"a://x"}
    await post.begin("a://x")
    await post.happens()
    await post.end()
    post.broken.clear()
    await post.begin()
    post.configure("a://x")
    await trio.sleep(60)
    assert len(post.messages()) == 1


async def test_a_disk_that_fails_costs_no_message(post: Post) -> None:
    await post.begin("a://x")
    post.broken = {"a://x"}
    post.store._db.execute("PRAGMA query_only=1")
    await post.happens()
    await post.happens("openrouter too", provider="openrouter")
    assert post.store.queued() == {}
    post.broken.clear()
    await trio.sleep(LONGEST_RETRY)
    assert post.messages() == ["anthropic is tired", "openrouter too"]
    post.store._db.execute("PRAGMA query_only=0")
    await trio.sleep(1.5 * KEEP_AGAIN)
    assert post.store.queued() == {}
    await post.end()
    await post.begin("a://x")
    await post.happens()
    assert len(post.messages()) == 2, "what was told is remembered, once the disk takes it"


async def test_what_waits_while_somebody_else_writes_is_kept_afterwards(post: Post) -> None:
    post.broken = {"a://x"}
    await post.begin("a://x")
    post.store.paused = True
    await post.happens()
    await trio.sleep(1.5 * KEEP_AGAIN)
    assert post.store.queued() == {}
    post.store.paused = False
    await trio.sleep(1.5 * KEEP_AGAIN)
    assert [letter.message for letter in post.store.queued().values()] == ["anthropic is tired"]


async def test_a_target_whose_task_meets_a_bug_costs_no_other_its_message(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    whole = post._send
    met: list[str] = []

    async def one_fails(address: str, text: str, event: str) -> str | None:
        if address == "a://x" and not met:
            met.append(address)
            raise ZeroDivisionError
        return await whole(address, text, event)

    post._send = one_fails  # type: ignore[method-assign]
    await post.begin("a://x", "b://y")
    await post.happens()
    assert post.messages("b://y") == ["anthropic is tired"]
    await trio.sleep(2 * LONGEST_RETRY)
    assert post.messages("a://x") == ["12:00:00 anthropic is tired"]
    assert sum(record.exc_info is not None for record in caplog.records) == 1


# Sending for real


@pytest.fixture
def hook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.close()


def notified(*addresses: str, more: str = "") -> str:
    return f"{TWO}\n[notify]\ntargets = {json.dumps(addresses)}\n{more}\n"


class Notifying(House):
    """A daemon on virtual time whose messages go out for real, and at once: no thread while time leaps."""

    def begin(self) -> None:  # type: ignore[explicit-override]  # typing.override is 3.12's
        super().begin()

        async def send(address: str, text: str, event: str) -> str | None:
            await trio.lowlevel.checkpoint()
            return targets._send(address, text, event)

        self.daemon.notifier._send = send
        self.daemon.outbox._on_log_large = lambda _: None  # a checkpoint takes a thread, too


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Apprise, while it is loaded
def test_a_day_of_events_arrives_exactly_once_each(place: Place, hook: Webhook) -> None:
    """Two webhooks, one in Slack's form; a restart in the middle, the server refusing and gone for hours."""
    place.configure(notified(hook.json(), hook.slack(), more='quiet_hours = "22:00-07:00"'))

    async def day() -> list[Any]:
        async with trio.open_nursery() as nursery:
            house = Notifying(place, nursery)
            house.begin()
            for hour in range(24):
                peer = await house.peer()
                await busy_hour(peer)
                await trio.sleep(1)  # what an acquire has to tell is told in a moment of its own
                if hour == 2:
                    hook.refuses = True
                if hour == 4:
                    hook.refuses = False
                    hook.close()
                if hour == 5:
                    await house.restart()
                    peer = await house.peer()
                if hour == 6:
                    hook.open()
                await trio.sleep(HOUR - (house.now() - NOON) % HOUR)
            peer = await house.peer()
            events: list[Any] = (await peer.ask("log"))["events"]
            await house.end()
            return events

    events = virtually(day)
    wanted = [
        f"{MODEL}: {event['message']}" if event["event"] == "switched" else event["message"]
        for event in events
        if event["event"] in KINDS
        and not (event["at"] >= "2026-01-12T22:00" and event.get("until", "later") <= "2026-01-13T07:00:00.000Z")
    ]
    assert len(wanted) > 60
    late = re.compile(r"(\w{3} \d+ \w{3} )?\d\d:\d\d(:\d\d)? ")
    for name in ("json", "slack"):
        assert [text[found.end() :] if (found := late.match(text)) else text for text in hook.told(name)] == wanted
    assert hook.told("json") == hook.told("slack")
    assert all(body.keys() == {"text"} for body in hook.got["slack"])


async def busy_hour(peer: Peer) -> None:
    """Use up most of an hour's limit, have the first provider refuse, and go on elsewhere."""
    for _ in range(41):
        await peer.report(await peer.use(session="s"))
    await peer.refuse(await peer.use(session="s"), after=1200, body='{"error":{"message":"quota exceeded"}}')
    await peer.report(await peer.use(session="s"))


def eventually(is_so: Any, within: float = 20) -> None:
    until = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def ctl(process: Process, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlmctl", *words]
    return subprocess.run(command, env=process.environ, capture_output=True, text=True, timeout=60, check=False)


def exhaust(process: Process) -> None:
    process.ask("report", provider="anthropic", model=MODEL, outcome="error", status=402, message="no credits left")


COMMANDS = (
    *(["doctor"], ["doctor", "--json"], ["status"], ["status", "--json"], ["log"], ["export"]),
    *(["config", "show"], ["config", "show", "--json"], ["config", "check"]),
)
"""Those that show something of the configuration or the state."""


def test_no_address_is_in_any_log_status_or_error(process: Process, hook: Webhook) -> None:
    dead = Webhook()
    dead.close()
    addresses = (hook.json(), dead.json(), dead.slack(), f"bogus://{SECRET}", f"slack://{SECRET}")
    process.place.configure(notified(*addresses))
    process.environ |= {"SLACK_WEBHOOK": hook.slack()}
    process.launch(sys.executable, "-m", "rlmd", "--log-level", "debug")
    process.await_state("READY=1")
    exhaust(process)
    eventually(lambda: hook.told("json") and hook.told("slack"))
    eventually(lambda: all(t["ok"] is not None for t in process.ask("status")["daemon"]["notify"]))
    status = process.ask("status")
    said = {t["target"]: (t["ok"], t["error"]) for t in status["daemon"]["notify"]}
    assert (said["http://…"], [t["ok"] for t in status["daemon"]["notify"]].count(True)) == ((True, None), 2)
    assert "Apprise cannot read this address" in said["bogus://…"][1]
    assert SECRET not in json.dumps(status)
    run = ctl(process, "notify", "test")
    assert run.returncode == 1
    assert "✗ json://…" in run.stdout
    assert "it cannot be reached" in run.stdout
    for command in COMMANDS:
        run = ctl(process, *command)
        assert SECRET not in run.stdout + run.stderr, command
    process.send(signal.SIGTERM)
    process.exits()
    assert SECRET not in process.log.read_text()
    store = Store(process.place.paths.database)
    kept = [*store.queued().items(), *((key, row) for kind, key, row in store.facts() if kind != "setting")]
    store.close()
    assert SECRET not in str(kept), "only the last good configuration, whose place the state is, has addresses"


def test_a_test_says_that_it_works(process: Process, hook: Webhook) -> None:
    process.place.configure(notified(hook.json(), hook.slack()))
    process.begin()
    run = ctl(process, "notify", "test", "--json")
    assert run.returncode == 0, run.stderr
    assert [t["ok"] for t in json.loads(run.stdout)["targets"]] == [True, True]
    assert hook.told("json") == hook.told("slack") == ["this is a test, and it works"]


def test_a_target_that_never_answers_delays_no_decision(process: Process, hook: Webhook) -> None:
    process.place.configure(notified(hook.json(), hook.slack()))
    process.begin()
    ctl(process, "notify", "test")  # what is loaded for the first message is not to be measured
    hook.silent.clear()
    exhaust(process)
    with process.client() as client:
        spent = []
        for _ in itertools.repeat(None, 300):
            began = time.monotonic()
            client.request("acquire", provider="anthropic", model=MODEL, dry_run=True)
            spent.append(time.monotonic() - began)
    assert sorted(spent)[len(spent) * 99 // 100] < 0.05
    process.send(signal.SIGTERM)
    began = time.monotonic()
    assert process.exits() == 0
    assert time.monotonic() - began < 5


def test_what_is_under_way_at_a_stop_is_not_sent_again(process: Process, hook: Webhook) -> None:
    process.place.configure(notified(hook.slack()))
    process.begin()
    hook.silent.clear()
    exhaust(process)
    time.sleep(0.3)
    process.send(signal.SIGTERM)
    time.sleep(0.3)
    hook.silent.set()
    assert process.exits() == 0
    process.begin()
    ctl(process, "notify", "test")
    assert len(hook.told("slack")) == 2, hook.told("slack")


def test_a_daemon_with_nobody_to_tell_loads_nothing_for_it() -> None:
    code = "import sys, rlmd.daemon; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"apprise", "requests", "urllib3", "urllib.request", "http.client"} & set(run.stdout.split())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["Failed to send JSON POST notification: error=503."], "it answered with status 503"),
        ([f"A Connection error occurred sending JSON notification to {SECRET}."], "it cannot be reached"),
        ([SECRET], "it did not take the message"),
        ([], "it did not take the message"),
    ],
)
def test_a_reason_is_told_without_a_word_of_the_library(said: list[str], why: str) -> None:
    assert targets._why(said) == why


def test_a_connection_that_is_not_secure_is_told_without_the_host(hook: Webhook) -> None:
    error = targets._post(hook.slack().replace("http://", "https://"), "a message")
    assert error == "it cannot be reached (its certificate is not accepted, or it speaks no TLS)"


def test_what_libraries_say_while_a_thread_sends_is_for_the_reason_alone(capsys: pytest.CaptureFixture[str]) -> None:
    overheard = targets.Overheard()
    record = logging.LogRecord("apprise", logging.WARNING, "", 0, "POST /%s", (SECRET,), None)
    overheard.emit(record)
    said: list[str] = []
    targets._sending.said = said
    overheard.emit(record)
    del targets._sending.said
    assert said == [f"POST /{SECRET}"]
    assert capsys.readouterr() == ("", "")
