"""Makes the files beside it: small networks as the exporters of Keras and JAX write them.

`python record.py keras` with TensorFlow 2.21, Keras and tf2onnx 1.17 (src/shoal/convert/locks/tensorflow.txt), and
`python record.py jax` with jax, flax and jax2onnx.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def keras_networks() -> dict[str, Any]:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    windows = keras.Input((12, 2))
    x = layers.Dense(8)(windows)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    attention = keras.Model(windows, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    convolution = [layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    head = [layers.Dropout(0.3), layers.Flatten(), layers.Dense(3, activation="softmax")]
    both = layers.Bidirectional(layers.LSTM(5, return_sequences=True))
    words = [layers.Embedding(20, 6), layers.Conv1D(8, 3, activation="relu", padding="same")]
    return {
        "keras_images": keras.Sequential([keras.Input((8, 8, 1)), *convolution, layers.MaxPooling2D(), *head]),
        "keras_windows": keras.Sequential([keras.Input((12, 2)), both, layers.GlobalMaxPooling1D(), layers.Dense(3)]),
        "keras_attention": attention,
        "keras_texts": keras.Sequential(
            [keras.Input((12,), dtype="int32"), *words, layers.GlobalMaxPooling1D(), layers.Dense(3)]
        ),
        "keras_loop": keras.Sequential([keras.Input((12, 2)), layers.GRU(5), layers.Dense(3)]),
    }


def record_keras() -> None:
    import numpy as np

    for name, model in keras_networks().items():
        for variable in model.trainable_variables:  # as shoal.train does: zeros are left out by the exporter
            if not np.asarray(variable).any():
                variable.assign(np.full_like(np.asarray(variable), 1e-8))
        model(np.zeros([size or 1 for size in model.input_shape]))
        model.export(str(HERE / f"{name}.onnx"), format="onnx", verbose=False)


def record_jax() -> None:
    from flax import nnx
    from jax2onnx import to_onnx

    class Images(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.convolution = nnx.Conv(1, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs, use_running_average=True)
            self.head = nnx.Linear(64, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = nnx.relu(self.norm(self.convolution(x)))
            x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            return self.head(x.reshape(x.shape[0], -1))

    class Attention(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(2, 8, rngs=rngs)
            self.seen = nnx.MultiHeadAttention(num_heads=2, in_features=8, qkv_features=8, decode=False, rngs=rngs)
            self.head = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = self.first(x)
            return self.head((x + self.seen(x)).mean(axis=1))

    for name, network, shape in (
        ("jax_images", Images(nnx.Rngs(0)), ("B", 8, 8, 1)),
        ("jax_attention", Attention(nnx.Rngs(0)), ("B", 12, 2)),
    ):
        to_onnx(network, [shape], return_mode="file", output_path=str(HERE / f"{name}.onnx"), opset=21)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    {"keras": record_keras, "jax": record_jax}[sys.argv[1]]()
