"""The configuration in force: read from the file, put into force, remembered as the last good one.

A file that cannot be used changes nothing but `Configuration.error`. At a start, the last good configuration serves
in the place of such a file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from rlmd.config import policy
from rlmd.core.model import SENSELESS, Effects, Notice, Senseless
from rlmd.core.text import counted
from rlmd.wire.messages import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rlmd.core.ledger import Ledger
    from rlmd.core.model import FactKind
    from rlmd.notify.notifier import Notifier
    from rlmd.server.outbox import Outbox
    from rlmd.store.database import Store

log = logging.getLogger(__name__)

FACT: tuple[FactKind, str] = ("setting", "config")
"""The text of the last good configuration, as the state keeps it."""


class Configuration:
    """`current` is in force. `error` says why the file is refused; None where `current` is what the file says."""

    def __init__(self, path: Path, environ: Mapping[str, str], store: Store, outbox: Outbox) -> None:
        """Read the file; where it is missing or bad, use the last good configuration, else manage no provider."""
        self.path = path
        self.error: str | None = None
        self._environ = environ
        self._outbox = outbox
        self._text: str | None = None
        """The text of the last good configuration."""
        try:
            self.current = self._read()
        except policy.ConfigError as error:
            self._refuse(error)
            self._text = _last_good(store)
            self.current = self._from_last_good()

    def facts(self) -> Effects:
        """Give what the state keeps of the configuration."""
        text = self._text
        return Effects(facts={FACT: lambda: text})

    def settings(self) -> Settings:
        """Return the `[agent]` table for the agents."""
        agent = self.current.agent
        return Settings(
            daemon_timeout_ms=round(agent.daemon_timeout * 1000),
            first_byte_ms=round(agent.first_byte * 1000),
            wait_ms=round(agent.wait * 1000),
            stderr=agent.stderr,
        )

    def reload(self, ledger: Ledger, notifier: Notifier, now: float) -> Effects:
        """Put the file into force; where that cannot be, nothing changes but `error`."""
        try:
            self.current = self._read()
        except policy.ConfigError as error:
            self._refuse(error)
            return Effects(notices=[Notice("config", now, f"{error} The daemon keeps the configuration it has.")])
        self.error = None
        step = ledger.configure(self.current.policy, now)
        notifier.configure(self.current.notify, self.current.policy.zone)
        providers = counted(len(self.current.policy.providers), "provider")
        text = f"the configuration {self.path} is in force: {providers}"
        step.notices.append(Notice("config", now, text))
        return step

    def _read(self) -> policy.Config:
        text, mode = policy.read(self.path, self._environ)
        fresh = policy.parse(text, self._environ, source=str(self.path), mode=mode)
        _warn(fresh)
        self._text = text
        self._outbox.add(self.facts())
        return fresh

    def _refuse(self, error: policy.ConfigError) -> None:
        self.error = str(error)
        log.error("%s", error)

    def _from_last_good(self) -> policy.Config:
        if self._text is not None:
            try:
                source = "the last good configuration"
                last_good = policy.parse(self._text, self._environ, source=source, lenient=True)
            except policy.ConfigError as error:
                log.error("the last good configuration does not serve either: %s", error)  # noqa: TRY400
            else:
                _warn(last_good)
                log.warning("the last good configuration serves until the file is mended (then: rlmctl reload)")
                return last_good
        log.warning("no provider is managed until the file is mended (then: rlmctl reload)")
        return policy.parse("", {}, source="nothing")


def _last_good(store: Store) -> str | None:
    """Read the text of the last good configuration, if the state has one."""
    kept = store.fact(*FACT)
    if kept is None:
        return None
    try:
        return msgspec.json.decode(kept, type=str)
    except SENSELESS as error:
        store.set_aside([Senseless("fact", FACT, kept, error)])
        return None


def _warn(config: policy.Config) -> None:
    for warning in config.warnings:
        log.warning("%s", warning)
