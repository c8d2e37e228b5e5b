"""Look for bytes that break a target, led by what code each input reaches.

    pip install atheris
    python tests/shared/fuzz.py decoding --runs 1000000

Without atheris the inputs are those that `fuzz_samples` makes up. What breaks a target is written to a file, which
`python tests/shared/fuzz.py TARGET FILE` plays again. Other arguments go to libFuzzer.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

atheris: Any = importlib.import_module("atheris") if importlib.util.find_spec("atheris") else None
with atheris.instrument_imports(include=["rlmd"]) if atheris else contextlib.nullcontext():
    from fuzz_samples import begin_with, damage, damaged
    from fuzz_targets import TARGETS


def main() -> None:
    """Run one target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=1_000_000, help="how many inputs (default: 1,000,000)")
    chosen, others = parser.parse_known_args()
    target = TARGETS[chosen.target]
    if atheris is None:
        begun = time.monotonic()
        for data in damaged(1, chosen.runs):
            target(data)
        print(f"{chosen.target}: {chosen.runs} inputs in {time.monotonic() - begun:.0f} s, none breaks it")  # noqa: T201  (its result)
        return
    there = begin_with()

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        """Half of the inputs are made of what there is to begin with: coverage does not see into the JSON decoder."""
        rng = random.Random(seed)
        return damage(data if rng.random() < 0.5 else rng.choice(there), there, rng, longest)

    with tempfile.TemporaryDirectory(prefix="rlmd-fuzz-") as corpus:
        for number, data in enumerate(there):
            (Path(corpus) / f"{number}").write_bytes(data)
        played_again = [name for name in others if Path(name).is_file()]
        options = [f"-runs={chosen.runs}", "-max_len=4096", "-print_final_stats=1", "-rss_limit_mb=1024"]
        atheris.Setup(
            [sys.argv[0], *options, *others, *([] if played_again else [corpus])], target, custom_mutator=mutate
        )
        atheris.Fuzz()


main()
