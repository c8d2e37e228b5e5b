"""The limiter in Redis, called through redis-py, as a program in Python would.

`python -m benchmarks.beside.redis_py SOCKET`, by a Python that has redis.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.beside.worker import serve

LIMITER = Path(__file__).with_name("limiter.lua")


def main() -> None:
    """Call the script for two providers."""
    redis: Any = import_module("redis")
    client = redis.Redis(unix_socket_path=sys.argv[1])
    limiter = client.register_script(LIMITER.read_text(encoding="utf-8"))
    serve(lambda: limiter(keys=["anthropic", "openrouter"], args=[10**8, 10**9]))


if __name__ == "__main__":
    main()
