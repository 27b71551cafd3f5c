"""Takes edited code into use: when a file of a function or of a layer changes, its idle workers are replaced."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from shoal.local.compute.spec import FunctionSpec

PERIOD_SECONDS = 1.0
_SUFFIXES = (".py", ".json", ".yaml", ".yml")
_log = logging.getLogger(__name__)


def newest_change(folders: Iterable[Path]) -> tuple[int, int]:
    """What tells that code under some folders changed: newest modification (ns since the epoch) and number of files.

    Hidden folders and bytecode don't count.
    """
    newest, count = 0, 0
    for folder in folders:
        for place, names, files in os.walk(folder):
            names[:] = [name for name in names if not name.startswith((".", "__pycache__"))]
            for file in files:
                if file.endswith(_SUFFIXES):
                    try:
                        newest = max(newest, os.stat(os.path.join(place, file)).st_mtime_ns)  # noqa: PTH116, PTH118 - hot
                    except FileNotFoundError:
                        continue
                    count += 1
    return newest, count


class CodeWatcher:
    """Looks at the code of deployed functions once a second.

    Args:
        specs: The functions.
        redeploy: Called with every function whose code changed; its busy workers finish their work first.
    """

    def __init__(self, specs: Iterable[FunctionSpec], redeploy: Callable[[FunctionSpec], None]) -> None:
        self._specs = list(specs)
        self._redeploy = redeploy
        self._seen = self._look()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="code-watcher", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def check(self) -> list[str]:
        """Redeploy what changed since the last look; returns the names."""
        now = self._look()
        changed = []
        for spec in self._specs:
            if any(now[folder] != self._seen.get(folder) for folder in (spec.code, *spec.python_path)):
                self._redeploy(spec)
                changed.append(spec.name)
        self._seen = now
        return changed

    def _look(self) -> dict[Path, tuple[int, int]]:
        folders = {folder for spec in self._specs for folder in (spec.code, *spec.python_path)}
        return {folder: newest_change([folder]) for folder in folders}

    def _run(self) -> None:
        while not self._stopped.wait(PERIOD_SECONDS):
            try:
                changed = self.check()
            except Exception:  # noqa: BLE001 - the watcher must outlive one bad look
                _log.exception("Looking for changed code failed.")
                continue
            if changed:
                _log.info("Code changed: new workers for %s.", ", ".join(changed))
