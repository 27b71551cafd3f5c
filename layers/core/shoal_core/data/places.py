"""Where a sample stood in its source, in words."""

from __future__ import annotations

import json

from shoal_core.data.pieces import PLACE
from shoal_core.data.plan import Plan
from shoal_core.data.reading import KeyTable, PieceReader
from shoal_core.data.tables.places import FILE_STEP, describe_place, table_files


class PlaceReader:
    """Names samples of a table: a line of a file lies among the keys as a number, a name beside the piece."""

    def __init__(self, reader: PieceReader, plan: Plan) -> None:
        self._reader, self._plan = reader, plan
        self._names: dict[int, list[str]] = {}

    def of(self, table: KeyTable, index: int) -> str:
        """The place of one sample: `line 7` (with its file where there are several), or a name."""
        if PLACE in (table.keys.dtype.names or ()):
            return describe_place(self._plan, int(table.keys[PLACE][index]))
        item = int(table.item[index])
        if item not in self._names:
            self._names[item] = json.loads(self._reader.read_places(item))
        return self._names[item][int(table.row[index])]

    def file(self, table: KeyTable, index: int) -> str:
        """The file that it lies in."""
        if PLACE in (table.keys.dtype.names or ()):
            number = int(table.keys[PLACE][index]) // FILE_STEP
            files = table_files(self._plan)
            if number < len(files):
                return files[number].name
        return self._plan.source_name
