"""Whether a run's step fits into a worker, and what is done and said where it doesn't."""

import pathlib

import pytest

from shoal_core.data.config import DatasetConfig
from shoal_core.errors import BadConfig
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.optimizers import Adam
from shoal_core.graphs.recipes import build_forward
from shoal_core.graphs.signature import Classification, ImageInput, NetworkSignature
from shoal_core.training.fitting import StepFitter
from shoal_core.training.rounds import read_settings
from shoal_core.training.starting import start_training
from shoal_core.training.worker import ONE_VCPU, Worker, useful_threads
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import DATASET, VERSION, blobs, commit, table_spec
from tests.unit.training.runs import classification_run


def fitted(side, recompute="auto", batch=64, recipe="vgg", memory_mb=ONE_VCPU.memory_mb):
    """The reasons of a run on images of this side, and how many nodes its step has."""
    _, settings, _ = classification_run()
    settings = settings.model_copy(update={"local_batch_size": batch})
    image = ImageInput(shape=(1, side, side), mean=(100.0,), std=(50.0,))
    signature = NetworkSignature(image=image, task=Classification(classes=3))
    forward = build_forward(recipe, {}, signature, 0)
    fitter = StepFitter(loss_for(signature.task), Adam(), settings, recompute, Worker(memory_mb=memory_mb))
    nodes = len(fitter.step(forward).graph.node)
    return fitter.told(settings).reasons, nodes


def test_the_workers_memory_is_the_templates():
    template = (pathlib.Path(__file__).parents[3] / "template.yaml").read_text(encoding="utf-8")
    assert f"TrainingMemory: {{Type: Number, Default: {ONE_VCPU.memory_mb}, MinValue" in template
    assert "SHOAL_TRAINING_MEMORY: !Ref TrainingMemory" in template
    for name in ("compute_features", "train_shard", "merge_round", "evaluate_model", "optimize_model"):
        function = template[template.index(f"functions/{name}/") :]
        assert "MemorySize: !Ref TrainingMemory" in function[:100]


@pytest.mark.parametrize(("memory_mb", "threads"), [(512, 1), (1769, 1), (3537, 1), (3538, 2), (10_240, 5)])
def test_every_whole_processor_is_a_thread(memory_mb, threads):
    assert Worker(memory_mb=memory_mb).threads == threads


@pytest.mark.parametrize(
    ("recipe", "largest", "threads"),
    [("rnn", 49_999, 1), ("rnn", 50_000, 4), ("mlp", 199_999, 1), ("mlp", 200_000, 4), ("linear", 9, 1), ("cnn", 9, 4)],
)
def test_threads_share_what_is_large_enough(recipe, largest, threads):
    assert useful_threads(recipe, largest, 4) == threads
    assert useful_threads(recipe, largest, 1) == 1


def test_a_run_uses_the_threads_that_its_network_can_share():
    splits = {"train": blobs(64), "validation": blobs(20, seed=1)}
    for hidden, threads in ([8], 1), ([512, 512], 2):
        store = MemoryStore()
        commit(store, table_spec(), splits, config=DatasetConfig(recipe="mlp", network={"hidden": hidden}))
        start_training(store, "run", DATASET, VERSION, worker=Worker(memory_mb=3538))
        assert read_settings(store, "run").threads == threads


def test_more_memory_keeps_what_less_computes_twice():
    assert "recompute" in fitted(200)[0]
    assert "recompute" not in fitted(200, memory_mb=3538)[0]


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
