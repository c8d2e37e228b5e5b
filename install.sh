#!/bin/sh
# Installs rlmd from this checkout into a home of its own, shows it working, and leaves it running.
# Run it again to upgrade. `rlmctl uninstall opencode`, `rlmctl uninstall systemd`, `rlmctl stop` and `rm -r` of the two
# places below remove it.
set -eu
cd "$(dirname "$0")"
home=${XDG_DATA_HOME:-$HOME/.local/share}/rlmd
bin=$HOME/.local/bin

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "rlmd needs Python 3.11 or newer; $("$python" --version) is what '$python' runs. Name another: PYTHON=python3.12 $0" >&2
    exit 1
}
"$python" -m venv "$home" || {
    echo "No virtual environment could be made in $home. On Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
}
"$home/bin/pip" install --quiet --disable-pip-version-check --upgrade .
mkdir -p "$bin"
ln -sf "$home/bin/rlmd" "$home/bin/rlmctl" "$bin/"

"$home/bin/rlmctl" demo
echo
"$home/bin/rlmctl" setup --yes
case :$PATH: in
    *:"$bin":*) ;;
    *) echo "Add $bin to your PATH, or call $bin/rlmctl." ;;
esac
