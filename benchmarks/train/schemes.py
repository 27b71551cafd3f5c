"""Accuracy by scheme, on the example's digits or another set: equal shards, epochs and batches, several seeds.

`python -m benchmarks.train.schemes --workers 4 --seeds 3 [--data cuts]`. Workers run one after the other in this
process, so nothing here is about time; what a scheme moves is counted by `exchange`.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.data.driving import Place, in_this_process
from benchmarks.quality.measuring import Effort, committed, score
from benchmarks.quality.sets import SETS
from benchmarks.quality.training import finish, request_run, train

DIGITS = {"batch_size": 64, "epochs": 25, "optimizer": "adam"}
"""So that a step a round makes no more rounds than a run may have: 491 steps. Other sets are left to the recipe."""
SCHEMES: dict[str, dict[str, Any]] = {
    "one worker": {"workers": 1},
    "synchronous": {"training": {"scheme": "synchronous"}},
    "local, 10 rounds": {"training": {"scheme": "local"}, "rounds": 10},
    "diloco, 10 rounds": {"training": {"scheme": "diloco"}, "rounds": 10},
    "local, 31 rounds": {"training": {"scheme": "local"}, "rounds": 31},
    "diloco, 31 rounds": {"training": {"scheme": "diloco"}, "rounds": 31},
    "as chosen": {},
    "local, as many rounds": {"training": {"scheme": "local"}},
}


def accuracy(place: Place, scheme: dict[str, Any], workers: int, seed: int, data: str, optimizer: str | None) -> float:
    """Of the served model on the test split, in percent."""
    common: dict[str, Any] = {"patience": 0, **(DIGITS if data == "digits" else {})}
    common |= {"optimizer": optimizer} if optimizer else {}
    asked = {
        "workers": workers,
        "seed": seed,
        "optimize": {"prune": False, "int8": False},
        **scheme,
        "training": {**common, **scheme.get("training", {})},
    }
    run_id = request_run(place, asked)
    train(place, run_id)
    return 100 * score(SETS[data], finish(place, run_id))


def main() -> None:
    """Print a row for each scheme."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="digits", choices=SETS)
    parser.add_argument("--optimizer", help="instead of the usual one")
    parser.add_argument("--only", nargs="*", default=list(SCHEMES))
    options = parser.parse_args()
    with committed(SETS[options.data], 0, Effort(False, in_this_process), "workers: 8\n") as place:
        for name in options.only:
            seeds = range(options.seeds)
            found = [
                accuracy(place, SCHEMES[name], options.workers, seed, options.data, options.optimizer) for seed in seeds
            ]
            each = ", ".join(f"{score:.2f}" for score in found)
            workers = SCHEMES[name].get("workers", options.workers)
            title = f"{options.data}: {name}, W = {workers}{f', {options.optimizer}' if options.optimizer else ''}"
            print(f"{title}: {statistics.fmean(found):.2f} % ({each})", flush=True)


if __name__ == "__main__":
    main()
