"""How tests are dealt out to processes (`--dist loadgroup`): by file; files that share a costly fixture together.

No generated example has a deadline: how long one takes is the machine's business, not the test's.
"""

from __future__ import annotations

import hypothesis
import pytest

# A run of the real pipeline is made once for all tests of the folder, unless a process leaves and comes back.
TOGETHER = ("tests/unit/functions/",)

hypothesis.settings.register_profile("shoal", deadline=None)
hypothesis.settings.load_profile("shoal")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name every test's group."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        path, _, _ = item.nodeid.partition("::")
        group = next((folder for folder in TOGETHER if path.startswith(folder)), path)
        item.add_marker(pytest.mark.xdist_group(group))
