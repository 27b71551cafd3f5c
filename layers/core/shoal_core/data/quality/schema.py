"""The JSON Schema of `report.json`: `python -m shoal_core.data.quality.schema FILE` writes it.

Source of the format: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shoal_core.data.report import Report


def report_schema() -> str:
    """The schema as JSON text, ordered."""
    schema = Report.model_json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(report_schema(), encoding="utf-8")
