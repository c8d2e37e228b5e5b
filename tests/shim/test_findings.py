"""What doctor says of OpenCode: its version, the shims in it, the plugin that the shim replaces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from opencode_stand_in import opencode_that_says

from rlmctl.agents import opencode
from rlmctl.agents.opencode import predecessor
from rlmctl.agents.opencode.findings import Finding
from rlmd import __version__
from rlmd.paths import Paths, resolve


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config" / "opencode").mkdir(parents=True)
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path / "home")}
    return {**home, "PATH": str(tmp_path / "bin")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "config" / "opencode"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".git").mkdir(parents=True)
    (tmp_path / "project" / "inner").mkdir()
    return tmp_path / "project"


@pytest.fixture
def paths() -> Paths:
    return resolve({"RLMD_CONFIG": "/c", "RLMD_STATE_DIR": "/s", "RLMD_SOCKET": "/run/rlmd.sock"})


def said(paths: Paths, directory: Path, environ: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return all that is not well: name, meaning, mend."""
    found = opencode.findings(paths, directory, environ)
    return [(one.name, one.meaning, one.mend) for one in found if one.state != "ok"]


def test_a_shim_that_is_as_it_should_be(paths: Paths, environ: dict[str, str], home: Path, project: Path) -> None:
    opencode.install(paths, environ=environ)

    assert list(opencode.findings(paths, project, environ)) == [
        Finding("shim", "ok", f"{home / 'plugins' / 'rlmd.ts'} is up to date")
    ]


@pytest.mark.parametrize(
    ("prints", "said"),
    [
        ("1.18.34", "1.18.34, which the shim was tried with"),
        ("1.19.0", "1.19.0; the shim was tried with 1.14.34, 1.15.13, 1.17.0, 1.17.9, 1.18.33, 1.18.34"),
        ("opencode 2.0.26", "2.0.26; the shim was tried with 2.0.15"),
        ("1.3.1", "1.3.1; the shim was tried with 1.1.53, 1.1.65, 1.2.6, 1.2.11, 1.2.27, 1.3.2"),
    ],
)
def test_of_a_version_no_more_is_said_than_was_tried(
    paths: Paths, environ: dict[str, str], project: Path, prints: str, said: str
) -> None:
    program = opencode_that_says(Path(environ["PATH"]), prints)
    opencode.install(paths, environ=environ)

    [first, shim] = opencode.findings(paths, project, environ)
    assert first == Finding("OpenCode", "ok", f"{program}: {said}")
    assert shim.state == "ok"


@pytest.mark.parametrize("prints", ["", "local"])
def test_a_program_that_does_not_say_its_version(
    paths: Paths, environ: dict[str, str], project: Path, prints: str
) -> None:
    program = opencode_that_says(Path(environ["PATH"]), prints, code=1)
    opencode.install(paths, environ=environ)

    meaning = f"{program} named no version, so which form of the shim it loads is not known"
    assert said(paths, project, environ) == [("OpenCode", meaning, f"{program} --version")]


def test_a_form_that_the_version_does_not_load(
    paths: Paths, environ: dict[str, str], home: Path, project: Path
) -> None:
    entry = home / "plugins" / "rlmd.ts"
    for installed_for, here in (("1.18.34", "1.3.2"), ("1.3.2", "2.0.15")):
        opencode_that_says(Path(environ["PATH"]), installed_for)
        opencode.install(paths, environ=environ)
        opencode_that_says(Path(environ["PATH"]), here)
        meaning = f"{entry} has a form that OpenCode {here} does not load"
        assert said(paths, project, environ) == [("shim", meaning, "rlmctl install opencode")]
        opencode.install(paths, environ=environ)
        assert said(paths, project, environ) == []


def test_a_form_that_goes_on_working_after_an_upgrade_lacks_its_dialog(
    paths: Paths, environ: dict[str, str], home: Path, project: Path
) -> None:
    opencode_that_says(Path(environ["PATH"]), "1.3.2")
    opencode.install(paths, environ=environ)
    opencode_that_says(Path(environ["PATH"]), "1.18.34")

    entry = home / "plugins" / "rlmd.ts"
    meaning = f"{entry} has the form for an older OpenCode: this one loads it, without its dialog"
    assert said(paths, project, environ) == [("shim", meaning, "rlmctl install opencode")]


def test_a_shim_in_an_opencode_that_is_too_old_for_any(
    paths: Paths, environ: dict[str, str], home: Path, project: Path
) -> None:
    opencode.install(paths, environ=environ)
    program = opencode_that_says(Path(environ["PATH"]), "1.0.185")

    assert said(paths, project, environ) == [
        (
            "OpenCode",
            f"{program}: OpenCode 1.0.185 is too old: the shim was tried with 1.1.53 and later",
            "opencode upgrade",
        ),
        (
            "shim",
            f"{home / 'plugins' / 'rlmd.ts'} is not loaded by OpenCode 1.0.185",
            "opencode upgrade; until then: rlmctl uninstall opencode",
        ),
    ]


def test_a_project_has_one_shim_too_many(paths: Paths, environ: dict[str, str], home: Path, project: Path) -> None:
    opencode.install(paths, environ=environ)
    opencode.install(paths, project=project, environ=environ)

    surplus, kept = project / ".opencode" / "plugins" / "rlmd.ts", home / "plugins" / "rlmd.ts"
    meaning = f"{surplus} is one too many: OpenCode loads {kept} as well"
    assert said(paths, project, environ) == [("shim", meaning, "rlmctl uninstall opencode --project")]
    mend = f"cd {project} && rlmctl uninstall opencode --project"
    assert said(paths, project / "inner", environ) == [("shim", meaning, mend)]


def test_a_directory_of_ones_own_choice_does_not_take_the_usual_ones_place(
    paths: Paths, environ: dict[str, str], home: Path, project: Path, tmp_path: Path
) -> None:
    chosen = {**environ, "OPENCODE_CONFIG_DIR": str(tmp_path / "chosen")}
    opencode.install(paths, environ=environ)
    opencode.install(paths, environ=chosen)

    surplus, kept = home / "plugins" / "rlmd.ts", tmp_path / "chosen" / "plugins" / "rlmd.ts"
    meaning = f"{surplus} is one too many: OpenCode loads {kept} as well"
    assert said(paths, project, chosen) == [("shim", meaning, "env -u OPENCODE_CONFIG_DIR rlmctl uninstall opencode")]


def test_a_shim_in_both_folders_of_plugins_is_mended_by_installing(
    paths: Paths, environ: dict[str, str], home: Path, project: Path
) -> None:
    opencode.install(paths, environ=environ)
    (home / "plugin").mkdir()
    (home / "plugin" / "rlmd.ts").write_text((home / "plugins" / "rlmd.ts").read_text())

    assert ("shim", "rlmctl install opencode") in [(name, mend) for name, _, mend in said(paths, project, environ)]
    assert "one too many" in said(paths, project, environ)[-1][1]
    opencode.install(paths, environ=environ)
    assert said(paths, project, environ) == []


def test_a_part_of_another_version(paths: Paths, environ: dict[str, str], home: Path, project: Path) -> None:
    opencode.install(paths, environ=environ)
    part = home / "plugins" / "rlmd" / "tui.ts"
    part.write_text(part.read_text().replace(__version__, "0.0.1"))

    entry = home / "plugins" / "rlmd.ts"
    assert said(paths, project, environ) == [("shim", f"{entry} is of version 0.0.1", "rlmctl install opencode")]


def test_a_shim_is_mended_where_it_lies(
    paths: Paths, environ: dict[str, str], home: Path, project: Path, tmp_path: Path
) -> None:
    def mends(environ: dict[str, str], directory: Path) -> list[str]:
        return [mend for name, meaning, mend in said(paths, directory, environ) if "0.0.1" in meaning]

    def age(home: Path) -> None:
        entry = home / "plugins" / "rlmd.ts"
        entry.write_text(entry.read_text().replace(__version__, "0.0.1"))

    opencode.install(paths, project=project, environ=environ)
    age(project / ".opencode")
    assert mends(environ, project) == ["rlmctl install opencode --project"]
    assert mends(environ, project / "inner") == [f"cd {project} && rlmctl install opencode --project"]

    opencode.uninstall(paths, project=project, environ=environ)
    opencode.install(paths, environ=environ)
    age(home)
    assert mends(environ, project) == ["rlmctl install opencode"]
    chosen = {**environ, "OPENCODE_CONFIG_DIR": str(tmp_path / "chosen")}
    assert mends(chosen, project) == ["env -u OPENCODE_CONFIG_DIR rlmctl install opencode"]


@pytest.mark.parametrize("form", ["file://{}", "{}", "../../elsewhere/plugins/rlmd.ts"])
def test_a_shim_that_a_list_of_plugins_names(
    paths: Paths, environ: dict[str, str], home: Path, project: Path, tmp_path: Path, form: str
) -> None:
    opencode.install(paths, environ={**environ, "OPENCODE_CONFIG_DIR": str(tmp_path / "elsewhere")})
    name = form.format(tmp_path / "elsewhere" / "plugins" / "rlmd.ts")
    place(home / "opencode.json", {"plugin": ["other", name, "./plugins/rlmd.ts"]})

    [(_, meaning, mend)] = said(paths, project, environ)
    assert f"{home / 'opencode.json'} names it" in meaning
    assert mend == f'take "{name}" out of the list "plugin" there, then: rlmctl install opencode'
    opencode.install(paths, environ=environ)
    assert len(said(paths, project, environ)) == 1


def test_a_dialog_that_nobody_loads(paths: Paths, environ: dict[str, str], home: Path, project: Path) -> None:
    opencode.install(paths, environ=environ)
    (home / "tui.jsonc").unlink()

    [(name, meaning, mend)] = said(paths, project, environ)
    assert (name, mend) == ("shim", "rlmctl install opencode")
    assert "no tui.json there names its dialog" in meaning


def place(path: Path, content: object = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_who_never_had_the_old_plugin_hears_nothing_of_it(environ: dict[str, str], project: Path) -> None:
    place(project / "opencode.json", {"plugin": ["other", 3, [], {"x": 1}], "plugins": "odd"})
    place(project / "package.json", {"dependencies": {"express-rate-limit-manager": "1"}, "devDependencies": []})
    place(project / ".opencode" / "plugin" / "limits.ts")

    assert opencode.offers(project, environ) == []


def test_the_old_plugin_is_found_as_a_file(environ: dict[str, str], home: Path, project: Path) -> None:
    one = place(home / "plugins" / "rate-limit-manager.js")
    two = place(project / ".opencode" / "plugin" / "rate-limit-manager" / "index.ts").parent

    assert predecessor.traces(project / "inner", environ) == [(one, f"rm {one}"), (two, f"rm -r {two}")]


@pytest.mark.parametrize(
    ("key", "entry", "name"),
    [
        ("plugin", "rate-limit-manager", "rate-limit-manager"),
        ("plugin", "@a/opencode-rate-limit-manager@1.2.0", "@a/opencode-rate-limit-manager@1.2.0"),
        ("plugin", "file:///x/rate-limit-manager.ts", "file:///x/rate-limit-manager.ts"),
        ("plugin", ["rate-limit-manager", {"providers": []}], "rate-limit-manager"),
        ("plugins", {"package": "rate-limit-manager"}, "rate-limit-manager"),
    ],
)
def test_the_old_plugin_is_found_in_a_list(
    environ: dict[str, str], home: Path, project: Path, key: str, entry: object, name: str
) -> None:
    everywhere = [
        place(home / "opencode.jsonc", f"// mine\n{json.dumps({key: ['other', entry]})}"),
        place(project / "opencode.json", {key: [entry]}),
        place(project / ".opencode" / "opencode.json", {key: [entry]}),
    ]

    found = predecessor.traces(project / "inner", environ)
    assert sorted(found) == sorted((path, f'take "{name}" out of the list "{key}" in {path}') for path in everywhere)


def test_the_old_plugin_is_found_as_a_package(environ: dict[str, str], home: Path, project: Path) -> None:
    one = place(home / "package.json", {"dependencies": {"rate-limit-manager": "^1"}})
    two = place(project / "package.json", {"devDependencies": {"@a/opencode-rate-limit-manager": "^1"}})

    assert predecessor.traces(project, environ) == [
        (one, f"npm uninstall --prefix {one.parent} rate-limit-manager"),
        (two, f"npm uninstall --prefix {two.parent} @a/opencode-rate-limit-manager"),
    ]


def test_its_limits_are_offered_for_import(paths: Paths, environ: dict[str, str], home: Path, project: Path) -> None:
    opencode.install(paths, environ=environ)
    state = place(project / ".opencode" / "rate-limit-state.json", {})
    file = place(home / "plugin" / "rate-limit-manager.ts")

    assert opencode.offers(project, environ) == [
        f"rate-limit-manager is still there. Two that switch disturb each other: rm {file}",
        f"rate-limit-manager kept its limits in {state}. To take them over: rlmctl import {state}",
    ]
    assert [mend for _, _, mend in said(paths, project, environ)] == [
        f"rm {file}",
        f"rlmctl import {state}, then: rm {state}",
    ]
