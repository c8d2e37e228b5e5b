"""What is installed from the wheel has everything that `rlmctl install` needs."""

from __future__ import annotations

import tomllib

from usermanager import CHECKOUT

from rlmctl.daemon.services import shipped
from rlmctl.daemon.services.launchd import FILE
from rlmctl.daemon.services.systemd import SERVICE, SOCKET, STRICT


def test_the_files_of_the_services_are_found() -> None:
    assert all((shipped("systemd") / name).is_file() for name in (SOCKET, SERVICE, STRICT))
    assert (shipped("launchd") / FILE).is_file()


def test_the_wheel_takes_them_to_where_they_are_looked_for() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert wheel == {"systemd": "rlmctl/daemon/services/systemd", "launchd": "rlmctl/daemon/services/launchd"}
    assert (CHECKOUT / "rlmctl" / "daemon" / "services" / "__init__.py").is_file()
