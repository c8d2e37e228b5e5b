"""The entry point: finds the command, imports it, turns what went wrong into one message and an exit code.

`status --plain` and `--format` feed status lines and prompts, many times a minute: they pass by all that is slow.
"""

from __future__ import annotations

import os
import sys

from rlmctl.commands import say
from rlmctl.daemon.connection import places
from rlmctl.errors import FAILED, FINE, UNREACHABLE, WRONG, CommandError
from rlmd.address import have_a_home
from rlmd.client.connection import DaemonNotRunningError, DaemonRefusedError, DaemonUnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130


def main() -> int:
    """Run the command line of this process and return its exit code."""
    if sys.platform == "win32":
        return _complain("rlmctl needs Linux or macOS. On Windows run it inside WSL, beside the agent.", "", WRONG)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has no ✓ gets a question mark, not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    have_a_home()
    try:
        try:
            code = run(sys.argv[1:])
        except DaemonNotRunningError as error:
            if not error.absent or not _autostarted():
                raise
            code = run(sys.argv[1:])
        sys.stdout.flush()
    except DaemonUnreachableError as error:
        code = _complain(str(error), error.mend, UNREACHABLE)
    except DaemonRefusedError as error:
        code = _complain(str(error), error.mend, FAILED)
    except CommandError as error:
        code = _complain(str(error), error.mend, error.code)
    except BrokenPipeError:
        # The reader has seen enough (`rlmctl log | head`). What is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FINE
    except KeyboardInterrupt:
        code = INTERRUPTED
    return code


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if arguments[:1] == ["status"]:
        from rlmctl.commands.status import quick

        if (code := quick(arguments[1:])) is not None:
            return code
    from rlmctl.commands.catalogue import find, help_text

    if not arguments:
        say(help_text())
        return WRONG
    name, *rest = arguments
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in {"-h", "--help", "help"}:
        print(help_text())
        return FINE
    if name in {"-V", "--version"}:
        from rlmd import __version__

        print(f"rlmctl {__version__}")
        return FINE
    parser, command = find(name)
    return command(parser.parse_args(rest))


def _autostarted() -> bool:
    """Start the daemon that a command lacks, where that is wanted. Raises `CommandError` where none comes up."""
    from rlmctl.daemon import autostart

    paths = places()
    if not autostart.is_wanted(paths):
        return False
    from rlmctl.daemon.process import launch

    pid, already = launch(paths)
    if not already:
        say(f"rlmctl: the daemon was not running and has been started (process {pid})")
    return True


def _complain(message: str, mend: str, code: int) -> int:
    say(f"rlmctl: {message}")
    if mend:
        say(f"  mend: {mend}")
    return code


if __name__ == "__main__":
    sys.exit(main())
