"""Every command, by one table: when all is well, without a daemon, and as the JSON that docs/commands.md shows.

A command that is added has no line in the table, and the first test says so.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from webhook import Webhook

from ctl.person import CONFIG, MODEL, Daemon
from rlmctl.commands.catalogue import SUMMARIES, find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctl.person import Place

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "commands.md").read_text(encoding="utf-8")
PROTOCOL = (DOCS / "protocol.md").read_text(encoding="utf-8")
UNREACHABLE = 3


class Case(NamedTuple):
    """One command as a person types it."""

    typed: str
    says: str
    """What is on stdout when all is well."""
    without: int = UNREACHABLE
    """The exit code where no daemon runs; it is 3 for every command that needs one."""
    file: str = ""
    """What FILE holds, where the command reads one."""
    changes: bool = False
    """It leaves a daemon that others of the table cannot use."""


CASES = (
    Case("demo", "All of this really happened", without=0),
    Case("setup --yes", "=== Rate Limit Manager Status ===", without=0, changes=True),
    Case("setup --dry-run", "", without=0),
    Case("doctor", "✓ daemon", without=1),
    Case("status", "anthropic"),
    Case("status --plain", "=== Rate Limit Manager Status ==="),
    Case("status --format {current}", ""),
    Case(f"wait {MODEL}", "the next request goes to"),
    Case(f"why {MODEL}", "the next request goes to"),
    Case("history", "anthropic"),
    Case("log", "cooling down"),
    Case("state", '"providers"'),
    Case("export", '"schema"', without=1),
    Case(
        "import FILE",
        "taken:",
        file='{"providers":{"anthropic":{"requestCount":1,"hourlyLimit":9,"errorCount":0}},"currentProvider":null}',
        changes=True,
    ),
    Case("use openrouter", "openrouter", changes=True),
    Case("cooldown openrouter 1h", "openrouter rests until", changes=True),
    Case("reset", "were reset by hand", changes=True),
    Case("enable anthropic", "enabled"),
    Case("disable anthropic", "disabled", changes=True),
    Case("config check", "can be used", without=0),
    Case("config show", '"policy"', without=0),
    Case("config path", "config.toml", without=0),
    Case("reload", "is in force"),
    Case("limits suggest", "anthropic: 1 request per hour"),
    Case("simulate --hours 1", "anthropic", without=0),
    Case("notify test", "json://"),
    Case("paths", "config.toml", without=0),
    Case("start", "The daemon is running already", without=0),
    Case("stop", "The daemon is stopped", without=0, changes=True),
    Case("restart", "The daemon is restarted", without=0, changes=True),
    Case("install opencode", "was written", without=0, changes=True),
    Case("install systemd --dry-run", "", without=1),
    Case("uninstall opencode", "There is no shim", without=0),
    Case("completion bash", "complete -F _rlmctl rlmctl", without=0),
    Case("completion providers", "anthropic", without=0),
    Case("completion models", MODEL, without=0),
)
NEED_A_DAEMON = [case for case in CASES if case.without == UNREACHABLE]
NEED_NONE = [case for case in CASES if case.without != UNREACHABLE]
NOT_HERE = {"install systemd --dry-run"}
"""What cannot succeed where the tests run: its failure is tested here, its success under a real systemd."""
HAVE_JSON = [
    case
    for case in CASES
    # Text in another form is the result itself.
    if case.typed not in {"status --plain", "status --format {current}", *NOT_HERE}
]


def typed(case: Case) -> str:
    return case.typed


def arguments(place: Place, case: Case) -> list[str]:
    if case.file:
        (place.root / "file.json").write_text(case.file)
    return case.typed.replace("FILE", str(place.root / "file.json")).split()


def begin(root: Path, webhook: Webhook) -> Daemon:
    """Start a daemon that has served and been refused, with a target of notifications that takes all."""
    daemon = Daemon(root)
    daemon.write_config(f'{CONFIG}\n[notify]\ntargets = ["{webhook.json()}"]\n')
    daemon.begin()
    with daemon.connect() as agent:
        request = {"provider": "anthropic", "model": MODEL, "session": "s"}
        use = agent.request("acquire", **request)
        agent.request("report", lease=use["lease"], outcome="ok", usage={"input": 10, "cost": 0.5}, **request)
        use = agent.request("acquire", **request)
        refused = {"outcome": "error", "status": 429, "headers": {"retry-after": "3000"}}
        agent.request("report", lease=use["lease"], **refused, **request)
    return daemon


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture(scope="module")
def shared(webhook: Webhook) -> Iterator[Daemon]:
    """A daemon for all whose command leaves it as it was."""
    root = Path(tempfile.mkdtemp(prefix="rlmctl-"))
    daemon = begin(root, webhook)
    yield daemon
    daemon.end()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def used(case: Case, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    if not case.changes:
        yield request.getfixturevalue("shared")
        return
    daemon = begin(request.getfixturevalue("root"), request.getfixturevalue("webhook"))
    yield daemon
    daemon.ctl("stop")
    daemon.end()


def test_every_command_is_in_the_table_and_on_the_page() -> None:
    places = {name: [name, *(f"{name} {action}" for action in find(name)[0].below())] for name in SUMMARIES}
    first_words = {case.typed.split()[0] for case in CASES}
    assert first_words == set(SUMMARIES)
    for name, with_actions in places.items():
        for place in with_actions[1:]:
            assert any(case.typed.startswith(place) for case in CASES), place
        parser = find(name)[0]
        told = section(name)
        for one in (parser, *parser.below().values()):
            for option in one.words():
                if option.startswith("--") and option not in {"--help", "--json"}:
                    assert f"`{option}`" in told or f"`{option} " in told, (name, option)


@pytest.mark.parametrize("case", [case for case in CASES if case.typed not in NOT_HERE], ids=typed)
def test_it_does_what_it_is_for(used: Daemon, case: Case) -> None:
    run = used.ctl(*arguments(used, case))
    assert run.returncode == 0, run.stderr
    assert case.says in run.stdout


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("case", NEED_A_DAEMON, ids=typed)
def test_without_a_daemon_it_says_so_in_a_sentence_with_the_mend_and_exits_3(
    place: Place, case: Case, as_json: bool
) -> None:
    place.write_config()
    if as_json and case not in HAVE_JSON:
        return
    run = place.ctl(*arguments(place, case), *["--json"] * as_json)
    assert (run.returncode, run.stdout) == (UNREACHABLE, "")
    assert run.stderr == (
        f"rlmctl: The daemon is not running: no socket is at {place.paths.socket}.\n  mend: rlmctl start\n"
    )


@pytest.mark.parametrize("case", NEED_NONE, ids=typed)
def test_what_needs_no_daemon_does_without(place: Place, case: Case) -> None:
    place.write_config()
    run = place.ctl(*arguments(place, case))
    assert run.returncode == case.without
    if case.without and not run.stdout:
        assert "\n  mend: " in run.stderr


@pytest.mark.parametrize("case", HAVE_JSON, ids=typed)
def test_its_json_is_what_the_page_shows(used: Daemon, case: Case) -> None:
    run = used.ctl(*arguments(used, case), "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    shown = example(case.typed)
    if isinstance(shown, dict):
        left_out = {"text", "status"} if case.typed.startswith("setup") else set()
        assert shown.keys() - told.keys() <= left_out
    assert list(undocumented(told, shown, case.typed.partition(" ")[0])) == []


def section(name: str) -> str:
    """Return the part of the page on a command, its actions included."""
    found = re.search(rf"^### `{name}`\n(.*?)(?=^##? |^### |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/commands.md has no section on {name}"
    return found[1]


def example(command: str) -> Any:
    """Return the JSON that the page shows for a command: its own example, or that of the reply it names."""
    name, *words = command.split()
    text = section(name)
    if words and (
        action := re.search(rf"^#### `{name} {words[0]}`\n(.*?)(?=^####|\Z)", text, re.DOTALL | re.MULTILINE)
    ):
        text = action[1]
    if words and words[0] in {"providers", "models"}:
        assert f'`{{"{words[0]}": […]}}`' in text
        return {words[0]: ["NAME"]}
    if block := re.search(r"```json\n(.*?)\n```", text, re.DOTALL):
        return json.loads(block[1])
    reply = re.search(r"the reply\s+`(\w+)` of\s+\[protocol", text)
    if reply is None:
        assert name in {"use", "cooldown", "reset", "enable", "disable", "reload"}, f"{command} has no example"
        return {"type": "done", "message": "…"}
    blocks = re.findall(rf'^\{{"type": "{reply[1]}".*$', PROTOCOL, re.MULTILINE)
    return {name: value for name, value in json.loads(blocks[0]).items() if name != "id"}


MAPS = {"model_mapping", "pins", "errors"}
"""Objects whose keys are names, in the replies of the protocol; on our page a name in capitals says so."""


def undocumented(told: Any, shown: Any, path: str) -> Any:
    """Yield what is told and not shown: fields, or values of another kind."""
    if isinstance(told, dict) and isinstance(shown, dict):
        any_name = next((name for name in shown if name.isupper()), None)
        is_map = any_name is not None or path.rpartition(".")[2] in MAPS
        if path.endswith(".status") and not shown:
            shown = example("status")
        for name, value in told.items():
            if is_map:
                yield from undocumented(value, next(iter(shown.values()), None), f"{path}.*")
            elif name in shown:
                yield from undocumented(value, shown[name], f"{path}.{name}")
            elif path not in {"log.events[]", "log.events[].allowance"}:
                yield f"{path}.{name}"
    elif isinstance(told, list) and isinstance(shown, list):
        for value in told:
            yield from undocumented(value, shown[0] if shown else None, f"{path}[]")
    elif None not in (told, shown) and kind(told) != kind(shown):
        yield f"{path} is {told!r}"


def kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
