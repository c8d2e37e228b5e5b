"""The command line itself: help, mistakes, exit codes, configuration and places, completion."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rlmctl.commands.catalogue import COMMANDS, EXAMPLES, SUMMARIES, find
from rlmd import __version__

if TYPE_CHECKING:
    from ctl.person import Daemon, Place


def test_help_names_every_command_and_fits(place: Place) -> None:
    for asked in (["--help"], ["-h"], ["help"]):
        run = place.ctl(*asked)
        assert (run.returncode, run.stderr) == (0, "")
    assert all(f"\n  {name} " in run.stdout for name in SUMMARIES)
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_no_command_is_wrong_usage_and_shows_the_help(place: Place) -> None:
    run = place.ctl()
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("usage: rlmctl COMMAND")


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_has_help_a_docstring_and_examples_that_hold(name: str) -> None:
    parser, command = find(name)
    assert command.__doc__
    assert parser.format_help().startswith(f"usage: rlmctl {name} [-h]")
    for one in (parser, *parser.below().values()):
        assert "for example:\n  " in one.format_help()
        assert one.description
    for example in EXAMPLES[name]:
        _, found, typed = example.partition(f"rlmctl {name}")
        assert found, example
        parser.parse_args(shlex.split(re.split(r" > | \| | && |\)", typed)[0]))


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_has_json(name: str) -> None:
    parser = find(name)[0]
    for one in parser.below().values() or [parser]:
        assert "--json" in one.words()


def test_every_command_is_in_one_group_only() -> None:
    assert sum(map(len, COMMANDS.values())) == len(SUMMARIES)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("status --plian", "unrecognized arguments: --plian. Did you mean '--plain'?"),
        ("log --sinse=2h", "unrecognized arguments: --sinse=2h. Did you mean '--since'?"),
        ("reset --colldowns", "unrecognized arguments: --colldowns. Did you mean '--cooldowns'?"),
        ("install opncode", "Did you mean 'opencode'?"),
        ("config chek", "Did you mean 'check'?"),
        ("config check --jsn", "unrecognized arguments: --jsn. Did you mean '--json'?"),
        ("history --by hor", "Did you mean 'hour'?"),
        ("completion bsh", "Did you mean 'bash'?"),
        ("--verison", "There is no option '--verison'. Did you mean '--version'?"),
        ("cooldown anthropic 2hours", 'is no number with a unit (did you mean "2h"?)'),
        ("log --since 2hrs", 'is no number with a unit (did you mean "2h"?)'),
        ("history --since 3days", 'is no number with a unit (did you mean "3d"?)'),
        ("simulate --duration 10secs", 'is no number with a unit (did you mean "10s"?)'),
    ],
)
def test_what_is_mistyped_after_a_command_is_told_the_nearest(place: Place, typed: str, said: str) -> None:
    run = place.ctl(*typed.split())
    assert (run.returncode, run.stdout) == (2, "")
    *_, message, mend = run.stderr.splitlines()
    assert said in message
    assert mend.startswith("  mend: rlmctl ")


@pytest.mark.parametrize(("typed", "meant"), [("staus", "status"), ("restat", "restart"), ("cooldwn", "cooldown")])
def test_a_mistyped_command_is_told_the_nearest(place: Place, typed: str, meant: str) -> None:
    run = place.ctl(typed)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"rlmctl: There is no command {typed!r}. Did you mean {meant!r}?\n  mend: rlmctl --help\n"


def test_wrong_arguments_are_wrong_usage(place: Place) -> None:
    for wrong in (["status", "--plian"], ["enable"], ["config"], ["install", "emacs"], ["status", "--plain", "--json"]):
        run = place.ctl(*wrong)
        assert (run.returncode, run.stdout) == (2, "")
        assert run.stderr.startswith(f"usage: rlmctl {wrong[0]}")


def test_version(place: Place) -> None:
    for asked in ("--version", "-V"):
        assert place.ctl(asked).stdout == f"rlmctl {__version__}\n"


def test_a_reader_that_has_seen_enough_is_no_error(daemon: Daemon) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "rlmctl", "status", "--json"],
        env=daemon.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 0


def test_a_screen_without_our_letters_gets_question_marks(daemon: Daemon) -> None:
    run = daemon.ctl("status", "--plain", PYTHONIOENCODING="ascii")
    assert run.returncode == 0
    assert "anthropic: ? Available" in run.stdout


def test_help_on_a_command(place: Place) -> None:
    run = place.ctl("help", "cooldown")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == place.ctl("cooldown", "--help").stdout
    assert "such as 90s" in run.stdout


@pytest.mark.skipif(sys.platform == "darwin", reason="the XDG directories are Linux's")
def test_without_variables_everything_is_below_the_home(place: Place) -> None:
    run = place.ctl("paths", RLMD_CONFIG="", RLMD_STATE_DIR="")
    assert run.stdout.splitlines()[:2] == [
        f"config     {place.home}/.config/rlmd/config.toml",
        f"state_dir  {place.home}/.local/state/rlmd",
    ]


def test_paths_for_people(place: Place) -> None:
    run = place.ctl("paths")
    assert run.stdout.splitlines()[0] == f"config     {place.paths.config}"


def test_config_path(place: Place) -> None:
    assert place.ctl("config", "path").stdout == f"{place.paths.config}\n"
    assert place.ctl_json("config", "path") == {"config": str(place.paths.config)}


def test_config_check_of_a_good_file(place: Place) -> None:
    place.write_config()
    run = place.ctl("config", "check")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[0] == f"{place.paths.config} can be used; providers: 2, models: 1"
    told = place.ctl_json("config", "check")
    assert (told["config"], told["valid"], told["warnings"]) == (str(place.paths.config), True, [])


def test_config_check_tells_what_was_probably_not_meant(place: Place) -> None:
    place.write_config("")
    run = place.ctl("config", "check")
    assert run.returncode == 0
    assert run.stderr.startswith("warning: ")
    assert len(place.ctl_json("config", "check")["warnings"]) == 1


def test_config_check_of_a_bad_file(place: Place) -> None:
    place.write_config('[[provider]]\nid = "a"\nmodles = ["m"]\n')
    run = place.ctl("config", "check")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"rlmctl: {place.paths.config}:3: provider[0].modles ")
    assert "Did you mean models?" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_config_check_without_a_file_names_setup(place: Place) -> None:
    run = place.ctl("config", "check")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"rlmctl: There is no configuration at {place.paths.config}. Write one with: rlmctl setup\n"


def test_config_show_masks_addresses(place: Place) -> None:
    place.write_config('[notify]\ntargets = ["slack://tokenA/tokenB"]\n')
    run = place.ctl("config", "show")
    assert run.returncode == 0
    shown = json.loads(run.stdout)
    assert shown["notify"]["targets"] == ["slack://…"]
    assert "token" not in run.stdout
    assert shown["policy"]["patience"] == 3.0
