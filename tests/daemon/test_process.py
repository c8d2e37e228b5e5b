"""The daemon as a process: signals, second daemons, places that cannot be used, the service manager."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import trio
from house import MODEL, SOON, TWO, House, Peer, Place, Process

from rlmd import daemon
from rlmd.__main__ import main
from rlmd.address import SOCKET_LIMIT
from rlmd.client.connection import DaemonRefusedError
from rlmd.config import policy
from rlmd.core.model import Effects
from rlmd.server import service_manager
from rlmd.server.listener import listen
from rlmd.store.database import Store
from rlmd.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BAD = "prefer = 7\n"
FIVE = 5.0
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")


@pytest.fixture
def umask() -> Iterator[None]:
    mask = os.umask(0o077)
    yield
    os.umask(mask)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def told(log: str) -> list[str]:
    """The messages of errors in a log."""
    return [line.partition(" ERROR ")[2] for line in log.splitlines() if " ERROR " in line]


# Its life


def test_the_version_is_told_without_starting_anything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("rlmd ")


def test_what_it_makes_is_its_owners_only(process: Process) -> None:
    process.begin()
    paths = process.place.paths
    process.ask("disable", provider="anthropic")
    assert (mode(paths.state_dir), mode(paths.socket)) == (0o700, 0o600)
    assert {mode(path) for path in paths.state_dir.iterdir()} == {0o600}


def test_an_interrupt_that_was_to_be_ignored_at_the_start_is_ignored(process: Process) -> None:
    process.launch("sh", "-c", f"trap '' INT; exec {shlex.quote(sys.executable)} -m rlmd")
    process.await_state("READY=1")
    process.send(signal.SIGINT)
    assert process.ask("ping")["type"] == "pong"
    process.send(signal.SIGHUP)
    process.send(signal.SIGTERM)
    assert process.exits() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_has_arrived_is_answered(process: Process, number: signal.Signals) -> None:
    process.begin()
    with closing(socket.socket(socket.AF_UNIX)) as peer:
        peer.settimeout(SOON)
        peer.connect(str(process.place.paths.socket))
        peer.sendall(b'{"op":"ping"}\n')
        assert peer.recv(100)
        report = {"op": "report", "provider": "anthropic", "model": MODEL, "outcome": "ok"}
        peer.sendall((json.dumps(report).encode() + b"\n") * 100)
        begun = time.monotonic()
        process.send(number)
        replies = b"".join(iter(lambda: peer.recv(65536), b"")).splitlines()
        assert process.exits() == 0
    assert time.monotonic() - begun < FIVE
    assert [json.loads(reply)["type"] for reply in replies] == ["recorded"] * 100
    assert not process.place.paths.socket.exists()
    process.await_state("STOPPING=1")
    process.begin()
    assert process.ask("status")["providers"][0]["request_count"] == 100


async def test_a_second_signal_does_not_cut_the_end_short(house: House) -> None:
    silent = await house.peer()
    with trio.move_on_after(1):
        await silent.stream.send_all(b'{"op":"status"}\n' * 100_000)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        await house.settled()
    assert not house.stopped.is_set()
    with trio.fail_after(FIVE):
        await house.stopped.wait()


def test_a_hangup_reloads(process: Process) -> None:
    process.begin()
    with process.client() as client:
        client.request("subscribe", events=["config"])
        events = client.events()
        process.place.configure(TWO.replace("hourly_limit = 50", "hourly_limit = 7"))
        process.send(signal.SIGHUP)
        assert "is in force: 2 providers" in next(events)["message"]
        assert client.request("status")["providers"][0]["limits"][0]["max"] == 7
        process.place.configure(BAD)
        process.send(signal.SIGHUP)
        assert "The daemon keeps the configuration it has." in next(events)["message"]
        status = client.request("status")
    assert status["providers"][0]["limits"][0]["max"] == 7
    assert "config.toml:1: " in status["daemon"]["config_error"]


SLOW = """
import time
from rlmd.__main__ import main
from rlmd.notify import targets
from rlmd.store import history

history.COMMAND = ("sleep", "60")
targets._send = lambda *_: time.sleep(60)
main([])
"""
"""A daemon whose disk and whose notification targets take a minute."""


def test_nobody_who_is_slow_holds_up_its_end(process: Process) -> None:
    process.place.configure(f'{TWO}\n[notify]\ntargets = ["json://localhost/hook"]\n')
    process.launch(sys.executable, "-c", SLOW)
    process.await_state("READY=1")
    with closing(socket.socket(socket.AF_UNIX)) as reads_nothing, process.client() as waits, process.client() as client:
        reads_nothing.connect(str(process.place.paths.socket))
        reads_nothing.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            reads_nothing.sendall(b'{"op":"status"}\n' * 100_000)
        waits._socket.sendall(b'{"op":"history","id":1}\n')
        client.request("report", provider="anthropic", model=MODEL, outcome="error", status=402)
        assert client.request("status")["daemon"]["notify"][0]["waiting"] == 1
        begun = time.monotonic()
        process.send(signal.SIGTERM)
        assert process.exits() == 0
    assert time.monotonic() - begun < FIVE
    process.begin()
    assert process.ask("status")["providers"][0]["error_count"] == 1


def test_shutdown_ends_it(process: Process) -> None:
    process.begin()
    assert process.ask("shutdown")["message"] == "rlmd is stopping"
    assert process.exits() == 0


# More than one


def test_a_second_daemon_names_the_first_and_leaves_it_alone(process: Process) -> None:
    process.begin()
    with closing(Process(process.place)) as second:
        second.log = process.place.root / "second"
        second.launch()
        assert second.exits() == 1
        message = f"rlmd is already running (pid {process.popen.pid}); `rlmctl status` shows it."
        assert told(second.log.read_text()) == [message]
    assert process.ask("ping")["type"] == "pong"


@pytest.mark.parametrize("named_by_the_first", [False, True])
def test_nor_does_one_of_another_state_take_its_socket(process: Process, named_by_the_first: bool) -> None:
    if named_by_the_first:
        process.place.environ["RLMD_SOCKET"] = str(process.place.root / "s.sock")
        process.environ |= process.place.environ
    process.begin()
    other = {"RLMD_STATE_DIR": str(process.place.root / "other"), "RLMD_SOCKET": str(process.place.paths.socket)}
    with closing(Process(process.place, **other)) as second:
        second.log = process.place.root / "second"
        second.launch()
        assert second.exits() == 1
        assert f"(pid {process.popen.pid})" in second.log.read_text()
    assert process.ask("ping")["type"] == "pong"


def test_the_socket_of_a_killed_daemon_is_no_obstacle(process: Process) -> None:
    process.begin()
    process.kill()
    assert process.place.paths.socket.exists()
    process.begin()
    assert process.ask("ping")["type"] == "pong"


@pytest.mark.parametrize("before", ["nothing", "a killed one's socket", "one that serves"])
def test_of_six_that_start_at_once_one_serves_and_the_socket_is_never_missing(process: Process, before: str) -> None:
    path = process.place.paths.socket
    if before != "nothing":
        process.begin()
    if before == "a killed one's socket":
        process.kill()
    serving = before == "one that serves"
    missing: list[str] = []
    done = threading.Event()

    def watch() -> None:
        there = before != "nothing"
        served = serving
        while not done.is_set():
            there = there or path.exists()
            try:
                with closing(socket.socket(socket.AF_UNIX)) as peer:
                    peer.connect(str(path))
                    served = True
            except FileNotFoundError:
                if there:
                    missing.append("no socket")
            except ConnectionRefusedError:
                if served:
                    missing.append("nobody listens")
            time.sleep(0.001)

    watching = threading.Thread(target=watch)
    watching.start()
    six = [Process(process.place) for _ in range(6)]
    for n, one in enumerate(six):
        one.log = process.place.root / f"log{n}"
        one.launch()
    try:
        winners = [one for one in six if one.hears("READY=1")]
        assert len(winners) == (0 if serving else 1)
        (winner,) = winners or [process]
        assert winner.ask("status")["daemon"]["pid"] == winner.popen.pid
        others = [one for one in six if one is not winner]
        assert [one.exits() for one in others] == [1] * len(others)
        message = f"rlmd is already running (pid {winner.popen.pid}); `rlmctl status` shows it."
        assert [told(one.log.read_text()) for one in others] == [[message]] * len(others)
    finally:
        done.set()
        watching.join()
        for one in six:
            one.close()
    assert missing == []


# Its configuration


def test_with_a_broken_file_it_runs_passes_and_says_so(process: Process) -> None:
    process.place.configure(BAD)
    process.begin()
    error = f"{process.place.paths.config}:1: "
    assert process.ask("acquire", provider="anthropic", model=MODEL)["type"] == "pass"
    assert process.ask("status")["daemon"]["config_error"].startswith(error)
    assert told(process.log.read_text())[0].startswith(error)
    assert "no provider is managed until the file is mended (then: rlmctl reload)" in process.log.read_text()
    process.place.configure(TWO)
    process.ask("reload")
    assert process.ask("acquire", provider="anthropic", model=MODEL)["type"] == "use"
    assert process.ask("status")["daemon"]["config_error"] is None


def test_without_a_file_too(process: Process) -> None:
    process.place.paths.config.unlink()
    process.begin()
    assert process.ask("acquire", provider="anthropic", model=MODEL)["type"] == "pass"
    missing = f"There is no configuration at {process.place.paths.config}. Write one with: rlmctl setup"
    assert process.ask("status")["daemon"]["config_error"] == missing
    assert told(process.log.read_text()) == [missing]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
async def test_after_a_restart_with_a_broken_file_the_last_good_one_serves(
    house: House, peer: Peer, caplog: pytest.LogCaptureFixture, mark: str
) -> None:
    house.place.configure(mark + TWO.replace("hourly_limit = 50", "hourly_limit = 7"))
    await peer.ask("reload")
    for broken in (BAD, None):
        if broken:
            house.place.configure(broken)
        else:
            house.place.paths.config.unlink()
        await house.restart()
        peer = await house.peer()
        assert (await peer.provider())["limits"][0]["max"] == 7
        assert (await peer.ask("status"))["daemon"]["config_error"]
        assert "the last good configuration serves until the file is mended" in caplog.text


async def test_what_is_kept_as_the_last_good_configuration_is_what_was_checked(
    house: House, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse_while_an_editor_saves(*args: Any, **named: Any) -> policy.Config:
        fresh = parse(*args, **named)
        house.place.configure(BAD)
        return fresh

    parse = policy.parse
    house.place.configure(TWO.replace("hourly_limit = 50", "hourly_limit = 7"))
    monkeypatch.setattr(policy, "parse", parse_while_an_editor_saves)
    await peer.ask("reload")
    monkeypatch.setattr(policy, "parse", parse)
    await house.restart()
    peer = await house.peer()
    assert (await peer.provider())["limits"][0]["max"] == 7


async def test_of_the_last_good_configuration_only_the_patterns_that_are_refused_are_left_out(
    house: House, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    kept = '[[cooldown.pattern]]\nkind = "quota"\nmatch = "{}"\n'
    old = TWO + kept.format("cap(?! soon)") + kept.format("weekly cap")
    house.daemon.configuration._text = old
    house.daemon.outbox.add(Effects(facts={("setting", "config"): lambda: old}))
    house.place.configure(old)
    await house.restart()
    peer = await house.peer()
    assert {provider["id"] for provider in (await peer.ask("status"))["providers"]} == {"anthropic", "openrouter"}
    assert "a lookahead" in (await peer.ask("status"))["daemon"]["config_error"]
    assert 'the last good configuration:17: cooldown.pattern[0].match has "(?!", a lookahead' in caplog.text
    use = await peer.use()
    reply = await peer.report(use, "error", status=400, body="the weekly cap is reached")
    assert reply["verdict"]["kind"] == "quota"


# Places that cannot be used


def a_file(path: Path) -> str:
    path.write_text("not a directory")
    return f"{path} is no directory. Move that file away, or name a directory of your own in RLMD_STATE_DIR."


def below_a_file(path: Path) -> str:
    path.parent.rmdir()
    path.parent.write_text("not a directory")
    return (
        f"The directory {path} cannot be used: Not a directory. Mend it (see ls -ld {path}), "
        "or name a directory of your own in RLMD_STATE_DIR."
    )


def a_link(path: Path) -> str:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to("elsewhere")
    return (
        f"The directory {path} cannot be used: Not a directory. Mend it (see ls -ld {path}), "
        "or name a directory of your own in RLMD_STATE_DIR."
    )


def somebody_elses(path: Path) -> str:
    path.mkdir()
    os.chown(path, 65534, 65534)
    return (
        f"The directory {path} belongs to another user (uid 65534). Take it with chown, "
        "or name a directory of your own in RLMD_STATE_DIR."
    )


def with_a_lock_that_is_none(path: Path) -> str:
    path.mkdir()
    (path / "rlmd.lock").mkdir()
    return f"The lock {path}/rlmd.lock cannot be taken: Is a directory. Move it away."


def with_a_database_of_a_newer_version(path: Path) -> str:
    path.mkdir()
    with closing(sqlite3.connect(path / "state.db")) as newer:
        newer.execute("PRAGMA user_version=99")
    return (
        f"{path}/state.db was written by a newer rlmd (schema 99, this one knows {len(MIGRATIONS)}). "
        "Nothing was changed. Install that version again, or move the file away to start afresh."
    )


@pytest.mark.parametrize(
    "spoil",
    [
        a_file,
        below_a_file,
        a_link,
        pytest.param(somebody_elses, marks=ROOT_ONLY),
        with_a_lock_that_is_none,
        with_a_database_of_a_newer_version,
    ],
)
@pytest.mark.usefixtures("umask")
def test_a_state_directory_that_cannot_be_used_is_one_clear_message(
    place: Place, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], str]
) -> None:
    (place.root / "home").mkdir()
    path = place.root / "home" / "state"
    place.environ["RLMD_STATE_DIR"] = str(path)
    message = spoil(path)
    assert daemon.run(place.paths) == 1
    assert caplog.messages == [message]


def test_a_message_of_that_kind_ends_the_process_with_1(process: Process) -> None:
    message = a_file(process.place.paths.state_dir)
    process.launch()
    assert process.exits() == 1
    assert told(process.log.read_text()) == [message]
    assert "Traceback" not in process.log.read_text()


@pytest.mark.usefixtures("umask")
def test_a_socket_path_that_is_too_long_names_the_variable(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.environ["RLMD_SOCKET"] = str(place.root / ("s" * SOCKET_LIMIT))
    assert daemon.run(place.paths) == 1
    assert caplog.messages[0].startswith(f"The socket's path is {len(place.environ['RLMD_SOCKET'])} bytes long")
    assert "Set RLMD_SOCKET to a shorter path" in caplog.messages[0]


@pytest.mark.usefixtures("umask")
def test_a_socket_directory_that_others_may_write_to_is_refused(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    shared = place.root / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    place.environ["RLMD_SOCKET"] = str(shared / "s.sock")
    assert daemon.run(place.paths) == 1
    assert caplog.text.count("\n") == 1
    assert f"Others may write to {shared}. Close it with: chmod go-w {shared}; or name a" in caplog.text


def test_a_file_where_the_socket_should_be_is_left_alone(process: Process) -> None:
    precious = process.place.root / "notes"
    precious.write_text("precious")
    process.environ["RLMD_SOCKET"] = str(precious)
    process.launch()
    assert process.exits() == 1
    assert told(process.log.read_text()) == [
        f"{precious} is there and is no socket. Move it away, or name another in RLMD_SOCKET."
    ]
    assert precious.read_text() == "precious"


def test_who_binds_leaves_nothing_beside_the_name_and_takes_only_its_own_away(place: Place) -> None:
    path = place.root / "s.sock"
    first, second = listen(path), listen(path)
    first.close()
    assert path.exists(), "the name is the second one's by now"
    second.close()
    assert {child.name for child in place.root.iterdir()} == {"config.toml"}


# The service manager


def test_the_service_manager_is_told_when_it_answers_and_that_it_lives(process: Process) -> None:
    process.environ |= {"WATCHDOG_USEC": "100000"}
    process.launch()
    assert process.await_state("READY=1") == "READY=1\nSTATUS=2 of 2 providers available"
    for _ in range(2):
        process.await_state("WATCHDOG=1")
    process.send(signal.SIGTERM)
    process.await_state("STOPPING=1")


def test_a_service_manager_that_does_not_listen_is_no_obstacle(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", str(place.root / "nobody"), "@rlmd-nobody", "vsock:2:1", f"/{'x' * 200}"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        service_manager.notify("READY=1")


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_its_address_may_be_abstract(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(f"\0rlmd-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@rlmd-test-{os.getpid()}")
        service_manager.notify("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("usec", "pid", "period"),
    [
        ("10000000", "", 5.0),
        ("10000000", "mine", 5.0),
        ("10000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("soon", "", None),
    ],
)
def test_it_shows_signs_of_life_at_half_of_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, period: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "mine" else pid)
    assert service_manager.watchdog_period() == period


@pytest.mark.parametrize("what", ["</dev/null", ">&-"])
def test_something_else_than_a_listening_socket_is_refused(place: Place, what: str) -> None:
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -m rlmd 3{what}'
    run = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable],
        env=place.environ,
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert run.returncode == 1
    assert told(run.stderr)[0].startswith(
        "The service manager handed over something else than the listening socket of rlmd.socket. It is no socket"
    )


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed")
def test_a_socket_that_is_handed_over_is_served_and_stays(place: Place) -> None:
    paths = place.paths
    paths.state_dir.mkdir(mode=0o700)
    passed_on = [f"--setenv={name}" for name in ("HOME", "TZ", "RLMD_CONFIG", "RLMD_STATE_DIR")]
    command = ["systemd-socket-activate", "-l", str(paths.socket), "--fdname=rlmd", *passed_on]
    with closing(Process(place, NOTIFY_SOCKET="")) as manager:
        manager.launch(*command, sys.executable, "-m", "rlmd")
        manager.await_path(paths.socket)
        status = manager.ask("status")
        assert status["daemon"]["socket"] == str(paths.socket)
        assert status["daemon"]["pid"] == manager.popen.pid
        manager.send(signal.SIGTERM)
        assert manager.exits() == 0
        assert paths.socket.exists(), "its name is the service manager's"


def test_a_request_that_fails_is_told_to_the_client_of_a_process_too(process: Process) -> None:
    process.begin()
    with pytest.raises(DaemonRefusedError, match="there is no provider 'mistral'"):
        process.ask("enable", provider="mistral")


def test_deleting_the_state_while_it_is_down_is_a_reset(process: Process) -> None:
    process.begin()
    process.ask("report", provider="anthropic", model=MODEL, outcome="ok")
    process.send(signal.SIGTERM)
    process.exits()
    process.place.paths.database.unlink()
    process.begin()
    assert process.ask("status")["providers"][0]["request_count"] == 0
    Store(process.place.paths.database).close()
