"""Files as Keras' and JAX's exporters write them (recorded/record.py): fitted, tried, and seen to learn."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal_core.errors import UnsupportedOperator
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.signature import NetworkSignature
from shoal_core.training.networks.proving import prove
from tests.unit.graphs.networks import batch
from tests.unit.training.own_networks.test_adopting import CLASSES, IMAGES, TEXTS, WINDOWS, adopt

RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.parametrize(
    ("name", "signature", "trained", "numbers"),
    [
        # Convolution without bias, BatchNormalization folded into it, its shift, and a layer.
        ("keras_images", IMAGES, 4, 36 + 4 + 36 * 3 + 3),
        ("keras_windows", WINDOWS, 5, 2 * (20 * 2 + 20 * 5 + 40) + 10 * 3 + 3),
        ("keras_attention", WINDOWS, 14, 3 * (64 + 8) + 64 + 8 + 16 + 16 + 8 + 24 + 3),
        ("keras_texts", TEXTS, 5, 20 * 6 + 8 * 18 + 8 + 8 * 3 + 3),
        ("jax_images", IMAGES, 6, 36 + 4 + 4 + 4 + 64 * 3 + 3),
        ("jax_attention", WINDOWS, 12, 16 + 8 + 4 * (64 + 8) + 24 + 3),
    ],
)
def test_a_recorded_export_learns(name: str, signature: NetworkSignature, trained: int, numbers: int) -> None:
    adopted = adopt((RECORDED / f"{name}.onnx").read_bytes(), signature)
    forward = adopted.forward
    assert len(forward.parameters) == trained
    assert sum(value.size for value in forward.initial.values()) == numbers
    assert prove(forward, loss_for(CLASSES, None, {}), batch(signature, 12, seed=1), 60).warnings == ()
    if name.startswith("keras"):
        assert any("tf2onnx leaves out" in note for note in adopted.notes)
    assert len(forward.buffers) == (2 if name == "jax_images" else 0)


def test_a_recorded_loop_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperator, match=r"Operator Loop \(node 'sequential.*while_loop'\) is control flow"):
        adopt((RECORDED / "keras_loop.onnx").read_bytes(), WINDOWS)
