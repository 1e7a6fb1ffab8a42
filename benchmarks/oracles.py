"""How far our losses, advantages and head are from TRL's and verl's on the same numbers: one table.

The comparisons are those of ``tests/oracles``, which hold them to tolerances. TRL and verl pin different versions of
transformers, so each wants a venv of its own; this prints the rows of the peers it finds, and names the others.

    pip install 'torch==2.13.0' 'trl==1.16.0'                                              # beside entlaw
    pip install 'torch==2.13.0' 'verl==0.9.1' cachetools uvicorn fastapi TransferQueue     # in a venv of its own

Run: python benchmarks/oracles.py [--prime PATH/TO/verl/recipe/prime/prime_core_algos.py]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))  # tests/ is no package of the installed distribution


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--prime", metavar="PATH", help="prime_core_algos.py of verl's recipes, in no package"
    )
    prime = parser.parse_args().prime
    warnings.simplefilter("ignore")  # the peers' own; the tests hear them

    import torch

    from tests.oracles.common import Comparison, render

    torch.set_num_threads(1)
    rows: list[Comparison] = []
    for peer in ("trl", "verl"):
        if importlib.util.find_spec(peer) is None:
            print(f"{peer} is not installed here: no rows", file=sys.stderr)
            continue
        cases = importlib.import_module(f"tests.oracles.{peer}_cases")
        rows += cases.all_comparisons() if peer == "trl" else cases.all_comparisons(prime)
        print(f"{peer} {importlib.metadata.version(peer)}, torch {torch.__version__}, {platform.machine()}\n")
    if not rows:
        sys.exit("no peer is installed: see the top of this file")
    print(render(rows))


if __name__ == "__main__":
    main()
