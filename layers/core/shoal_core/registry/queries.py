"""What the API asks of the catalog, answered as records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from shoal_core.errors import NotFound
from shoal_core.frozen import Frozen
from shoal_core.keys import DatasetKeys, ModelKeys
from shoal_core.registry.records import Dataset, Model, ModelSummary, Run
from shoal_core.registry.views import dataset_view, model_view, run_view
from shoal_core.store import ObjectStore

Items = list[dict[str, Any]]
# One small query per run; this many at once answer a list of a hundred in a moment.
PARALLEL_QUERIES = 16


class ReadCatalog(Protocol):
    """What the queries need of the catalog."""

    def dataset_items(self, dataset: str) -> Items:
        """See `shoal_core.aws.catalog.Catalog.dataset_items`."""

    def dataset_names(self) -> list[str]:
        """See `shoal_core.aws.catalog.Catalog.dataset_names`."""

    def run_items(self, run_id: str, with_rounds: bool = True) -> Items:
        """See `shoal_core.aws.catalog.Catalog.run_items`."""

    def run_ids(self, dataset: str | None = None, limit: int = 100) -> list[str]:
        """See `shoal_core.aws.catalog.Catalog.run_ids`."""

    def model_items(self, model: str) -> Items:
        """See `shoal_core.aws.catalog.Catalog.model_items`."""

    def model_names(self) -> list[str]:
        """See `shoal_core.aws.catalog.Catalog.model_names`."""


class Datasets(Frozen):
    """All datasets, by name."""

    datasets: list[Dataset]


class Runs(Frozen):
    """The newest runs first, without their rounds."""

    runs: list[Run]


class Models(Frozen):
    """All models, by name."""

    models: list[ModelSummary]


@dataclass(frozen=True)
class Queries:
    """The API's questions. Raises `NotFound`."""

    catalog: ReadCatalog
    artifacts: ObjectStore
    architecture: str

    def datasets(self) -> Datasets:
        """Every dataset with its newest version."""
        return Datasets(datasets=[self._dataset(name, False) for name in self.catalog.dataset_names()])

    def dataset(self, name: str) -> Dataset:
        """One dataset with all its versions."""
        return self._dataset(name, True)

    def _dataset(self, name: str, with_versions: bool) -> Dataset:
        items = self.catalog.dataset_items(name)
        unfinished = {item["run_id"] for item in items if item.get("status") == "preparing"}
        failed = {run_id for run_id in unfinished if self._status(run_id) == "failed"}
        return dataset_view(items, failed, with_versions)

    def _status(self, run_id: str) -> str:
        return run_view(self.catalog.run_items(run_id, with_rounds=False), self.architecture).status

    def report(self, name: str, version: str) -> dict[str, Any]:
        """What was kept of a dataset version, what was dropped, and why."""
        try:
            return dict(json.loads(self.artifacts.read(DatasetKeys(name, version).report)))
        except NotFound as error:
            raise NotFound(
                f"Dataset {name!r} has no report for version {version!r}.",
                f"See GET /datasets/{name} for its versions; a report is there once the version is ready.",
            ) from error

    def runs(self, dataset: str | None = None, limit: int = 100) -> Runs:
        """The newest runs, of one dataset or of all."""
        ids = self.catalog.run_ids(dataset, limit)
        with ThreadPoolExecutor(PARALLEL_QUERIES) as pool:
            found = list(pool.map(lambda run_id: self.catalog.run_items(run_id, with_rounds=False), ids))
        return Runs(runs=[_listed(run_view(items, self.architecture)) for items in found])

    def run(self, run_id: str) -> Run:
        """One run with its rounds."""
        return run_view(self.catalog.run_items(run_id), self.architecture)

    def models(self) -> Models:
        """Every model with its version in production."""
        names = self.catalog.model_names()
        return Models(models=[_summary(model_view(self.catalog.model_items(name))) for name in names])

    def model(self, name: str, api_url: str) -> Model:
        """One model: versions, aliases, what it takes and where it answers."""
        items = self.catalog.model_items(name)
        keys = ModelKeys(name, model_view(items).aliases["production"])
        spec: Mapping[str, Any] = json.loads(self.artifacts.read(keys.spec))
        return model_view(items, f"{api_url}/models/{name}/predict", spec)


# What grows with the number of classes: lists of many runs or models would outgrow Lambda's 6 MB answer.
_HEAVY = frozenset({"per_class", "confusion_matrix", "classes"})


def _light(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in _HEAVY}


def _listed(run: Run) -> Run:
    return run.model_copy(update={"metrics": _light(run.metrics)})


def _summary(model: Model) -> ModelSummary:
    production = model.aliases["production"]
    current = next(version for version in model.versions if version.version == production)
    return ModelSummary(
        name=model.name,
        production=production,
        versions=len(model.versions),
        task=model.task,
        metrics=_light(current.metrics),
        updated_at=current.created_at,
    )
