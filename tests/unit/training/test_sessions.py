"""Sessions are cached by content and answer alike every time."""

from __future__ import annotations

import numpy as np
import pytest

from shoal_core.training.sessions import Session, SessionCache
from tests.unit.training.networks import forward_graph


def feeds() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "numbers": generator.normal(size=(5, 4)).astype(np.float32),
        "param.weight": generator.normal(size=(4, 3)).astype(np.float32),
        "param.bias": generator.normal(size=3).astype(np.float32),
        "unused": np.zeros(1, np.float32),
    }


def test_a_session_answers_by_name():
    session = Session(forward_graph(4, 3, "logits"), threads=1)
    given = feeds()
    (name, answer), *rest = session.run(given).items()
    assert (name, rest) == ("logits", [])
    np.testing.assert_allclose(answer, given["numbers"] @ given["param.weight"] + given["param.bias"], rtol=1e-5)
    assert Session(forward_graph(4, 3, "logits"), threads=1).run(given)["logits"].tobytes() == answer.tobytes()


def test_a_missing_feed_is_named():
    with pytest.raises(KeyError, match=r"param\.bias"):
        Session(forward_graph(4, 3, "logits"), threads=1).run(_without("param.bias"))


def _without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in feeds().items() if key != name}


def test_the_cache_goes_by_content_and_threads_and_is_bounded():
    cache = SessionCache(capacity=2)
    graph, other = forward_graph(4, 3, "logits"), forward_graph(4, 2, "logits")
    session = cache.get(graph, 1)
    assert cache.get(bytes(bytearray(graph)), 1) is session
    assert cache.get(graph, 2) is not session
    cache.get(other, 1)
    assert len(cache) == 2
    assert cache.get(graph, 1) is not session
