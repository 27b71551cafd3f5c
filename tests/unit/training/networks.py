"""Tiny step and forward graphs, with gradients worked out by hand: softmax and linear regression on `numbers`."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
MOMENTUM = 0.9
PARAMETERS = ("weight", "bias")


def forward_graph(features: int, outputs: int, name: str) -> bytes:
    """numbers [N, F], param.weight [F, O], param.bias [O] -> `name` [N, O]."""
    nodes = [
        helper.make_node("MatMul", ["numbers", "param.weight"], ["product"]),
        helper.make_node("Add", ["product", "param.bias"], [name]),
    ]
    outputs_ = [helper.make_tensor_value_info(name, FLOAT, ["N", outputs])]
    return _model(nodes, [_numbers(features), *_parameters(features, outputs)], outputs_, [])


def exported_graph(features: int, outputs: int, task: str, parameters: dict[str, np.ndarray]) -> bytes:
    """The same network as an exported model: parameters inside, `probabilities` or `value` out."""
    answer = "probabilities" if task == "classification" else "value"
    nodes = [
        helper.make_node("MatMul", ["numbers", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Softmax", ["sum"], [answer], axis=1)
        if task == "classification"
        else helper.make_node("Identity", ["sum"], [answer]),
    ]
    constants = [
        helper.make_tensor(name, FLOAT, array.shape, array.astype(np.float32).ravel().tolist())
        for name, array in parameters.items()
    ]
    return _model(
        nodes, [_numbers(features)], [helper.make_tensor_value_info(answer, FLOAT, ["N", outputs])], constants
    )


def softmax_step(features: int, classes: int) -> bytes:
    """A step of softmax regression under SGD with momentum."""
    nodes = [
        *_linear("logits"),
        helper.make_node("LogSoftmax", ["logits"], ["logs"], axis=1),
        helper.make_node("OneHot", ["target", "depth", "off_on"], ["truth"], axis=1),
        helper.make_node("Mul", ["logs", "truth"], ["chosen"]),
        helper.make_node("ReduceSum", ["chosen", "axis1"], ["likelihood"], keepdims=0),
        helper.make_node("ReduceMean", ["likelihood"], ["mean"], keepdims=0),
        helper.make_node("Neg", ["mean"], ["loss"]),
        helper.make_node("Exp", ["logs"], ["probabilities"]),
        helper.make_node("Sub", ["probabilities", "truth"], ["error"]),
        *_descent(),
    ]
    constants = [
        helper.make_tensor("depth", INT64, [], [classes]),
        helper.make_tensor("off_on", FLOAT, [2], [0.0, 1.0]),
    ]
    target = helper.make_tensor_value_info("target", INT64, ["N"])
    return _step_model(nodes, features, classes, target, constants)


def linear_step(features: int, mean: float = 0.0, std: float = 1.0) -> bytes:
    """A step of linear regression (mean of half squared errors, target standardised) under SGD with momentum."""
    nodes = [
        *_linear("prediction"),
        helper.make_node("Unsqueeze", ["target", "axis1"], ["column"]),
        helper.make_node("Sub", ["column", "target_mean"], ["centred"]),
        helper.make_node("Div", ["centred", "target_std"], ["truth"]),
        helper.make_node("Sub", ["prediction", "truth"], ["error"]),
        helper.make_node("Mul", ["error", "error"], ["squared"]),
        helper.make_node("ReduceMean", ["squared"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "half"], ["loss"]),
        *_descent(),
    ]
    constants = [
        helper.make_tensor("half", FLOAT, [], [0.5]),
        helper.make_tensor("target_mean", FLOAT, [], [mean]),
        helper.make_tensor("target_std", FLOAT, [], [std]),
    ]
    return _step_model(nodes, features, 1, helper.make_tensor_value_info("target", FLOAT, ["N"]), constants)


def initial_tensors(features: int, outputs: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters and optimizer state of round 0."""
    parameters = {"weight": np.zeros((features, outputs), np.float32), "bias": np.zeros(outputs, np.float32)}
    return parameters, {f"velocity.{name}": np.zeros_like(array) for name, array in parameters.items()}


def _linear(output: str) -> list:
    return [
        helper.make_node("MatMul", ["numbers", "param.weight"], ["product"]),
        helper.make_node("Add", ["product", "param.bias"], [output]),
    ]


def _descent() -> list:
    """From `error` [N, O], the loss's gradient times N, to new parameters and velocities."""
    nodes = [
        helper.make_node("Shape", ["numbers"], ["count"], end=1),
        helper.make_node("Cast", ["count"], ["count_float"], to=FLOAT),
        helper.make_node("Div", ["error", "count_float"], ["scaled"]),
        helper.make_node("Transpose", ["numbers"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["turned", "scaled"], ["gradient.weight"]),
        helper.make_node("ReduceSum", ["scaled", "axis0"], ["gradient.bias"], keepdims=0),
        # The contract's `step` is fed like any input; this optimizer has no use for it beyond a zero.
        helper.make_node("Mul", ["step", "zero"], ["nothing"]),
    ]
    for name in PARAMETERS:
        nodes += [
            helper.make_node("Mul", [f"state.velocity.{name}", "momentum"], [f"kept.{name}"]),
            helper.make_node("Add", [f"kept.{name}", f"gradient.{name}"], [f"pushed.{name}"]),
            helper.make_node("Add", [f"pushed.{name}", "nothing"], [f"new.state.velocity.{name}"]),
            helper.make_node("Mul", [f"new.state.velocity.{name}", "learning_rate"], [f"change.{name}"]),
            helper.make_node("Sub", [f"param.{name}", f"change.{name}"], [f"new.param.{name}"]),
        ]
    return nodes


def _step_model(nodes: list, features: int, outputs: int, target: object, constants: list) -> bytes:
    scalars = [helper.make_tensor_value_info(name, FLOAT, []) for name in ("learning_rate", "step")]
    shapes = {"weight": [features, outputs], "bias": [outputs]}
    states = [helper.make_tensor_value_info(f"state.velocity.{name}", FLOAT, shapes[name]) for name in PARAMETERS]
    results = [helper.make_tensor_value_info("loss", FLOAT, [])]
    for name in PARAMETERS:
        for kind in ("param", "state.velocity"):
            results.append(helper.make_tensor_value_info(f"new.{kind}.{name}", FLOAT, shapes[name]))
    constants = [
        *constants,
        helper.make_tensor("axis0", INT64, [1], [0]),
        helper.make_tensor("axis1", INT64, [1], [1]),
        helper.make_tensor("momentum", FLOAT, [], [MOMENTUM]),
        helper.make_tensor("zero", FLOAT, [], [0.0]),
    ]
    inputs = [_numbers(features), target, *scalars, *_parameters(features, outputs), *states]
    return _model(nodes, inputs, results, constants)


def _numbers(features: int) -> object:
    return helper.make_tensor_value_info("numbers", FLOAT, ["N", features])


def _parameters(features: int, outputs: int) -> list:
    return [
        helper.make_tensor_value_info("param.weight", FLOAT, [features, outputs]),
        helper.make_tensor_value_info("param.bias", FLOAT, [outputs]),
    ]


def _model(nodes: list, inputs: list, outputs: list, constants: list) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()
