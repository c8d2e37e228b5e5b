"""The page of each system says how to install, inspect, stop and remove, in commands that there are."""

from __future__ import annotations

import re
import shlex

import pytest
from usermanager import CHECKOUT

from rlmctl.commands.catalogue import find

DOCS = CHECKOUT / "docs"
PAGES = {
    "systemd": ["Install", "Inspect", "Stop", "Remove"],
    "launchd": ["Install", "Inspect", "Stop", "Remove"],
    "without-a-service-manager": ["Start", "Inspect", "Stop", "Remove"],
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_four_parts(name: str) -> None:
    headings = re.findall(r"^## (.*)$", (DOCS / f"{name}.md").read_text(), re.MULTILINE)
    assert [heading for heading in headings if heading in PAGES[name]] == PAGES[name]
    assert f"({name}.md)" in (DOCS / "services.md").read_text()


@pytest.mark.parametrize("name", [*PAGES, "services", "notifications"])
def test_the_commands_of_a_page_are_understood(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text()
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    commands = [*re.findall(r"^(rlmctl .*)$", blocks, re.MULTILINE), *re.findall(r"`(rlmctl [^`]+)`", text)]
    assert commands
    for command in commands:
        _, word, *rest = shlex.split(command, comments=True)
        parser, _ = find(word)
        parser.parse_args(rest)


def test_launchd_is_labelled_untested_until_it_ran_on_macos() -> None:
    assert "**Untested**" in (DOCS / "launchd.md").read_text()
    assert "rlmctl install launchd" in (CHECKOUT / ".github" / "workflows" / "macos.yml").read_text()
