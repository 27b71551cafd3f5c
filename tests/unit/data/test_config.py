import pytest

from shoal_core.data import config
from shoal_core.data.config import ALLOWED, DatasetConfig, parse_config
from shoal_core.errors import BadConfig


def test_an_empty_file_asks_for_nothing():
    assert parse_config(b"") == parse_config(b"# nothing\n") == DatasetConfig()


def test_every_field_is_read():
    text = b"""
task: classification
target: species
recipe: mlp
image_size: [28, 20]
split: {validation: 0.2, test: 0.1}
seed: 7
workers: 2
rounds: 10
training:
  {optimizer: sgd, learning_rate: 1e-3, batch_size: 32, epochs: 5, momentum: 0.8, nesterov: true, weight_decay: 5e-4,
  clip_norm: 1, loss: focal, class_weights: balanced, label_smoothing: 0.1, focal_gamma: 1.5, huber_delta: 2,
  schedule: plateau, warmup_rounds: 0.5, decay_factor: 0.3, decay_rounds: 2, patience: 0, ema: 0.9, swa: 0.5,
  compression: int8, warm_start: true,
  lost_workers: go_on, scheme: diloco, outer_learning_rate: 0.5, outer_momentum: 0.9,
  recompute: never, fine_tune: 2, fine_tune_from: 3, script: mine/train.py}
compute: sagemaker
"""
    found = parse_config(text)
    assert (found.task, found.target, found.image_size, found.workers) == ("classification", "species", (28, 20), 2)
    assert found.training.learning_rate == 0.001
    assert (found.training.weight_decay, found.training.nesterov, found.training.patience) == (0.0005, True, 0)
    assert None not in found.training.model_dump().values()
    assert found.split.validation == 0.2


def test_one_number_is_a_square():
    assert parse_config(b"image_size: 28").image_size == (28, 28)


@pytest.mark.parametrize(
    ("text", "reason", "fix"),
    [
        (b"tsk: classification", "unknown field 'tsk'", "Did you mean 'task'?"),
        (b"training: {lr: 1}", "unknown field 'lr' under 'training'", "learning_rate"),
        (b"task: clustering", "task: 'clustering'", "classification, multilabel"),
        (b"image_size: 3", "image_size: 3", "4 to 512"),
        (b"backbone: net@0", "backbone: 'net@0'", "NAME@VERSION"),
        (b"training: {fine_tune: 65}", "training.fine_tune: 65", "0 to 64"),
        (b"image_size: [8]", "image_size: [8]", "[height, width]"),
        (b"workers: 41", "workers: 41", "1 to 40"),
        (b"workers: yes", "workers: True", "1 to 40"),
        (b"rounds: 0", "rounds: 0", "1 to 500"),
        (b"target: no", "target: False", "quotes"),
        (b"split: {validation: 0.6}", "split.validation: 0.6", "0 to 0.5"),
        (b"split: {validation: 0.5, test: 0.5}", "at least 0.1 for training", "Lower"),
        (b"split: half", "split: 'half'", "validation"),
        (b"training: {learning_rate: .inf}", "learning_rate: inf", "above 0"),
        (b"training: {optimizer: adagrad}", "training.optimizer: 'adagrad'", "adam, adamw, sgd or lion"),
        (b"training: {nesterov: 1}", "training.nesterov: 1", "true or false"),
        (b"training: {schedule: linear}", "training.schedule: 'linear'", "cosine, step, plateau or constant"),
        (b"training: {class_weights: [1, 2]}", "training.class_weights: [1, 2]", "none or balanced"),
        (b"training: {label_smoothing: 0.6}", "training.label_smoothing: 0.6", "0 to 0.5"),
        (b"training: {clip_norm: 0}", "training.clip_norm: 0", "above 0"),
        (b"training: {decay_factor: 1}", "training.decay_factor: 1", "below 1"),
        (b"training: {ema: true}", "training.ema: True", "below 1"),
        (b"training: {scheme: gossip}", "training.scheme: 'gossip'", "auto, synchronous, local or diloco"),
        (b"training: {outer_momentum: 0.5}", "training: outer_momentum is of `scheme: diloco`", "fields such as"),
        (b"training: {scheme: local, outer_learning_rate: 1}", "outer_learning_rate is of", "fields such as"),
        (b"training: {scheme: diloco, outer_momentum: 1}", "training.outer_momentum: 1", "for diloco"),
        (b"training: {patience: -1}", "training.patience: -1", "0 to 500"),
        (b"training: {weight_dekay: 0.1}", "unknown field 'weight_dekay'", "Did you mean 'weight_decay'?"),
        (b"training: 5", "training: 5", "learning_rate"),
        (b"- a\n- b", "holds a list", "field: value"),
        (b"a: [", "line 1", "field: value"),
        (b"\xff\xfe", "UTF-8", "UTF-8"),
        (b"x: 2020-99-99", "YAML", "field: value"),
        (b"[" * 5000, "YAML", "field: value"),
        (b"#" * 70_000, "70,000 bytes", "65,536"),
    ],
)
def test_a_bad_config_names_the_field_and_the_fix(text, reason, fix):
    with pytest.raises(BadConfig) as caught:
        parse_config(text)
    assert reason in caught.value.reason
    assert fix in caught.value.fix


def test_allowed_lists_every_field():
    fields = set(DatasetConfig.model_fields)
    nested = {
        "split": config.SplitConfig,
        "source": config.SourceConfig,
        "training": config.TrainingConfig,
        "image": config.ImageConfig,
        "labels": config.LabelsConfig,
        "text": config.TextConfig,
        "sequence": config.SequenceConfig,
        "anomaly": config.AnomalyConfig,
        "outliers": config.OutlierConfig,
        "augment": config.AugmentConfig,
        "optimize": config.OptimizeConfig,
        "promote": config.PromoteConfig,
        "card": config.CardConfig,
        "budget": config.BudgetConfig,
        "compute": config.ComputeConfig,
    }
    fields |= {f"{field}.{name}" for field, model in nested.items() for name in model.model_fields}
    assert set(ALLOWED) == fields


def test_a_plain_off_is_off():
    """YAML 1.1 reads it as false."""
    assert parse_config(b"near_duplicates: off").near_duplicates == "off"
    with pytest.raises(BadConfig, match="near_duplicates: True"):
        parse_config(b"near_duplicates: on")
