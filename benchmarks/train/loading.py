"""Samples per second of whole training epochs: shards, shuffling, varying, steps; one side in a process of its own.

`python -m benchmarks.train.loading JOB SOURCE OUT WORKERS`; JOB is `shoal-NET` or `pytorch-NET` or `pytorch-loader-NET`
(with a process of the DataLoader's own). Both sides train once untimed, so that everything is loaded and warm.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from benchmarks.data.contender import Task, main
from benchmarks.data.driving import Place
from benchmarks.train.networks import DEVIATION, MEAN, NETS
from benchmarks.train.samples import SHIFT, run_for

BATCH = 64


def shoal(task: Task, name: str) -> None:
    """A round of the product's worker: checkpoint, shards, batches, steps, update."""
    from shoal_core.training.merging import merge_round
    from shoal_core.training.rounds import read_settings, train_shard
    from shoal_core.training.starting import start_training

    place = Place(task.source, NETS[name].sees)
    # Each repetition is a run of its own, or the worker would find its update there.
    run_id = run_for(name, place, 2, {"seed": _number(task)})
    start_training(place.artifacts, run_id, place.dataset, place.version)
    train_shard(place.artifacts, run_id, 1, 0)
    merge_round(place.artifacts, run_id, 1)
    with task.clock():
        train_shard(place.artifacts, run_id, 2, 0)
    task.measured["samples"] = read_settings(place.artifacts, run_id).steps_per_round * BATCH


def pytorch(task: Task, name: str, processes: int = 0) -> None:
    """An epoch of the eager loop over a DataLoader."""
    import torch
    from torch.utils.data import DataLoader

    from benchmarks.train.torch_steps import torch_module

    torch.set_num_threads(task.workers)
    torch.manual_seed(0)
    data = _dataset(Place(task.source, NETS[name].sees), NETS[name].sees)
    # As the product's batches, each is full.
    loader = DataLoader(
        data, BATCH, shuffle=True, num_workers=processes, drop_last=True, persistent_workers=processes > 0
    )
    module: Any = torch_module(name).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def epoch() -> int:
        seen = 0
        for inputs, target in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs), target).backward()
            optimizer.step()
            seen += len(target)
        return seen

    epoch()
    with task.clock():
        seen = epoch()
    task.measured["samples"] = seen


def _dataset(place: Place, kind: str) -> Any:
    """A map-style dataset over the arrays that the shards hold, as one writes it: images are moved one by one."""
    import torch
    from torch.utils.data import Dataset, TensorDataset

    from shoal_core.training.batches import load_shard

    shards = [load_shard(place.artifacts, shard) for shard in place.manifest().train]
    inputs, target = (torch.from_numpy(np.concatenate([shard[key] for shard in shards])) for key in (kind, "target"))
    if kind != "image":
        return TensorDataset(inputs, target.long())
    reach = round(SHIFT * inputs.shape[-1])

    class Images(Dataset):
        def __len__(self) -> int:
            return len(inputs)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image = (inputs[index].float() - MEAN) / DEVIATION
            padded = torch.nn.functional.pad(image[None], (reach,) * 4, mode="replicate")[0]
            down, right = torch.randint(0, 2 * reach + 1, (2,)).tolist()
            return padded[:, down : down + image.shape[1], right : right + image.shape[2]], int(target[index])

    return Images()


def _number(task: Task) -> int:
    """A number that no repetition before had."""
    return sum(1 for _ in (task.source / "artifacts" / "runs").glob("*")) if task.source.exists() else 0


JOBS = {
    **{f"shoal-{name}": functools.partial(shoal, name=name) for name in NETS},
    **{f"pytorch-{name}": functools.partial(pytorch, name=name) for name in NETS},
    **{f"pytorch-loader-{name}": functools.partial(pytorch, name=name, processes=1) for name in NETS},
}

if __name__ == "__main__":
    main(JOBS)
