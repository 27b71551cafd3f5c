"""The model that is served: candidates are built and measured beside the exported model; the fastest faithful one wins.

A candidate that answers differently is kept out, with the reason. What answers the same must do so to rounding; what is
quantised may lose a little of the metric, and is told how much.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal_core.data.cleaning_config import OptimizeConfig
from shoal_core.data.manifest import Manifest
from shoal_core.data.shards import Tensors
from shoal_core.errors import BadNetwork, FidelityLost
from shoal_core.keys import RunKeys
from shoal_core.store import ObjectStore
from shoal_core.training.anomalies import ANOMALOUS, scored
from shoal_core.training.batches import load_shard
from shoal_core.training.candidates import (
    LATENCY_BATCHES,
    Candidate,
    CandidateName,
    Optimization,
    choose,
    read_optimization,
)
from shoal_core.training.metrics import metrics_of
from shoal_core.training.requests import run_config
from shoal_core.training.rounds import read_manifest, read_settings
from shoal_core.training.scoring import add_answers, batch_rows, empty_counts, evaluation_batches
from shoal_core.training.sessions import Session
from shoal_core.training.settings import TrainingSettings

PROBABILITY_TOLERANCE = 1e-5
"""How far a probability of a model that should answer the same may move."""
VALUE_TOLERANCE = 1e-4
"""How far its predicted number may move, in standard deviations of the target."""
MAX_SAMPLES = 4096
MAX_SAMPLE_BYTES = 64 * 1024**2
"""Of the samples that are measured on, and of those to calibrate with: fewer of them where they are large."""
CALIBRATION_SAMPLES = 512
LEAST_OF_A_BACKBONE = 300
"""Samples without which it can't be told whether 99 of 100 answers stay, where a small set has trained a head on a deep
network: one lost 10 points of accuracy on unseen samples and none of 43 validation answers."""
PRUNED_SHARES = (0.5, 0.375, 0.25, 0.125)
"""Shares of each layer's channels that are tried, the largest first."""
PRUNED_DOUBT = 0.25
"""The part of the allowed disagreement that a share may use up on training samples, which a model knows better than
others."""
MAX_GROWTH = 2
"""How many times as large as the exported model the one that was optimised offline may be."""
NEAR = 0.1
"""Predicted numbers agree when they differ by less, in standard deviations of the target."""
_METRICS = {"classification": "accuracy", "multilabel": "micro_f1", "regression": "rmse", "anomaly": "loss"}
# Repetitions per batch size: enough for a median, few enough for a function's minutes.
_REPEATS = {1: 40, 64: 12}
_LEAST_REPEATS = 3
# What a batch size's first repetition of one candidate may take before there are fewer of them.
_QUICK_SECONDS = 0.1


@dataclass(frozen=True)
class _Measured:
    """Real samples to measure on: batches without targets, and their targets."""

    split: str
    batches: list[Tensors]
    targets: list[NDArray[Any]]

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(len(target) for target in self.targets)

    def parts(self, size: int) -> list[Tensors]:
        """One batch of a size, samples repeated where there are fewer, in parts that memory holds."""
        first = self.batches[0]
        rows = np.arange(size) % len(next(iter(first.values())))
        step = batch_rows(first)
        return [
            {name: np.ascontiguousarray(array[rows[start : start + step]]) for name, array in first.items()}
            for start in range(0, size, step)
        ]


def optimize_model(artifacts: ObjectStore, run_id: str) -> Optimization:
    """Build the candidates of a run's model, measure each, and record which one is served.

    What is already there is returned as it is. Latencies depend on the machine, so two attempts may choose differently:
    the first one's record counts, and a candidate's bytes are the same whoever makes it.

    Args:
        artifacts: The artifacts bucket.
        run_id: A finished run.

    Raises:
        NotFound: The run isn't finished.
    """
    keys = RunKeys(run_id)
    if artifacts.exists(keys.optimization):
        return read_optimization(artifacts, run_id)
    settings = read_settings(artifacts, run_id)
    manifest = read_manifest(artifacts, settings)
    wishes = run_config(artifacts, run_id, manifest).optimize
    measured = _samples(artifacts, manifest, settings)
    bench = _Bench(settings, measured, wishes, artifacts.read(keys.model))
    for name, make in _makers(bench, lambda: _calibration(artifacts, manifest), wishes):
        doubt = _doubt(name, settings, measured.samples)
        if doubt is None:
            bench.add(name, make)
        else:
            bench.leave_out(name, doubt)
    candidates = bench.timed()
    chosen = choose(candidates)
    served = bench.models[chosen.name]
    key = keys.model if chosen.name == "float32" else keys.candidate(chosen.name)
    if chosen.name != "float32":
        artifacts.write(key, served)
    result = Optimization(
        run_id=run_id,
        served=chosen.name,
        model_key=key,
        model_sha256=hashlib.sha256(served).hexdigest(),
        split=measured.split,
        samples=measured.samples,
        metric=_METRICS[settings.task],
        max_loss=wishes.max_loss,
        min_agreement=wishes.min_agreement,
        candidates=tuple(candidates),
    )
    artifacts.write_new(keys.optimization, result.encode(), "application/json")
    return read_optimization(artifacts, run_id)


Maker = Callable[[], bytes]


def _makers(
    bench: _Bench, calibration: Callable[[], list[Tensors]], wishes: OptimizeConfig
) -> Iterator[tuple[CandidateName, Maker]]:
    """How each candidate is made, in the order of how much it changes."""
    # The onnx layer is needed for nothing else in this module.
    from shoal_core.graphs.optimization import optimize_offline
    from shoal_core.graphs.quantization import needs_reduced_range, quantize_dynamic, quantize_static

    yield "float32-optimized", lambda: optimize_offline(bench.models["float32"])
    base = bench.models.get("float32-optimized", bench.models["float32"])
    if wishes.prune:
        yield "pruned", lambda: _pruned(bench, base, calibration())
    if wishes.int8:
        reduced = needs_reduced_range()
        yield "int8-static", lambda: quantize_static(base, calibration(), reduce_range=reduced)
        yield "int8-dynamic", lambda: quantize_dynamic(base, reduce_range=reduced)


def _pruned(bench: _Bench, base: bytes, samples: list[Tensors]) -> bytes:
    """The model without the largest share of its channels that its answers on training samples can spare.

    Raises:
        BadNetwork: None of the shares: the last one's reason.
    """
    from shoal_core.graphs.pruning import prune

    reason = ""
    for share in PRUNED_SHARES:
        model = prune(base, samples, share)
        stays = bench.agreement_on(base, model, samples)
        if 1 - stays <= PRUNED_DOUBT * (1 - bench.wishes.min_agreement):
            return model
        reason = f"without {share:.0%} of its channels it keeps {stays:.2%} of its answers on training samples"
    raise BadNetwork(f"No share of its channels can go: {reason}.")


class _Bench:
    """The candidates of one model, each measured beside the original."""

    def __init__(
        self, settings: TrainingSettings, measured: _Measured, wishes: OptimizeConfig, original: bytes
    ) -> None:
        self._settings = settings
        self._measured = measured
        self.wishes = wishes
        self._sessions: dict[CandidateName, Session] = {}
        self._candidates: dict[CandidateName, Candidate] = {}
        self.models: dict[CandidateName, bytes] = {"float32": original}
        session = Session(original, settings.threads)
        self._reference = _answers(session, measured.batches)
        self._sessions["float32"] = session
        self._candidates["float32"] = Candidate(
            name="float32",
            bytes=len(original),
            metric=self._metric(self._reference),
            agreement=1.0,
            difference=0.0,
            accepted=True,
        )

    def add(self, name: CandidateName, make: Maker) -> None:
        """Make a candidate and measure what it answers; one that fails is kept out with the reason."""
        try:
            model = make()
            session, answers = _tried(model, self._settings.threads, self._measured.batches)
        except (BadNetwork, FidelityLost) as error:
            self._candidates[name] = Candidate(name=name, reason=error.reason)
            return
        except (ValueError, LookupError, TypeError) as error:  # a graph that its maker doesn't understand ends no run
            self._candidates[name] = Candidate(name=name, reason=f"It can't be made: {type(error).__name__}: {error}")
            return
        candidate = Candidate(
            name=name,
            bytes=len(model),
            metric=self._metric(answers),
            agreement=agreement(self._reference, answers, self._settings),
            difference=difference(_moved(self._reference, self._settings), _moved(answers, self._settings)),
        )
        reason = self._objection(candidate)
        self._candidates[name] = candidate.model_copy(update={"accepted": reason is None, "reason": reason})
        if reason is None:
            self.models[name] = model
            self._sessions[name] = session

    def leave_out(self, name: CandidateName, reason: str) -> None:
        """List a candidate that isn't made."""
        self._candidates[name] = Candidate(name=name, reason=reason)

    def agreement_on(self, base: bytes, model: bytes, samples: list[Tensors]) -> float:
        """The share of answers on some samples that one model keeps of another's."""
        reference, answers = (_tried(graph, self._settings.threads, samples)[1] for graph in (base, model))
        return agreement(reference, answers, self._settings)

    def timed(self) -> list[Candidate]:
        """All candidates; those that may be served with their latencies, measured in turns so that drifts cancel."""
        for size in LATENCY_BATCHES:
            # As many rows at once as evaluation runs: 64 large images wouldn't fit into a worker's memory.
            parts = self._measured.parts(size)
            seconds: dict[CandidateName, list[float]] = {name: [] for name in self._sessions}
            left = _REPEATS[size]
            while left > 0:
                for name, session in self._sessions.items():
                    started = time.perf_counter()
                    for part in parts:
                        session.run(part)
                    seconds[name].append(time.perf_counter() - started)
                slow = max(times[-1] for times in seconds.values()) > _QUICK_SECONDS
                left = min(left, _LEAST_REPEATS if slow else left) - 1
            for name, times in seconds.items():
                candidate = self._candidates[name]
                latencies = {**candidate.latency_ms, str(size): round(statistics.median(times) * 1000, 4)}
                self._candidates[name] = candidate.model_copy(update={"latency_ms": latencies})
        return list(self._candidates.values())

    def _metric(self, answers: Sequence[NDArray[Any]]) -> float | None:
        """The task's metric of answers; None where an answer isn't a number."""
        counts = empty_counts(self._settings)
        for answer, target in zip(answers, self._measured.targets, strict=True):
            if not np.isfinite(answer).all():
                return None
            counts = add_answers(counts, answer, target, self._settings)
        metrics = metrics_of(counts, list(self._settings.classes))
        return float(getattr(metrics, _METRICS[self._settings.task]))

    def _objection(self, candidate: Candidate) -> str | None:
        """Why a candidate may not be served."""
        if candidate.metric is None or candidate.difference is None or candidate.agreement is None:
            return "some of its answers aren't numbers"
        if candidate.name == "float32-optimized":
            tolerance = tolerance_of(self._settings)
            if candidate.difference > tolerance:
                return f"its answers differ by {candidate.difference:g}; {tolerance:g} is allowed"
            original = len(self.models["float32"])
            # Weights that are kept as integers become floating-point numbers where constants are folded.
            if (candidate.bytes or 0) > MAX_GROWTH * original:
                return f"it has {candidate.bytes:,} bytes, more than {MAX_GROWTH} times the {original:,} before"
            return None
        lost = self._loss(candidate.metric)
        if lost > self.wishes.max_loss:
            name = _METRICS[self._settings.task]
            return f"it loses {lost:.2f} points of {name}; {self.wishes.max_loss:g} are allowed"
        if candidate.agreement < self.wishes.min_agreement:
            return (
                f"it agrees with the float32 model on {candidate.agreement:.2%} of the answers; "
                f"{self.wishes.min_agreement:.2%} are asked for"
            )
        return None

    def _loss(self, metric: float) -> float:
        """Points lost: hundredths of accuracy or F1, percent of the error."""
        reference = self._candidates["float32"].metric or 0.0
        if self._settings.task in ("regression", "anomaly"):
            return (
                100 * (metric - reference) / reference if reference else (0.0 if metric == reference else float("inf"))
            )
        return 100 * (reference - metric)


def tolerance_of(settings: TrainingSettings) -> float:
    """How far an output may move: a probability, a number in the target's units (float32 is coarse far from 0), or a
    score's logarithm.
    """
    if settings.task == "anomaly":
        return VALUE_TOLERANCE
    if settings.task != "regression":
        return PROBABILITY_TOLERANCE
    return VALUE_TOLERANCE * settings.target_std + 1e-6 * abs(settings.target_mean)


def agreement(reference: Sequence[NDArray[Any]], answers: Sequence[NDArray[Any]], settings: TrainingSettings) -> float:
    """Share of samples that both answer alike: the same class, the same labels, or numbers near each other."""
    same = total = 0
    for expected, answer in zip(reference, answers, strict=True):
        if settings.task == "classification":
            alike = expected.argmax(axis=1) == answer.argmax(axis=1)
        elif settings.task == "multilabel":
            alike = ((expected >= 0.5) == (answer >= 0.5)).all(axis=1)
        elif settings.task == "anomaly":
            alike = expected[:, 1] == answer[:, 1]
        else:
            near = NEAR * (settings.target_std or 1.0)
            alike = np.abs(expected.reshape(-1) - answer.reshape(-1)) <= near
        same += int(alike.sum())
        total += len(alike)
    return same / total


def difference(reference: Sequence[NDArray[Any]], answers: Sequence[NDArray[Any]]) -> float | None:
    """The largest absolute difference of an output; None where one isn't a number."""
    pairs = zip(reference, answers, strict=True)
    largest = max(float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()) for a, b in pairs)
    return largest if np.isfinite(largest) else None


def _moved(answers: Sequence[NDArray[Any]], settings: TrainingSettings) -> Sequence[NDArray[Any]]:
    """What `difference` compares: of anomalies log(1 + score), so that large scores may move by more."""
    return [np.log1p(answer[:, 0]) for answer in answers] if settings.task == "anomaly" else answers


def _tried(model: bytes, threads: int, batches: Sequence[Tensors]) -> tuple[Session, list[NDArray[Any]]]:
    """A candidate's session and its answers. Raises `BadNetwork` when it doesn't run."""
    try:
        session = Session(model, threads)
        return session, _answers(session, batches)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise BadNetwork(f"ONNX Runtime can't run it: {str(error)[:300]}") from error


def _answers(session: Session, batches: Sequence[Mapping[str, NDArray[Any]]]) -> list[NDArray[Any]]:
    """The first output for each batch; of a model of anomalies both."""
    if ANOMALOUS in session.outputs:
        return [scored(session.run(batch)) for batch in batches]
    return [session.run(batch)[session.outputs[0]] for batch in batches]


def _doubt(name: CandidateName, settings: TrainingSettings, samples: int) -> str | None:
    """Why a candidate isn't worth making: too few samples to tell what it would lose."""
    if settings.transfer is None or name == "float32-optimized" or samples >= LEAST_OF_A_BACKBONE:
        return None
    least = LEAST_OF_A_BACKBONE
    return f"{samples} samples are too few to tell what it would lose of a pretrained network; {least} are needed"


def _fitting(manifest: Manifest) -> int:
    """How many samples fit into the bytes that are kept in memory."""
    shard = manifest.train[0]
    return max(1, MAX_SAMPLE_BYTES * shard.samples // shard.bytes)


def _samples(artifacts: ObjectStore, manifest: Manifest, settings: TrainingSettings) -> _Measured:
    """Up to `MAX_SAMPLES` of the validation split; of the evaluation split where it is empty."""
    split = "validation" if manifest.validation else settings.evaluation_split
    shards = manifest.shards(split)
    most = min(MAX_SAMPLES, _fitting(manifest))
    batches = list(evaluation_batches(shards, lambda shard: load_shard(artifacts, shard), most))
    return _Measured(split, batches, [batch.pop("target") for batch in batches])


def _calibration(artifacts: ObjectStore, manifest: Manifest) -> list[Tensors]:
    """Training samples to calibrate with."""
    shards = manifest.train
    most = min(CALIBRATION_SAMPLES, _fitting(manifest))
    batches = list(evaluation_batches(shards, lambda shard: load_shard(artifacts, shard), most))
    for batch in batches:
        del batch["target"]
    return batches
