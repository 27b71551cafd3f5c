"""Start Training: resolve the settings, build the graphs and the first checkpoint; or find where a run stopped."""

from __future__ import annotations

from typing import Any

from shoal_core.aws.handler import RunEvent, artifacts, catalog, stage
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.settings import shown_settings
from shoal_core.training.starting import start_training


@stage("Start Training", RunEvent)
def handler(event: RunEvent) -> dict[str, Any]:
    """Return the round to run next."""

    def production() -> str | None:
        return catalog().run_in_production(event.dataset)

    state = start_training(artifacts(), event.run_id, event.dataset, event.version, production)
    settings = read_settings(artifacts(), event.run_id)
    shown = shown_settings(settings, read_manifest(artifacts(), settings))
    catalog().settings_resolved(event.run_id, shown, settings.inferred, settings.warnings)
    return state.model_dump()
