"""For every test: the processes that it starts can be interrupted."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take the interrupt back where nohup, cron or a background job has it ignored: children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
