"""What rlmd is compared with, installed beside the project: in a cache directory, and in no environment of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

from platformdirs import user_cache_path

from benchmarks.table import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

LITELLM, REDIS_PY = "litellm[proxy]==1.108.7", "redis==8.1.0"
DEBIAN = ("redis-server", "redis-tools")


def place() -> Path:
    """Return where all of it is. Removing that is always safe."""
    return user_cache_path("rlmd-benchmarks")


def python(requirement: str, *, install: bool) -> Path:
    """Return a Python that has this requirement. Raises `UnavailableError`."""
    name = "".join(letter if letter.isalnum() else "-" for letter in requirement)
    home = place() / f"{name}-python{sys.version_info.major}.{sys.version_info.minor}"
    found, complete = home / "bin" / "python", home / "complete"
    if complete.exists():
        return found
    _only_if(install, requirement)
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)])
    _run([str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement])
    complete.touch()
    return found


def redis_server(*, install: bool) -> tuple[list[str], dict[str, str]]:
    """Return the command of a Redis server and what its environment needs. Raises `UnavailableError`.

    Where none is installed, Debian's packages are unpacked into the cache, which changes nothing in the system.
    """
    if found := shutil.which("redis-server"):
        return [found], {}
    home = place() / "redis"
    if not (home / "complete").exists():
        _only_if(install, "redis-server")
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise UnavailableError("there is no redis-server; install it and run this again")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        listed = _run(["apt-cache", "depends", DEBIAN[1]]).split()
        libraries = [name for word, name in pairwise(listed) if word == "Depends:"]
        wanted = [name for name in libraries if name.startswith("lib") and name != "libc6"]
        _run(["apt-get", "download", *DEBIAN, *wanted], home)
        for package in sorted(home.glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(home)])
        (home / "complete").touch()
    libraries = [str(path) for path in home.glob("usr/lib/*-linux-gnu*")]
    return [str(home / "usr/bin/redis-server")], {"LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def _only_if(install: bool, what: str) -> None:
    if not install:
        raise UnavailableError(f"{what} is not installed; the full form installs it")


def _run(command: list[str], directory: Path | None = None) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise UnavailableError(f"{' '.join(command[:4])} failed: {why}")
    return done.stdout
