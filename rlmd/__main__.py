"""The command `rlmd`: the daemon, in the foreground."""

from __future__ import annotations

import argparse
import gc
import logging
import sys

from rlmd import __version__, address, logs


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="rlmd",
        description="Owns what is known about every provider's rate limits and tells coding agents which one to use. "
        "Runs in the foreground; `rlmctl start` runs it in the background.",
        epilog="RLMD_CONFIG, RLMD_STATE_DIR and RLMD_SOCKET move its files; `rlmctl paths` shows where they are.",
    )
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info", help="what goes to stderr (default: info)")
    parser.add_argument("--version", action="version", version=f"rlmd {__version__}")
    options = parser.parse_args(arguments)
    logs.set_up(options.log_level)
    if sys.platform == "win32":
        logging.getLogger("rlmd").error("rlmd needs Linux or macOS. On Windows run it inside WSL, beside the agent.")
        return 2
    address.have_a_home()
    gc.disable()  # until all is there; a collection among what is loaded finds nothing and delays the start
    from rlmd.daemon import run  # noqa: PLC0415  (trio and the rest are not needed to say --version)
    from rlmd.paths import resolve  # noqa: PLC0415

    return run(resolve())


if __name__ == "__main__":
    sys.exit(main())
