"""OpenCodes of many versions: brings them from npm, and tries the shim in each of them.

    python tests/e2e/versions.py                    all of `VERSIONS`, and a table of what passed
    python tests/e2e/versions.py 1.17.0 1.18.34     these
    python tests/e2e/versions.py --bring 1.17.0     only brings it: `pytest` tries what is there

They are kept in the folder that `RLMD_OPENCODES` names, else in `tests/shim/opencodes`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

TESTS = Path(__file__).with_name("test_other_versions.py")
FOLDER = Path(os.environ.get("RLMD_OPENCODES") or Path(__file__).parents[1] / "shim" / "opencodes")
VERSIONS = ("1.0.185", "1.1.65", "1.2.27", "1.3.2", "1.14.34", "1.15.13", "1.17.0", "1.17.9", "1.18.33", "1.18.34")


def program(version: str) -> Path | None:
    """Return where an OpenCode of this version is, if it is here."""
    return next((FOLDER / version).glob("node_modules/opencode-*/bin/opencode"), None)


def here() -> list[str]:
    """Return the versions that are here, oldest first."""
    names = [folder.name for folder in FOLDER.iterdir() if program(folder.name)] if FOLDER.is_dir() else []
    return sorted((name for name in names if name.startswith("1.")), key=as_numbers)


def as_numbers(version: str) -> tuple[int, ...]:
    """Return a version as something that can be compared."""
    return tuple(int(number) for number in version.split("."))


def bring(version: str) -> None:
    """Install an OpenCode of this version, unless it is here."""
    if program(version):
        return
    words = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    package = f"{_package()}@{version}"
    subprocess.run(["npm", "install", "--prefix", str(FOLDER / version), *words, package], check=True)


def _package() -> str:
    arch = {"x86_64": "x64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine()]
    flags = Path("/proc/cpuinfo")
    old = arch == "x64" and flags.exists() and "avx2" not in flags.read_text()
    return f"opencode-{platform.system().lower()}-{arch}" + ("-baseline" if old else "")


def try_out(versions: list[str]) -> dict[str, dict[str, bool | None]]:
    """Run the tests. Returns version → test → whether it passed, None where it was skipped."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        chosen = [word for version in versions for word in ("--opencode", version)]
        subprocess.run([sys.executable, "-m", "pytest", "-q", str(TESTS), f"--junitxml={report}", *chosen], check=False)
        cases = ET.parse(report).iter("testcase")
        table: dict[str, dict[str, bool | None]] = {version: {} for version in versions}
        for case in cases:
            test, _, parameters = case.attrib["name"].rstrip("]").partition("[")
            version, _, more = parameters.partition("-")
            told = {child.tag for child in case}
            table[version][f"{test} {more}"] = None if "skipped" in told else not told & {"failure", "error"}
    return table


def main() -> int:
    """Run the script. Returns 1 where something failed."""
    parser = argparse.ArgumentParser(description="Tries the shim in OpenCodes of many versions.")
    parser.add_argument("--bring", action="store_true", help="only install them")
    parser.add_argument("versions", nargs="*", default=VERSIONS)
    chosen = parser.parse_args()
    for version in chosen.versions:
        bring(version)
    if chosen.bring:
        return 0
    table = try_out(list(chosen.versions))
    tests = list(dict.fromkeys(test for row in table.values() for test in row))
    for number, test in enumerate(tests, 1):
        print(f"{number}  {test.removeprefix('test_').replace('_', ' ')}")
    print("         " + "".join(f"{number:>3}" for number, _ in enumerate(tests, 1)))
    signs = {True: "ok", False: "NO", None: "-"}
    for version, row in table.items():
        print(f"{version:<9}" + "".join(f"{signs[row.get(test)]:>3}" for test in tests))
    return int(any(passed is False for row in table.values() for passed in row.values()))


if __name__ == "__main__":
    sys.exit(main())
