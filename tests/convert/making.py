"""Makes the originals: run by the interpreters of the converters' environments, `making.py FAMILY FOLDER`."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def trees(folder: Path, penguins: Path) -> None:
    import joblib
    import lightgbm
    import numpy as np
    import pandas as pd
    import skops.io
    import xgboost
    from sklearn.compose import make_column_transformer
    from sklearn.datasets import load_diabetes, load_digits
    from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    images, digits = load_digits(return_X_y=True)
    images = images.astype(np.float32)
    patients, progress = load_diabetes(return_X_y=True)
    patients = patients.astype(np.float32)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(images, digits)
    skops.io.dump(logistic, folder / "logistic.skops")
    joblib.dump(logistic, folder / "logistic.joblib")
    skops.io.dump(RandomForestClassifier(30, random_state=0).fit(images, digits), folder / "forest.skops")
    skops.io.dump(GradientBoostingRegressor(random_state=0).fit(patients, progress), folder / "boosting.skops")
    table = pd.read_csv(penguins).dropna()
    numbers = ["bill_length_mm", "flipper_length_mm", "body_mass_g"]
    table[numbers] = table[numbers].astype(np.float32)
    columns = ["island", "sex", *numbers]
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), columns[:2]), (StandardScaler(), numbers))
    pipeline = make_pipeline(encode, LogisticRegression(max_iter=500)).fit(table[columns], table["species"])
    skops.io.dump(pipeline, folder / "penguins.skops")
    table[columns].head(40).assign(answer=pipeline.predict(table[columns].head(40))).to_json(
        folder / "penguins.json", orient="records"
    )
    high = (digits > 4).astype(int)
    for name, options, rows, target in (
        ("several", {"objective": "multi:softprob", "num_class": 10}, images, digits),
        ("two", {"objective": "binary:logistic"}, images, high),
        ("number", {"objective": "reg:squarederror"}, patients, progress),
    ):
        booster = xgboost.train(options, xgboost.DMatrix(rows, target), 20)
        booster.save_model(folder / f"{name}.json")
    booster.save_model(folder / "number.ubj")
    for name, options, rows, target in (
        ("several", {"objective": "multiclass", "num_class": 10}, images, digits),
        ("two", {"objective": "binary"}, images, high),
        ("number", {"objective": "regression"}, patients, progress),
    ):
        lightgbm.train({**options, "verbose": -1}, lightgbm.Dataset(rows, target), 20).save_model(
            folder / f"{name}.txt"
        )


def tensorflow(folder: Path, penguins: Path) -> None:
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    network.save(folder / "cnn.keras")
    network.save(folder / "cnn.h5")
    network.export(folder / "cnn")
    (folder / "cnn.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    quantised = tf.lite.TFLiteConverter.from_keras_model(network)
    quantised.optimizations = [tf.lite.Optimize.DEFAULT]
    samples = np.random.default_rng(0).random((20, 1, 28, 28, 1)).astype(np.float32)
    quantised.representative_dataset = lambda: ([sample] for sample in samples)
    quantised.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    quantised.inference_input_type = quantised.inference_output_type = tf.uint8
    (folder / "int8.tflite").write_bytes(quantised.convert())
    keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            layers.Embedding(20, 8),
            layers.Bidirectional(layers.LSTM(8)),
            layers.Dense(1, activation="sigmoid"),
        ]
    ).save(folder / "lstm.keras")
    keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)]).save(folder / "lambda.keras")
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    two = keras.Model([a, b], layers.Dense(2)(layers.Concatenate()([a, b])))
    two.save(folder / "two.keras")
    two.export(folder / "two")


class _Writes:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def _poison(program: Path, target: Path) -> None:
    """The same program, whose example inputs are a pickle that executes something."""
    import torch

    inputs = io.BytesIO()
    torch.save(((_Writes(target.with_suffix(".executed")),), {}), inputs)
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(target, "w") as poisoned:
        for name in source.namelist():
            poisoned.writestr(name, inputs.getvalue() if "sample_inputs" in name else source.read(name))


def pytorch(folder: Path, penguins: Path) -> None:
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 5)
    ).eval()
    image = torch.rand(2, 3, 8, 8)
    free = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (image,), dynamic_shapes=free), folder / "network.pt2")
    _poison(folder / "network.pt2", folder / "pickle.pt2")
    torch.jit.save(torch.jit.trace(network, image), folder / "script.pt")
    torch.save(network.state_dict(), folder / "weights.pth")


if __name__ == "__main__":
    {"trees": trees, "tensorflow": tensorflow, "pytorch": pytorch}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
