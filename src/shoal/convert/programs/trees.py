"""scikit-learn, XGBoost and LightGBM to ONNX, by skl2onnx and onnxmltools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import comparing
import numpy as np
from comparing import ML_OPSET, OPSET, Input, Refused, Request
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType

BOOSTER_OPSET = 15  # the newest that onnxmltools writes
OPSETS = {"": OPSET, "ai.onnx.ml": ML_OPSET}


def convert(request: Request) -> dict[str, Any]:
    """By the file's name: .json, .ubj (XGBoost), .txt (LightGBM), .skops, .joblib, .pkl (scikit-learn)."""
    suffix = request.source.suffix.lower()
    if suffix in (".json", ".ubj", ".bst"):
        return _xgboost(request)
    if suffix == ".txt":
        return _lightgbm(request)
    return _sklearn(_load(request), request)


def _load(request: Request) -> Any:  # noqa: ANN401 - a scikit-learn estimator
    if request.source.suffix.lower() == ".skops":
        from skops import io

        # scikit-learn's own trees are built of plain arrays, though skops doesn't check them.
        found = io.get_untrusted_types(file=request.source)
        strange = [name for name in found if not name.startswith("sklearn.")]
        if strange and not request.trust:
            raise Refused(f"{request.source.name} holds types that skops doesn't know: {', '.join(strange)}.", _TRUST)
        return io.load(request.source, trusted=found)
    if not request.trust:
        raise Refused(f"Loading {request.source.name} executes code that lies in it (pickle).", _TRUST)
    import joblib

    return joblib.load(request.source)


_TRUST = "If you made it, or trust who did, add --trust; or save it with skops."


def _sklearn(estimator: Any, request: Request) -> dict[str, Any]:  # noqa: ANN401
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    by_column = bool(names) and _takes_columns(estimator)
    inputs = _columns(estimator, names) if by_column else [("X", FloatTensorType([None, _features(estimator)]))]
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    model = convert_sklearn(estimator, initial_types=inputs, options=options, target_opset=OPSETS)
    is_text = {name: isinstance(kind, StringTensorType) for name, kind in inputs}

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        rows = _frame(sample, names) if by_column else sample["X"]
        if not by_column and names:
            rows = _frame({name: rows[:, [index]] for index, name in enumerate(names)}, names)
        first = estimator.predict(rows)
        outputs = [output.name for output in model.graph.output]
        if len(outputs) == 1:
            return [first]
        scores = estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.decision_function
        return [first, scores(rows)]

    rows = 64
    described = [
        Input(name, np.object_ if is_text[name] else np.float32, (rows, int(kind.shape[1]))) for name, kind in inputs
    ]
    samples = comparing.made_up(described, request)
    if request.samples is None:
        samples = [_spread(sample, estimator) for sample in samples]
    facts = {"from": "scikit-learn", "by": f"skl2onnx {version('skl2onnx')}", "version": version("scikit-learn")}
    return comparing.finish(model, answer, samples, request, facts, trees=True)


def _takes_columns(estimator: Any) -> bool:  # noqa: ANN401
    """Whether a pipeline begins with a ColumnTransformer, which picks columns by name and type."""
    from sklearn.compose import ColumnTransformer

    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    return isinstance(first, ColumnTransformer)


def _columns(estimator: Any, names: Sequence[str]) -> list[tuple[str, Any]]:  # noqa: ANN401
    """One input per column; those that an encoder of texts reads are texts."""
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    texts: set[str] = set()
    for _, transformer, columns in first.transformers_:
        steps = [step for _, step in transformer.steps] if hasattr(transformer, "steps") else [transformer]
        for categories in (getattr(step, "categories_", ()) for step in steps):
            texts |= {str(name) for name, found in zip(columns, categories, strict=False) if found.dtype.kind in "OU"}
    return [(name, StringTensorType([None, 1]) if name in texts else FloatTensorType([None, 1])) for name in names]


def _frame(sample: Mapping[str, Any], names: Sequence[str]) -> Any:  # noqa: ANN401 - a DataFrame
    import pandas

    return pandas.DataFrame({name: sample[name][:, 0] for name in names})


def _features(estimator: Any) -> int:  # noqa: ANN401
    found = getattr(estimator, "n_features_in_", None)
    if found is None:
        raise Refused("The estimator doesn't tell how many features it takes.", "Fit it with a newer scikit-learn.")
    return int(found)


def _spread(sample: dict[str, Any], estimator: Any) -> dict[str, Any]:  # noqa: ANN401
    """Made-up numbers over the range that a scaler saw in training; texts among those that an encoder knows."""
    random = np.random.default_rng(len(sample))
    spread = {}
    known = _known_texts(estimator)
    for name, values in sample.items():
        if values.dtype == object:
            spread[name] = random.choice(np.array(known.get(name, ["a"]), object), values.shape)
        else:
            spread[name] = ((values - 0.5) * 8).astype(np.float32)
    return spread


def _known_texts(estimator: Any) -> dict[str, list[str]]:  # noqa: ANN401
    first = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    found: dict[str, list[str]] = {}
    for _, transformer, columns in getattr(first, "transformers_", ()):
        steps = [step for _, step in transformer.steps] if hasattr(transformer, "steps") else [transformer]
        for categories in (getattr(step, "categories_", ()) for step in steps):
            found |= {str(name): list(map(str, texts)) for name, texts in zip(columns, categories, strict=False)}
    return found


def _xgboost(request: Request) -> dict[str, Any]:
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as Float

    booster = xgboost.Booster()
    booster.load_model(request.source)
    booster.feature_names = None  # the converter wants f0, f1 …
    features = booster.num_features()
    model = onnxmltools.convert_xgboost(
        booster, initial_types=[("X", Float([None, features]))], target_opset=BOOSTER_OPSET
    )
    samples = comparing.made_up([Input("X", np.float32, (64, features))], request)
    if request.samples is None:
        samples = [_spread(sample, None) for sample in samples]

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        scores = booster.predict(xgboost.DMatrix(sample["X"]))
        return _label_and_scores(scores, len(model.graph.output))

    facts = {"from": "XGBoost", "by": f"onnxmltools {version('onnxmltools')}", "version": version("xgboost")}
    return comparing.finish(model, answer, samples, request, facts, trees=True)


def _lightgbm(request: Request) -> dict[str, Any]:
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType as Float

    booster = lightgbm.Booster(model_file=request.source)
    features = booster.num_feature()
    model = onnxmltools.convert_lightgbm(
        booster, initial_types=[("X", Float([None, features]))], target_opset=BOOSTER_OPSET, zipmap=False
    )
    samples = comparing.made_up([Input("X", np.float32, (64, features))], request)
    if request.samples is None:
        samples = [_spread(sample, None) for sample in samples]

    def answer(sample: Mapping[str, Any]) -> Sequence[Any]:
        return _label_and_scores(booster.predict(sample["X"]), len(model.graph.output))

    facts = {"from": "LightGBM", "by": f"onnxmltools {version('onnxmltools')}", "version": version("lightgbm")}
    return comparing.finish(model, answer, samples, request, facts, trees=True)


def _label_and_scores(scores: Any, outputs: int) -> Sequence[Any]:  # noqa: ANN401 - arrays
    """A booster tells scores only; of a classifier the converted model tells the label, too."""
    if outputs == 1:
        return [scores]
    if scores.ndim == 1:  # the probability of the second class
        scores = np.stack([1 - scores, scores], axis=1)
    return [scores.argmax(axis=1), scores]


if __name__ == "__main__":
    comparing.run(convert)
