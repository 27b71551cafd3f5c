"""How tests are dealt out to processes (`--dist loadfile`): by file; files that share a costly fixture together.

No generated example has a deadline: how long one takes is the machine's business, not the test's.
"""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

# A run of the real pipeline is made once for all tests of the folder, unless a process leaves and comes back.
TOGETHER = ("tests/unit/functions/",)

hypothesis.settings.register_profile("shoal", deadline=None)
hypothesis.settings.load_profile("shoal")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out files, and the folders of `TOGETHER` whole."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid))

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None
