"""The catalog's models: versions that never change, and aliases that do, each change on the state that was seen."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shoal_core.aws.clock import now
from shoal_core.aws.table import Item, Table, document, update_arguments
from shoal_core.errors import Conflict, NotFound, Unavailable, split_message
from shoal_core.registry.routing import CANDIDATE, PRODUCTION, Aliases, read_aliases, require, retired

if TYPE_CHECKING:  # dozens of models that predict and authorize would build at every cold start and never use
    from shoal_core.registry.promotion import Decide
    from shoal_core.registry.records import ModelVersion

_ATTEMPTS = 20
_PATIENCE, _LONGEST_PAUSE = 5.0, 1.0  # seconds
Change = Callable[[Aliases], Aliases]
Commit = Callable[[Aliases, Aliases, Sequence[Item]], bool]
"""Applies the updates that make the second aliases of the first; False where somebody else was faster."""


class ModelCatalog:
    """The part of `Catalog` that is about models. Raises `NotFound` and `Unavailable`."""

    def __init__(self, table: Table | None = None) -> None:
        self._table = table or Table()

    def reserve_version(self, model: str, run_id: str) -> int:
        """The number that a run's version of a model has: the same one each time it is asked."""
        pk = f"MODEL#{model}"
        for _ in range(_ATTEMPTS):
            guard = self._table.get(pk, f"RUN#{run_id}")
            if guard:
                return int(guard["version"])
            counter = self._table.get(pk, "MODEL")
            version = counter["reserved"] + 1 if counter else 1
            step = update_arguments(
                pk,
                "MODEL",
                "SET reserved = :version, #name = :name",
                {":version": version, ":previous": version - 1, ":name": model},
                condition="attribute_not_exists(pk) OR reserved = :previous",
                names={"#name": "name"},
            )
            self._table.put_all_new([{"pk": pk, "sk": f"RUN#{run_id}", "version": version}], step)
        raise Unavailable(f"Model {model!r}: too many runs register at once.", "Nothing to do: it is retried.")

    def publish_version(
        self, model: str, version: ModelVersion, decide: Decide | None = None, order: str | None = None
    ) -> ModelVersion:
        """List a version whose files are all there, and do with it what is decided.

        The version, the decision and what it changes are one transaction on the state that was judged, so a decision
        that is listed was true, and a repeated call changes nothing.

        Args:
            model: The model.
            version: The version.
            decide: Says what becomes of it; None lets the newest upload's version serve. Asked again whenever the
                model has changed meanwhile.
            order: Sorts versions by time of upload; None looks it up at the version's dataset.

        Returns:
            The version as it is listed.

        Raises:
            Unavailable: Others changed the model at the same time, again and again.
        """
        from shoal_core.registry.promotion import newest_serves
        from shoal_core.registry.records import ModelVersion

        pk = f"MODEL#{model}"
        if order is None:
            upload = self._table.get(f"DATASET#{version.dataset}", f"VERSION#{version.dataset_version}") or {}
            order = str(upload.get("upload_order", ""))
        for _ in range(_ATTEMPTS):
            listed = self._table.get(pk, f"VERSION#{version.version:06d}")
            if listed is not None:
                return ModelVersion.model_validate_json(listed["record"])
            record = self._table.get(pk, "MODEL") or {}
            decided = version.model_copy(
                update={"promotion": dict((decide or newest_serves)(_standing(record, version.version, order)))}
            )
            item = {"pk": pk, "sk": f"VERSION#{version.version:06d}"}
            entry = {**item, "record": document(decided.model_dump(mode="json"))}
            if self._table.put_all_new([entry], *_registration(pk, model, record, decided, order)):
                return decided
        raise Unavailable(f"Model {model!r}: too many change it at once.", "Nothing to do: it is retried.")

    def aliases(self, model: str) -> Aliases:
        """All aliases of a model. Raises `NotFound`."""
        item = self._table.get(f"MODEL#{model}", "MODEL")
        if item is None or "production" not in item:
            raise NotFound(f"Model {model!r} doesn't exist.", "See GET /models for those that do.")
        return read_aliases(item)

    def alias(self, model: str, alias: str = PRODUCTION) -> int:
        """The version that an alias points at. Raises `NotFound`."""
        return require(self.aliases(model), model, alias)

    def champion_of(self, model: str, run_id: str) -> int | None:
        """The version in production that a run's model is measured against; None where there is none but its own."""
        item = self._table.get(f"MODEL#{model}", "MODEL") or {}
        own = self._table.get(f"MODEL#{model}", f"RUN#{run_id}") or {}
        champion = item.get("production")
        return None if champion is None or champion == own.get("version") else int(champion)

    def require_version(self, model: str, version: int) -> None:
        """Raise `NotFound` when a model has no such version."""
        if self._table.get(f"MODEL#{model}", f"VERSION#{version:06d}") is None:
            raise NotFound(f"Model {model!r} has no version {version}.", f"See GET /models/{model} for its versions.")

    def change_aliases(self, model: str, change: Change, commit: Commit | None = None) -> tuple[Aliases, Aliases]:
        """Change a model's aliases, at once and without a deployment.

        Args:
            model: The model.
            change: Makes the new aliases of the present ones; asked again when somebody else was faster.
            commit: Writes the change with what belongs to it, such as its audit entry; None writes the change alone.

        Returns:
            The aliases before and after; nothing is written where they are equal.

        Raises:
            NotFound: No such model.
            Conflict: Others change it again and again.
        """
        pk = f"MODEL#{model}"
        deadline = time.monotonic() + _PATIENCE
        for attempt in itertools.count():
            before = self.aliases(model)
            after = change(before)
            if after == before:
                return before, before
            after = dataclasses.replace(after, revision=before.revision + 1)
            updates = [_change(pk, before, after), *_canary_mark(pk, model, after)]
            if commit(before, after, updates) if commit else self._table.put_all_new([], *updates):
                return before, after
            if time.monotonic() > deadline:
                break
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.02 * 2 ** min(attempt, 10))))
        raise Conflict(
            f"Others move the aliases of model {model!r}, or write audit entries, right now.",
            "Look at it, and try again.",
        )

    def move_production(self, model: str, version: int | None = None, commit: Commit | None = None) -> tuple[int, int]:
        """Point `production` at another version; whatever split the traffic ends.

        A run that is registered late doesn't undo it; the next upload's model may.

        Args:
            model: The model.
            version: Where to; None goes back: it ends a canary or an A/B split where one is under way, else the
                version that served before serves again.
            commit: As for `change_aliases`.

        Returns:
            The versions before and after.

        Raises:
            NotFound: No such model or version, or none that served before.
        """
        if version is not None:
            self.aliases(model)
            self.require_version(model, version)

        def back(aliases: Aliases) -> Aliases:
            if version is not None:
                return aliases.with_production(version)
            if aliases.canary is not None or aliases.targets:
                return dataclasses.replace(aliases, canary=None, targets=())
            if aliases.served_before is None:
                raise NotFound(
                    f"Model {model!r} has no version that served before.", f"See GET /models/{model} for its versions."
                )
            return aliases.with_production(aliases.served_before)

        before, after = self.change_aliases(model, back, commit)
        return retired(before, after), after.production

    def models_with_canary(self) -> list[str]:
        """Names of the models that have a canary under way; eventually consistent."""
        return sorted(str(item["sort"]) for item in self._table.newest("CANARY"))

    def clear_canary_mark(self, model: str, revision: int) -> None:
        """Take a model without a canary out of the index, unless its aliases have changed since `revision`."""
        self._table.update(
            f"MODEL#{model}",
            "CANARY",
            "REMOVE kind, sort SET revision = :revision",
            {":revision": revision},
            condition="attribute_not_exists(revision) OR revision <= :revision",
        )

    def model_items(self, model: str) -> list[dict[str, Any]]:
        """A model's record and versions. Raises `NotFound`."""
        items = list(self._table.query(f"MODEL#{model}"))
        if any(item["sk"].startswith("VERSION#") for item in items):
            return items
        refused = [json.loads(item["refused"]) for item in items if item["sk"].startswith("IMPORT#")]
        if refused:
            reason, fix = split_message(max(refused, key=lambda told: told["at"])["message"])
            raise NotFound(f"Model {model!r} has no version; its last import was refused: {reason}", fix)
        raise NotFound(f"Model {model!r} doesn't exist.", "See GET /models for those that do.")

    def run_in_production(self, model: str) -> str | None:
        """The run that made the version in production; None where there is none, or it was brought from elsewhere."""
        record = self._table.get(f"MODEL#{model}", "MODEL") or {}
        if "production" not in record:
            return None
        version = require(read_aliases(record), model, PRODUCTION)
        entry = self._table.get(f"MODEL#{model}", f"VERSION#{version:06d}")
        return str(json.loads(entry["record"])["run_id"]) or None if entry else None

    def model_names(self) -> list[str]:
        """Names of all models, in order."""
        return sorted(item["name"] for item in self._table.newest("MODEL"))


def _standing(record: Item, version: int, order: str) -> Any:  # noqa: ANN401 - a Standing, imported where it is used
    from shoal_core.registry.promotion import Standing

    if "production" not in record:
        return Standing(None)
    served = (str(record.get("production_order", "")), int(record.get("published", 0)))
    return Standing(read_aliases(record), late=(order, version) <= served)


def _registration(pk: str, model: str, record: Item, version: ModelVersion, order: str) -> list[Item]:
    """What the decision on a new version changes in the model's record."""
    from shoal_core.registry.promotion import LATE, SERVES

    decision = version.promotion["decision"]
    if decision == LATE:
        return []
    before = read_aliases(record) if "production" in record else None
    if decision == SERVES:
        after = before.with_production(version.version) if before else Aliases(version.version)
        after = dataclasses.replace(after, revision=(before.revision if before else 0) + 1)
        extra = {
            "published": version.version,
            "production_order": order,
            "task": version.task,
            "kind": "MODEL",
            "sort": model,
        }
        return [_change(pk, before, after, extra, version.created_at)]
    if before is None:
        raise ValueError("the first version of a model can't wait for a better one")
    after = before.with_named(CANDIDATE, version.version)
    return [_change(pk, before, dataclasses.replace(after, revision=before.revision + 1))]


def _change(
    pk: str, before: Aliases | None, after: Aliases, extra: dict[str, Any] | None = None, moment: str | None = None
) -> Item:
    """The update that makes `after` of `before`, if nobody else has changed it."""
    values: dict[str, Any] = {
        "production": after.production,
        "aliases": after.document(),
        "revision": after.revision,
        "updated_at": moment or now(),
        **(extra or {}),
    }
    if after.served_before is not None:
        values["served_before"] = after.served_before
    seen = before.revision if before else 0
    return update_arguments(
        pk,
        "MODEL",
        "SET " + ", ".join(f"#{name} = :{name}" for name in values),
        {**{f":{name}": value for name, value in values.items()}, **({":seen": seen} if seen else {})},
        condition="revision = :seen" if seen else "attribute_not_exists(revision)",
        names={f"#{name}": name for name in values},
    )


def _canary_mark(pk: str, model: str, after: Aliases) -> list[Item]:
    """A record that is in the index while a canary is under way."""
    if after.canary is None:
        return [
            update_arguments(pk, "CANARY", "SET revision = :revision REMOVE kind, sort", {":revision": after.revision})
        ]
    return [
        update_arguments(
            pk,
            "CANARY",
            "SET kind = :kind, sort = :name, revision = :revision",
            {":kind": "CANARY", ":name": model, ":revision": after.revision},
        )
    ]
