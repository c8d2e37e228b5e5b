"""The installer of the shim: one file, in one place, gone without a trace."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import rlmd
from rlmctl.agents import opencode
from rlmd.paths import Paths, PathTooLongError, resolve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "config" / "opencode" / "plugin" / "rlmd.ts"


@pytest.fixture
def paths() -> Paths:
    return resolve({"RLMD_CONFIG": "/c", "RLMD_STATE_DIR": "/s", "RLMD_SOCKET": '/run/a "quoted" \\ name.sock'})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "inner"
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet"], cwd=folder.parent, check=True)
    return folder


def git_status(project: Path) -> str:
    asked = ["git", "status", "--short", "--untracked-files=all"]
    return subprocess.run(asked, cwd=project, capture_output=True, text=True, check=True).stdout


def test_it_writes_one_private_file_with_version_and_socket(
    paths: Paths, environ: dict[str, str], target: Path
) -> None:
    said = opencode.install(paths, environ=environ)

    assert said == [f"{target} was written. OpenCode loads it at its next start."]
    assert [path for path in target.parents[2].rglob("*") if path.is_file()] == [target]
    assert target.stat().st_mode & 0o777 == 0o600
    text = target.read_text()
    assert f'const VERSION: string = "{rlmd.__version__}"' in text
    assert r'const SOCKET: string = process.env.RLMD_SOCKET || "/run/a \"quoted\" \\ name.sock"' in text
    assert "@SOCKET@" not in text


def test_running_it_again_changes_nothing(paths: Paths, environ: dict[str, str], target: Path) -> None:
    opencode.install(paths, environ=environ)
    before = target.stat().st_mtime_ns

    assert opencode.install(paths, environ=environ) == [f"{target} is up to date."]
    assert target.stat().st_mtime_ns == before


def test_another_version_is_replaced_and_nothing_else_is_left(
    paths: Paths, environ: dict[str, str], target: Path
) -> None:
    opencode.install(paths, environ=environ)
    wanted = target.read_text()
    target.write_text(wanted.replace(f'"{rlmd.__version__}"', '"0.0.1"'))

    assert opencode.inspect(environ=environ)[0][:3] == (target, "0.0.1", "outdated")
    assert "was replaced" in opencode.install(paths, environ=environ)[0]
    assert target.read_text() == wanted
    assert list(target.parent.iterdir()) == [target]


def test_an_edited_one_is_told_from_a_current_one(paths: Paths, environ: dict[str, str], target: Path) -> None:
    assert opencode.inspect(environ=environ) == []
    opencode.install(paths, environ=environ)
    found = opencode.Found(target, rlmd.__version__, "current", str(paths.socket))
    assert opencode.inspect(environ=environ) == [found]

    target.write_text(target.read_text() + "// mine\n")

    assert opencode.inspect(environ=environ) == [found._replace(state="edited")]


def test_a_plugin_of_another_origin_is_left_alone(paths: Paths, environ: dict[str, str], target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_text("export default {}\n")

    for act in (opencode.install, opencode.uninstall):
        assert act(paths, environ=environ) == [f"{target} is a plugin of another origin, so nothing was done."]
    assert target.read_text() == "export default {}\n"
    assert opencode.inspect(environ=environ) == []


def test_a_dry_run_says_it_all_and_does_nothing(paths: Paths, environ: dict[str, str], project: Path) -> None:
    said = opencode.install(paths, project=project, dry_run=True, environ=environ)

    assert [sentence.split(" would be ")[1].split()[0].strip(".") for sentence in said] == ["written", "excluded"]
    assert list(project.iterdir()) == []
    assert "opencode" not in (project.parent / ".git" / "info" / "exclude").read_text()


def test_in_a_project_git_does_not_see_it(paths: Paths, environ: dict[str, str], project: Path) -> None:
    opencode.install(paths, project=project, environ=environ)

    target = project / ".opencode" / "plugin" / "rlmd.ts"
    assert target.is_file()
    assert git_status(project) == ""
    assert [found.path for found in opencode.inspect(project=project, environ=environ)] == [target]


@pytest.mark.parametrize("own_file", [False, True])
def test_uninstalling_leaves_no_trace(
    paths: Paths, environ: dict[str, str], target: Path, project: Path, *, own_file: bool
) -> None:
    if own_file:
        target.parent.mkdir(parents=True)
        (target.parent / "mine.ts").touch()
    exclude = project.parent / ".git" / "info" / "exclude"
    before = exclude.read_text()
    opencode.install(paths, environ=environ)
    opencode.install(paths, project=project, environ=environ)

    opencode.uninstall(paths, environ=environ)
    opencode.uninstall(paths, project=project, environ=environ)

    assert target.parent.exists() == own_file
    assert list(project.iterdir()) == []
    assert exclude.read_text() == before
    assert opencode.uninstall(paths, environ=environ) == [f"There is no shim at {target}."]


def test_outside_a_repository_a_project_needs_no_exclusion(
    paths: Paths, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()

    assert len(opencode.install(paths, project=tmp_path / "plain", environ=environ)) == 1


def test_opencodes_own_variable_decides_over_the_usual_place(
    paths: Paths, environ: dict[str, str], tmp_path: Path
) -> None:
    opencode.install(paths, environ={**environ, "OPENCODE_CONFIG_DIR": str(tmp_path / "chosen")})

    assert (tmp_path / "chosen" / "plugin" / "rlmd.ts").is_file()


def test_a_socket_that_cannot_exist_is_refused_before_anything_is_written(
    environ: dict[str, str], target: Path
) -> None:
    with pytest.raises(PathTooLongError, match="RLMD_SOCKET"):
        opencode.install(resolve({"RLMD_SOCKET": "/" + "x" * 200, "RLMD_STATE_DIR": "/s"}), environ=environ)
    assert not target.exists()
