"""The installer of the shim: its files, in one place, gone without a trace."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from opencode_stand_in import opencode_that_says

import rlmd
from rlmctl.agents import opencode
from rlmd.address import PathTooLongError
from rlmd.paths import Paths, resolve


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    opencode_that_says(tmp_path / "bin", "1.18.34")
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path / "home")}
    return {**home, "PATH": str(tmp_path / "bin")}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "config" / "opencode"


@pytest.fixture
def entry(home: Path) -> Path:
    return home / "plugins" / "rlmd.ts"


@pytest.fixture
def paths() -> Paths:
    return resolve({"RLMD_CONFIG": "/c", "RLMD_STATE_DIR": "/s", "RLMD_SOCKET": '/run/a "quoted" \\ name.sock'})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "inner"
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet"], cwd=folder.parent, check=True)
    return folder


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def git_status(project: Path) -> str:
    asked = ["git", "status", "--short", "--untracked-files=all"]
    return subprocess.run(asked, cwd=project, capture_output=True, text=True, check=True).stdout


def test_it_writes_private_files_with_version_and_socket(
    paths: Paths, environ: dict[str, str], home: Path, entry: Path
) -> None:
    said = opencode.install(paths, environ=environ)

    assert said == [
        f"{entry} was written. OpenCode loads it at its next start.",
        f"{home / 'tui.jsonc'} was written: it names the dialog of /rate_limit_status.",
    ]
    written = files(home)
    assert {entry, entry.parent / "rlmd" / "tui.ts", home / "tui.jsonc"} <= written
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    for path in written - {home / "tui.jsonc"}:
        assert path.read_text().startswith(f'// rlmd "{rlmd.__version__}" for "/run/a \\"quoted\\" \\\\ name.sock", ')
        assert "@SOCKET@" not in path.read_text()
        assert "@VERSION@" not in path.read_text()


def test_beside_the_entry_lies_no_file_that_opencode_would_take_for_a_plugin(
    paths: Paths, environ: dict[str, str], entry: Path
) -> None:
    opencode.install(paths, environ=environ)

    assert {path.name for path in entry.parent.iterdir()} == {"rlmd.ts", "rlmd"}


def test_the_dialog_is_named_by_its_place(paths: Paths, environ: dict[str, str], home: Path) -> None:
    opencode.install(paths, environ=environ)

    [named] = json.loads((home / "tui.jsonc").read_text())["plugin"]
    assert (home / named).is_file()


def test_running_it_again_changes_nothing(paths: Paths, environ: dict[str, str], home: Path, entry: Path) -> None:
    opencode.install(paths, environ=environ)
    before = {path: path.stat().st_mtime_ns for path in files(home)}

    assert opencode.install(paths, environ=environ) == [f"{entry} is up to date."]
    assert {path: path.stat().st_mtime_ns for path in files(home)} == before


def test_files_that_others_can_read_are_written_anew(paths: Paths, environ: dict[str, str], entry: Path) -> None:
    opencode.install(paths, environ=environ)
    entry.chmod(0o644)

    assert "was replaced" in opencode.install(paths, environ=environ)[0]
    assert entry.stat().st_mode & 0o777 == 0o600


def test_another_version_is_replaced_and_nothing_else_is_left(
    paths: Paths, environ: dict[str, str], home: Path, entry: Path
) -> None:
    opencode.install(paths, environ=environ)
    wanted = {path: path.read_text() for path in files(home)}
    entry.write_text(wanted[entry].replace(rlmd.__version__, "0.0.1"))
    gone = entry.parent / "rlmd" / "gone.ts"
    gone.write_text(wanted[entry].replace(rlmd.__version__, "0.0.1"))

    assert opencode.inspect(environ=environ)[0][:3] == (entry, "0.0.1", "outdated")
    assert "was replaced" in opencode.install(paths, environ=environ)[0]
    assert {path: path.read_text() for path in files(home)} == wanted


@pytest.mark.parametrize("folder", ["plugin", "plugins"])
def test_the_one_file_of_an_older_version_is_replaced(
    paths: Paths, environ: dict[str, str], home: Path, folder: str
) -> None:
    older = home / folder / "rlmd.ts"
    older.parent.mkdir(parents=True)
    older.write_text('const VERSION: string = "0.0.1"\n')

    assert opencode.inspect(environ=environ)[0][:3] == (older, "0.0.1", "outdated")
    assert "was replaced" in opencode.install(paths, environ=environ)[0]
    assert [found.state for found in opencode.inspect(environ=environ)] == ["current"]
    assert (home / "plugin").exists() is False


def test_an_edited_one_is_told_from_a_current_one(paths: Paths, environ: dict[str, str], entry: Path) -> None:
    assert opencode.inspect(environ=environ) == []
    opencode.install(paths, environ=environ)
    found = opencode.Found(entry, rlmd.__version__, "current", str(paths.socket))
    assert opencode.inspect(environ=environ) == [found]

    entry.write_text(entry.read_text() + "// mine\n")

    assert opencode.inspect(environ=environ) == [found._replace(state="edited", changed=(entry,))]


@pytest.mark.parametrize("file", ["rlmd.ts", "rlmd/v1/attempt.ts"])
def test_one_whose_stamp_was_taken_off_is_an_edited_one(
    paths: Paths, environ: dict[str, str], home: Path, entry: Path, file: str
) -> None:
    edited = entry.parent / file

    def edit() -> None:
        edited.write_text(edited.read_text().partition("\n")[2])

    opencode.install(paths, environ=environ)
    edit()
    [found] = opencode.inspect(environ=environ)
    assert (found.state, found.changed, found.socket) == ("edited", (edited,), str(paths.socket))

    assert "was replaced" in opencode.install(paths, environ=environ)[0]
    assert [found.state for found in opencode.inspect(environ=environ)] == ["current"]

    edit()
    opencode.uninstall(paths, environ=environ)
    assert not home.exists()


def test_a_part_that_is_gone_counts_as_edited(paths: Paths, environ: dict[str, str], entry: Path) -> None:
    opencode.install(paths, environ=environ)
    part = entry.parent / "rlmd" / "tui.ts"
    part.unlink()

    [found] = opencode.inspect(environ=environ)
    assert (found.state, found.changed) == ("edited", (part,))


def test_a_plugin_of_another_origin_is_left_alone(paths: Paths, environ: dict[str, str], entry: Path) -> None:
    entry.parent.mkdir(parents=True)
    entry.write_text("export default {}\n")

    for act in (opencode.install, opencode.uninstall):
        assert act(paths, environ=environ) == [f"{entry} is a plugin of another origin, so nothing was done."]
    assert files(entry.parent) == {entry}
    assert entry.read_text() == "export default {}\n"
    assert opencode.inspect(environ=environ) == []


def test_a_dry_run_says_it_all_and_does_nothing(paths: Paths, environ: dict[str, str], project: Path) -> None:
    said = opencode.install(paths, project=project, dry_run=True, environ=environ)

    words = [sentence.split(" would be ")[1].split()[0].strip(".:") for sentence in said]
    assert words == ["written", "written", "excluded"]
    assert list(project.iterdir()) == []
    assert "opencode" not in (project.parent / ".git" / "info" / "exclude").read_text()


def test_in_a_project_git_does_not_see_it(paths: Paths, environ: dict[str, str], project: Path) -> None:
    opencode.install(paths, project=project, environ=environ)

    entry = project / ".opencode" / "plugins" / "rlmd.ts"
    assert entry.is_file()
    assert git_status(project) == ""
    assert [found.path for found in opencode.inspect(project=project, environ=environ)] == [entry]
    before = (project.parent / ".git" / "info" / "exclude").read_text()
    opencode.install(paths, project=project, environ=environ)
    assert (project.parent / ".git" / "info" / "exclude").read_text() == before


def test_a_persons_own_screen_settings_are_not_touched(
    paths: Paths, environ: dict[str, str], project: Path, home: Path
) -> None:
    theirs = {home / "tui.jsonc": '{ "theme": "x" } // mine\n', project / ".opencode" / "tui.jsonc": "{}"}
    for path, text in theirs.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)

    opencode.install(paths, environ=environ)
    opencode.install(paths, project=project, environ=environ)

    assert {path: path.read_text() for path in theirs} == theirs
    assert "tui.ts" in (home / "tui.json").read_text()
    assert git_status(project) == "?? .opencode/tui.jsonc\n"
    opencode.uninstall(paths, environ=environ)
    opencode.uninstall(paths, project=project, environ=environ)
    assert files(home) | files(project) == set(theirs)


def test_where_both_screen_settings_are_a_persons_own_it_says_what_to_write(
    paths: Paths, environ: dict[str, str], home: Path
) -> None:
    home.mkdir(parents=True)
    for name in ("tui.json", "tui.jsonc"):
        (home / name).write_text("{}")

    line = '"./plugins/rlmd/tui.ts"'
    assert opencode.install(paths, environ=environ)[1] == (
        f'For the dialog of /rate_limit_status add {line} to the list "plugin" in {home / "tui.json"}.'
    )
    (home / "tui.json").write_text(f'{{ "plugin": ["mine", {line}] }} // mine')
    assert len(opencode.install(paths, environ=environ)) == 1
    opencode.uninstall(paths, environ=environ)
    assert (home / "tui.json").read_text() == '{ "plugin": ["mine"] } // mine'
    assert (home / "tui.jsonc").read_text() == "{}"


def test_what_opencode_added_to_our_screen_settings_stays(paths: Paths, environ: dict[str, str], home: Path) -> None:
    opencode.install(paths, environ=environ)
    (home / "tui.jsonc").write_text('{ "plugin": ["./plugins/rlmd/tui.ts", "other"], "theme": "x" }')

    opencode.uninstall(paths, environ=environ)

    assert (home / "tui.jsonc").read_text() == '{ "plugin": ["other"], "theme": "x" }'


NAME = '"./plugins/rlmd/tui.ts"'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{\n  "plugin": [\n    NAME,\n    "other"\n  ]\n}\n', '{\n  "plugin": [\n    "other"\n  ]\n}\n'),
        ('{\n  "plugin": [\n    "other",\n    NAME,\n  ],\n}', '{\n  "plugin": [\n    "other",\n    ],\n}'),
        ('{ "plugin": [NAME /* the, dialog */, "other"] }', '{ "plugin": ["other"] }'),
        ('// NAME is rlmd\'s\n{ "plugin": [NAME, "other"] }', '// NAME is rlmd\'s\n{ "plugin": ["other"] }'),
        ('{ "plugin": [NAME, "other", NAME] }', '{ "plugin": ["other"] }'),
        ('{\r\n  "plugin": ["other", NAME],\r\n}\r\n', '{\r\n  "plugin": ["other"],\r\n}\r\n'),
    ],
)
def test_in_settings_of_a_persons_own_the_dialogs_name_alone_is_taken_out(
    paths: Paths, environ: dict[str, str], home: Path, before: str, after: str
) -> None:
    home.mkdir(parents=True)
    (home / "tui.jsonc").write_text("{}")
    (home / "tui.json").write_bytes(before.replace("NAME", NAME).encode())
    opencode.install(paths, environ=environ)

    opencode.uninstall(paths, environ=environ)

    assert (home / "tui.json").read_bytes().decode() == after.replace("NAME", NAME)


def test_where_the_dialogs_name_cannot_be_taken_out_it_says_what_to_do(
    paths: Paths, environ: dict[str, str], home: Path
) -> None:
    home.mkdir(parents=True)
    text = '{ "plugin": [NAME // the dialog\n, "other"], "theme": "x" }'.replace("NAME", NAME)
    (home / "tui.jsonc").write_text(text)
    opencode.install(paths, environ=environ)

    said = opencode.uninstall(paths, environ=environ)

    assert said[1] == f'Take {NAME} out of the list "plugin" in {home / "tui.jsonc"}: the dialog is gone.'
    assert (home / "tui.jsonc").read_text() == text


def test_a_link_to_screen_settings_that_are_not_here_stays_one(
    paths: Paths, environ: dict[str, str], home: Path
) -> None:
    home.mkdir(parents=True)
    (home / "tui.jsonc").symlink_to("elsewhere")

    opencode.install(paths, environ=environ)

    assert (home / "tui.jsonc").is_symlink()
    assert NAME in (home / "tui.json").read_text()


@pytest.mark.parametrize(
    "text",
    [
        b"# f\xfcr mich\nsecret.txt\n",  # Latin-1
        b"no end",
        b"secret.txt\r\na\x0cb\r\n",
    ],
)
def test_what_git_leaves_out_otherwise_stays_byte_by_byte(
    paths: Paths, environ: dict[str, str], project: Path, text: bytes
) -> None:
    exclude = project.parent / ".git" / "info" / "exclude"
    exclude.write_bytes(text)

    opencode.install(paths, project=project, environ=environ)
    assert exclude.read_bytes().startswith(text)
    assert git_status(project) == ""
    opencode.uninstall(paths, project=project, environ=environ)
    assert exclude.read_bytes() == text


def test_a_project_whose_name_is_a_pattern_to_git(paths: Paths, environ: dict[str, str], project: Path) -> None:
    odd = project / "[slug] *\\ü"
    odd.mkdir()

    opencode.install(paths, project=odd, environ=environ)

    assert git_status(odd) == ""


def test_what_a_work_tree_needs_stays_when_another_one_is_left(
    paths: Paths, environ: dict[str, str], project: Path, tmp_path: Path
) -> None:
    exclude = project.parent / ".git" / "info" / "exclude"
    before = exclude.read_text()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], cwd=project, check=True)
    subprocess.run([*git, "worktree", "add", "-q", tmp_path / "tree"], cwd=project, check=True)
    trees = [project.parent, tmp_path / "tree"]
    for tree in trees:
        opencode.install(paths, project=tree, environ=environ)

    opencode.uninstall(paths, project=trees[1], environ=environ)
    assert git_status(trees[0]) == ""
    opencode.uninstall(paths, project=trees[0], environ=environ)
    assert exclude.read_text() == before


def test_a_directory_that_is_a_link_stays_one(
    paths: Paths, environ: dict[str, str], home: Path, tmp_path: Path
) -> None:
    (tmp_path / "dotfiles").mkdir()
    home.parent.mkdir()
    home.symlink_to(tmp_path / "dotfiles")
    opencode.install(paths, environ=environ)

    opencode.uninstall(paths, environ=environ)

    assert home.is_symlink()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("real", "link"), [("plugins", "plugin"), ("plugin", "plugins")])
def test_one_folder_of_plugins_with_two_names_has_one_shim(
    paths: Paths, environ: dict[str, str], home: Path, real: str, link: str
) -> None:
    (home / real).mkdir(parents=True)
    (home / link).symlink_to(real)
    opencode.install(paths, environ=environ)
    written = files(home)

    opencode.install(paths, environ=environ)

    assert files(home) == written
    assert [found.state for found in opencode.inspect(environ=environ)] == ["current"]
    opencode.uninstall(paths, environ=environ)
    assert files(home) == set()


def test_one_directory_with_two_names_has_one_shim(
    paths: Paths, environ: dict[str, str], home: Path, tmp_path: Path
) -> None:
    home.mkdir(parents=True)
    (tmp_path / "link").symlink_to(home)
    opencode.install(paths, environ=environ)

    assert len(opencode.inspect(environ={**environ, "OPENCODE_CONFIG_DIR": str(tmp_path / "link")})) == 1


def test_a_stamp_that_was_edited(paths: Paths, environ: dict[str, str], entry: Path) -> None:
    opencode.install(paths, environ=environ)
    entry.write_text(entry.read_text().replace('\\"quoted', "\\quoted"))

    assert opencode.inspect(environ=environ)[0].state == "edited"
    assert "was replaced" in opencode.install(paths, environ=environ)[0]


def test_what_cannot_be_read_is_no_shim(paths: Paths, environ: dict[str, str], entry: Path) -> None:
    entry.mkdir(parents=True)

    assert opencode.inspect(environ=environ) == []
    assert "another origin" in opencode.install(paths, environ=environ)[0]


@pytest.mark.parametrize("killed", [False, True])
def test_of_an_installation_that_broke_off_nothing_is_left(
    paths: Paths, environ: dict[str, str], home: Path, monkeypatch: pytest.MonkeyPatch, *, killed: bool
) -> None:
    def fail(path: Path, target: Path) -> None:  # noqa: ARG001
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    if killed:
        monkeypatch.setattr("pathlib.Path.unlink", lambda _: None)
    with pytest.raises(OSError, match=r"body\.ts"):
        opencode.install(paths, environ=environ)
    monkeypatch.undo()
    assert files(home) if killed else not files(home)

    opencode.uninstall(paths, environ=environ)

    assert not home.exists()


@pytest.mark.parametrize("own_file", [False, True])
def test_uninstalling_leaves_no_trace(
    paths: Paths, environ: dict[str, str], home: Path, entry: Path, project: Path, *, own_file: bool
) -> None:
    if own_file:
        entry.parent.mkdir(parents=True)
        (entry.parent / "mine.ts").touch()
    exclude = project.parent / ".git" / "info" / "exclude"
    before = exclude.read_text()
    opencode.install(paths, environ=environ)
    opencode.install(paths, project=project, environ=environ)

    opencode.uninstall(paths, environ=environ)
    opencode.uninstall(paths, project=project, environ=environ)

    assert home.exists() == own_file
    assert files(home) == ({entry.parent / "mine.ts"} if own_file else set())
    assert home.parent.exists()
    assert list(project.iterdir()) == []
    assert exclude.read_text() == before
    assert opencode.uninstall(paths, environ=environ) == [f"There is no shim at {entry}."]


def test_outside_a_repository_a_project_needs_no_exclusion(
    paths: Paths, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()

    assert "excluded" not in " ".join(opencode.install(paths, project=tmp_path / "plain", environ=environ))


def test_opencodes_own_variable_decides_over_the_usual_place(
    paths: Paths, environ: dict[str, str], tmp_path: Path
) -> None:
    chosen = {**environ, "OPENCODE_CONFIG_DIR": str(tmp_path / "chosen")}
    opencode.install(paths, environ=chosen)

    assert (tmp_path / "chosen" / "plugins" / "rlmd.ts").is_file()
    assert len(opencode.inspect(environ=chosen)) == 1


def test_every_shim_that_opencode_would_load_is_found(
    paths: Paths, environ: dict[str, str], project: Path, home: Path
) -> None:
    opencode.install(paths, environ=environ)
    opencode.install(paths, project=project.parent, environ=environ)
    copy = home / "plugin" / "rlmd.ts"
    copy.parent.mkdir()
    copy.write_text('const VERSION: string = "0.0.1"\n')  # as shims were before they were stamped

    found = opencode.inspect(project=project, environ=environ)
    assert [shim.path for shim in found] == [
        home / "plugins" / "rlmd.ts",
        copy,
        project.parent / ".opencode" / "plugins" / "rlmd.ts",
    ]


def test_a_socket_that_cannot_exist_is_refused_before_anything_is_written(environ: dict[str, str], home: Path) -> None:
    with pytest.raises(PathTooLongError, match="RLMD_SOCKET"):
        opencode.install(resolve({"RLMD_SOCKET": "/" + "x" * 200, "RLMD_STATE_DIR": "/s"}), environ=environ)
    assert not home.exists()


def exports(entry: Path) -> str:
    """Return what a plugin's file exports, as it is written."""
    return entry.read_text().partition("export default ")[2].partition("\n")[0]


OBJECT, FUNCTION = '{ id: "rlmd", server, setup }', 'Object.assign(server, { id: "rlmd", server })'


@pytest.mark.parametrize(
    ("version", "form"),
    [("1.1.65", FUNCTION), ("1.3.2", FUNCTION), ("1.14.34", OBJECT), ("1.18.34", OBJECT), ("2.0.15", OBJECT)],
)
def test_each_version_gets_the_form_that_it_loads(
    paths: Paths, environ: dict[str, str], home: Path, entry: Path, version: str, form: str
) -> None:
    opencode_that_says(home.parents[1] / "bin", version)

    opencode.install(paths, environ=environ)

    assert exports(entry) == form
    assert {path.name for path in entry.parent.iterdir()} == {"rlmd.ts", "rlmd"}
    assert [found.state for found in opencode.inspect(environ=environ)] == ["current"]


def test_a_screen_that_loads_no_plugins_is_named_no_dialog(
    paths: Paths, environ: dict[str, str], home: Path, entry: Path
) -> None:
    opencode_that_says(home.parents[1] / "bin", "1.3.2")

    assert opencode.install(paths, environ=environ) == [f"{entry} was written. OpenCode loads it at its next start."]
    assert not (home / "tui.jsonc").exists()


def test_after_an_upgrade_of_opencode_installing_again_replaces_the_form(
    paths: Paths, environ: dict[str, str], home: Path, entry: Path
) -> None:
    for version, form, has_dialog in (("1.3.2", FUNCTION, False), ("2.0.15", OBJECT, True), ("1.3.2", FUNCTION, False)):
        opencode_that_says(home.parents[1] / "bin", version)
        opencode.install(paths, environ=environ)
        assert (exports(entry), (home / "tui.jsonc").exists()) == (form, has_dialog)
        assert [found.state for found in opencode.inspect(environ=environ)] == ["current"]
    opencode.uninstall(paths, environ=environ)
    assert not home.exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_for_a_version_that_no_form_serves_nothing_is_written(
    paths: Paths, environ: dict[str, str], home: Path, project: Path, *, dry_run: bool
) -> None:
    opencode_that_says(home.parents[1] / "bin", "1.0.185")

    for place in (None, project):
        with pytest.raises(opencode.NotServedError, match=r"OpenCode 1\.0\.185 is too old"):
            opencode.install(paths, project=place, environ=environ, dry_run=dry_run)
    assert not home.exists()
    assert list(project.iterdir()) == []


def test_a_project_gets_the_form_of_its_opencode(paths: Paths, environ: dict[str, str], project: Path) -> None:
    opencode_that_says(Path(environ["PATH"]), "1.3.2")

    opencode.install(paths, project=project, environ=environ)

    assert exports(project / ".opencode" / "plugins" / "rlmd.ts") == FUNCTION
    assert git_status(project) == ""


def test_every_opencode_that_is_here_is_asked(paths: Paths, environ: dict[str, str], tmp_path: Path) -> None:
    opencode_that_says(tmp_path / "bin", "2.0.15", name="opencode2")
    old = opencode_that_says(tmp_path / "elsewhere", "1.3.2")
    opencode.install(paths, environ=environ)

    with pytest.raises(opencode.NotServedError, match="are both here"):
        opencode.install(paths, environ={**environ, "OPENCODE_BIN": str(old)})


def test_an_opencode_that_only_its_installer_knows_is_asked(
    paths: Paths, environ: dict[str, str], tmp_path: Path, entry: Path
) -> None:
    (tmp_path / "home" / ".opencode").mkdir(parents=True)
    opencode_that_says(tmp_path / "home" / ".opencode" / "bin", "1.3.2")

    opencode.install(paths, environ={**environ, "PATH": ""})

    assert exports(entry) == FUNCTION


@pytest.mark.parametrize(
    ("name", "form"),
    [("opencode-ai", FUNCTION), ("opencode-linux-x64", FUNCTION), ("@opencode/cli", FUNCTION), ("mine", OBJECT)],
)
def test_of_a_program_that_npm_placed_the_package_says_the_version(
    paths: Paths, environ: dict[str, str], tmp_path: Path, entry: Path, name: str, form: str
) -> None:
    package = tmp_path / "lib" / "node_modules" / "package"
    (package / "bin").mkdir(parents=True)
    program = opencode_that_says(package / "bin", "1.18.34")  # so that it shows who was believed
    (package / "package.json").write_text(json.dumps({"name": name, "version": "1.3.2"}))
    (tmp_path / "bin" / "opencode").unlink()
    (tmp_path / "bin" / "opencode").symlink_to(program)

    opencode.install(paths, environ=environ)

    assert exports(entry) == form


def test_to_be_asked_for_its_version_opencode_asks_no_other_machine(
    paths: Paths, environ: dict[str, str], tmp_path: Path, entry: Path
) -> None:
    opencode_that_says(tmp_path / "bin", """'"${OPENCODE_DISABLE_MODELS_FETCH:+1.3.2}"'""")

    opencode.install(paths, environ=environ)

    assert exports(entry) == FUNCTION


@pytest.mark.parametrize(
    ("prints", "why"),
    [
        (None, "No OpenCode is on this shell's PATH."),
        ("local", "{program} did not say which version it is."),
    ],
)
def test_where_the_version_is_not_known_it_says_so(
    paths: Paths, environ: dict[str, str], tmp_path: Path, entry: Path, prints: str | None, why: str
) -> None:
    program = tmp_path / "bin" / "opencode"
    if prints is None:
        program.unlink()
    else:
        opencode_that_says(program.parent, prints)

    said = opencode.install(paths, environ=environ)

    form = "The form is that of 1.14.34 and newer; once you have another version, do this again."
    assert said[1] == f"{why.format(program=program)} {form}"
    assert exports(entry) == OBJECT


@pytest.mark.parametrize("linked", ["", "plugins"])
def test_where_the_place_is_a_link_it_says_where_the_files_are(
    paths: Paths, environ: dict[str, str], home: Path, tmp_path: Path, linked: str
) -> None:
    (tmp_path / "dotfiles").mkdir()
    link = home / linked
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "dotfiles")
    real = tmp_path / "dotfiles" / ("" if linked else "plugins")

    assert f"{link} is a link: the files are in {real}." in opencode.install(paths, environ=environ)
