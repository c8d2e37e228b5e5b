"""Completion in the real shells: commands, options, and the names that the configuration or the daemon knows."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ctl.person import CONFIG, MODEL
from rlmctl.commands.catalogue import SUMMARIES

if TYPE_CHECKING:
    from ctl.person import Daemon, Place

OFFERS = {
    "sta": {"status", "state", "start"},
    "config sh": {"show"},
    "config check --": {"--help", "--json"},
    "status --pl": {"--plain"},
    "history --by ": {"hour", "day"},
    "install open": {"opencode"},
    "use a": {"auto", "anthropic"},
    "enable ": {"anthropic", "openrouter", "--help", "--json"},
    "why claude": {MODEL},
    "use anthropic --model ": {MODEL},
    "limits suggest --provider open": {"openrouter"},
}


@pytest.fixture
def person(place: Place) -> Place:
    """A person with a configuration and no daemon, whose shell finds rlmctl."""
    place.write_config()
    place.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return place


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


def run(person: Place, *command: str) -> str:
    done = subprocess.run(
        command,
        env=person.environ,
        cwd=person.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_script_has_every_command_in_it(place: Place, name: str) -> None:
    done = place.ctl("completion", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in SUMMARIES)
    assert "--cooldowns" in done.stdout
    assert place.ctl_json("completion", name) == {"shell": name, "script": done.stdout}


@pytest.mark.parametrize("typed", OFFERS)
def test_in_bash(person: Place, typed: str) -> None:
    words = typed.split() + [""] * typed.endswith(" ")
    offered = run(
        person,
        shell("bash"),
        "-c",
        'source <(rlmctl completion bash); COMP_WORDS=(rlmctl "$@"); COMP_CWORD=$#; _rlmctl; echo "${COMPREPLY[*]}"',
        "bash",
        *words,
    )
    assert set(offered.split()) == OFFERS[typed]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("use openr", "use openrouter"),
        ("why qwen3:3", "why qwen3:32b"),
        ("wait qw", "wait qwen3:32b"),
        ("config sh", "config show"),
    ],
)
def test_in_bash_on_a_terminal(person: Place, typed: str, line: str) -> None:
    person.write_config(CONFIG.replace(MODEL, "qwen3:32b"))
    command = [shell("bash"), "--norc", "--noprofile", "-i"]
    assert f"done: rlmctl {line}" in on_a_terminal(person, command, "source <(rlmctl completion bash)", typed, line)


@pytest.mark.parametrize("typed", OFFERS)
def test_in_fish(person: Place, typed: str) -> None:
    offered = run(person, shell("fish"), "-c", 'rlmctl completion fish | source; complete -C "rlmctl $argv"', typed)
    # fish offers options only once a dash is typed.
    wanted = OFFERS[typed] if "--" in typed else {word for word in OFFERS[typed] if word[0] != "-"}
    found = {line.partition("\t")[0] for line in offered.splitlines()}
    assert {word for word in found if word[0] != "-" or "--" in typed} == wanted


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("sim", "simulate"),
        ("config sh", "config show"),
        ("status --pl", "status --plain"),
        ("use openr", "use openrouter"),
        ("why claude", f"why {MODEL}"),
        ("limits suggest --provider anth", "limits suggest --provider anthropic"),
    ],
)
def test_in_zsh_on_a_terminal(person: Place, typed: str, line: str) -> None:
    begin = "bindkey -e; autoload -U compinit; compinit -u -D; source <(rlmctl completion zsh)"
    assert f"done: rlmctl {line}" in on_a_terminal(person, [shell("zsh"), "-f", "-i"], begin, typed, line)


def on_a_terminal(person: Place, command: list[str], begin: str, typed: str, line: str) -> str:
    """Type the beginning of a line and a tab into a shell, and return what the terminal shows of the whole line."""
    ours, theirs = pty.openpty()
    environ = person.environ | {"TERM": "dumb", "PS1": "> "}
    with subprocess.Popen(
        command, env=environ, cwd=person.home, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as run:
        os.close(theirs)
        try:
            os.write(ours, f"{begin}\necho rea''dy\n".encode())
            until(ours, "\nready")
            # The completed line is echoed: what stands before it joins it once it is whole.
            os.write(ours, f"rlmctl {typed}\t\x01echo don''e: \x05\n".encode())
            return until(ours, "\ndone: rlmctl", more=len(line))
        finally:
            run.kill()
            os.close(ours)


def until(terminal: int, mark: str, more: int = 0) -> str:
    """Read what a terminal shows until a mark has come, and some characters more."""
    shown = ""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        shown += os.read(terminal, 4096).decode(errors="replace").replace("\r", "")
        place = shown.find(mark)
        if place >= 0 and len(shown) >= place + len(mark) + 1 + more:
            return shown
    raise AssertionError(f"there was no {mark!r} in {shown!r}")


def test_the_names_are_those_of_the_daemon_or_else_of_the_file(daemon: Daemon) -> None:
    assert daemon.ctl("completion", "providers").stdout == "anthropic\nopenrouter\n"
    assert daemon.ctl_json("completion", "models") == {"models": [MODEL]}
    daemon.write_config(CONFIG.replace('"openrouter"', '"other"'))
    assert daemon.ctl_json("completion", "providers") == {"providers": ["anthropic", "openrouter"]}
    daemon.end()
    assert daemon.ctl_json("completion", "providers") == {"providers": ["anthropic", "other"]}


def test_without_a_configuration_there_are_no_names_and_no_complaint(place: Place) -> None:
    done = place.ctl("completion", "models")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
