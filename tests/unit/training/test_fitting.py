"""Whether a run's step fits into a worker, and what is done and said where it doesn't."""

import pathlib

import pytest

from shoal_core.errors import BadConfig
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Adam
from shoal_core.graphs.recipes import build_forward
from shoal_core.graphs.signature import Classification, ImageInput, NetworkSignature
from shoal_core.training.fitting import WORKER_BYTES, StepFitter
from tests.unit.training.runs import classification_run


def fitted(side, recompute="auto", batch=64, recipe="vgg"):
    """The reasons of a run on images of this side, and how many nodes its step has."""
    _, settings, _ = classification_run()
    settings = settings.model_copy(update={"local_batch_size": batch})
    image = ImageInput(shape=(1, side, side), mean=(100.0,), std=(50.0,))
    signature = NetworkSignature(image=image, task=Classification(classes=3))
    forward = build_forward(recipe, {}, signature, 0)
    fitter = StepFitter(loss_for(signature.task), Adam(), settings, recompute)
    nodes = len(fitter.step(forward).graph.node)
    return fitter.told(settings).reasons, nodes


def test_the_workers_memory_is_the_templates():
    template = (pathlib.Path(__file__).parents[3] / "template.yaml").read_text(encoding="utf-8")
    function = template[template.index("functions/train_shard/") :]
    assert f"MemorySize: {WORKER_BYTES // 2**20}" in function[:200]


def test_what_fits_is_kept():
    reasons, _ = fitted(32)
    assert "recompute" not in reasons


def test_what_doesnt_fit_is_computed_twice_and_the_run_says_so():
    reasons, nodes = fitted(200)
    assert "instead of 1," in reasons["recompute"]
    assert "2 parts of the network run twice" in reasons["recompute"]
    kept, fewer = fitted(200, "never")
    assert "recompute" not in kept
    assert fewer < nodes


def test_always_computes_twice_what_would_fit():
    assert "run twice" in fitted(32, "always")[0]["recompute"]


def test_what_cant_fit_is_refused_with_what_to_change():
    with pytest.raises(BadConfig, match="of 64 samples takes about") as caught:
        fitted(400, recipe="resnet")
    assert "training.batch_size" in caught.value.fix
    assert "recompute" not in fitted(400, batch=4, recipe="resnet")[0]
    with pytest.raises(BadConfig, match="a worker has 1,769"):
        fitted(400, "never", recipe="resnet")
