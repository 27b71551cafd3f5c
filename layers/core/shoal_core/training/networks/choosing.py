"""Which tensors of a foreign network are trained, which are running statistics, and which stay as they are.

Exporters lose what a tensor was for. What the file's maker or the user names is taken as named; otherwise float32
initialisers are trained, unless the graph shows that they are settings, statistics or lone numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from onnx import NodeProto, TensorProto

from shoal_core.errors import BadConfig, BadNetwork
from shoal_core.graphs.rules.registry import WITHOUT_GRADIENT
from shoal_core.training.networks.config import NetworkConfig
from shoal_core.training.networks.reading import Foreign, is_constant_valued

# Inputs that say how an operator works; no gradient is asked for by them.
_SETTINGS: Mapping[str, frozenset[int]] = {
    "BatchNormalization": frozenset({3, 4}),
    "Clip": frozenset({1, 2}),
    "Dropout": frozenset({1, 2}),
    "OneHot": frozenset({1, 2}),
    "Pad": frozenset({1, 2, 3}),
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
}
# What only rearranges: several of them read one tensor without its being several.
_VIEWS = frozenset(
    {"Cast", "Expand", "Gather", "Identity", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
_BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})
_STATISTICS = re.compile(r"(running|moving)[._/ ]?(mean|var)", re.I)
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})
_SHOWN = 5
Use = tuple[int, int]
"""(node, input) that reads a tensor."""


@dataclass(frozen=True)
class Roles:
    """What becomes of each float32 initialiser.

    Attributes:
        parameters: Name of a trained tensor -> the initialiser that it starts as.
        buffers: Name of a running statistic -> the initialiser that it starts as.
        reads: (node, input) -> the parameter or buffer that it reads.
        notes: What was decided.
    """

    parameters: dict[str, str] = field(default_factory=dict)
    buffers: dict[str, str] = field(default_factory=dict)
    reads: dict[Use, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def choose_roles(foreign: Foreign, output: str, types: Mapping[str, int], config: NetworkConfig) -> Roles:
    """Decide what is trained.

    Args:
        foreign: Only what the output depends on.
        output: The tensor that the loss is computed of.
        types: Tensor -> ONNX element type, where it is known.
        config: What the user said.

    Raises:
        BadConfig: The user named a tensor that isn't there.
        BadNetwork: Nothing is left to train.
    """
    uses = _uses(foreign)
    reached = reached_by_gradient(foreign.nodes, output, types)
    named = _named(foreign, config)
    roles = Roles()
    usable = {name: [use for use in uses[name] if use in reached] for name in foreign.weights}
    chosen = [
        name
        for name in foreign.weights
        if usable[name] and (name in named if named is not None else _is_weight(foreign, name, usable[name]))
    ]
    unreached = [name for name in foreign.weights if uses[name] and not usable[name]]
    cut = [name for name in unreached if _is_weight(foreign, name, uses[name])]
    if cut:
        roles.notes.append(f"No gradient leads to {_listed(cut)}: they stay as they are.")
    decomposed = [name for name in chosen if named is None and _STATISTICS.search(name)]
    if decomposed:
        roles.notes.append(
            f"{_listed(decomposed)} are statistics of a BatchNormalization that the exporter took apart: they stay."
        )
    chosen = [name for name in chosen if name not in decomposed]
    if not chosen:
        raise _nothing(foreign, cut)
    for name in chosen:
        _separate(foreign, name, usable[name], roles, joined=named is not None)
    _choose_statistics(foreign, config, roles)
    if named is not None:
        there = sum(bool(places) for places in uses.values())
        roles.notes.append(f"{len(chosen)} of {there} tensors are trained, as they were named.")
    return roles


def reached_by_gradient(nodes: Sequence[NodeProto], output: str, types: Mapping[str, int]) -> set[Use]:
    """The (node, input) pairs from which a gradient path of float tensors leads to the output."""
    wanted = {output}
    found: set[Use] = set()
    for place in range(len(nodes) - 1, -1, -1):
        node = nodes[place]
        if not wanted.intersection(node.output) or node.op_type in WITHOUT_GRADIENT:
            continue
        for index, name in enumerate(node.input):
            if name and index not in _SETTINGS.get(node.op_type, ()) and types.get(name, TensorProto.FLOAT) in _FLOATS:
                found.add((place, index))
                wanted.add(name)
    return found


def _uses(foreign: Foreign) -> dict[str, list[Use]]:
    """Where each initialiser is read as a value, not as a setting or a statistic."""
    uses: dict[str, list[Use]] = {name: [] for name in foreign.weights}
    for place, node in enumerate(foreign.nodes):
        for index, name in enumerate(node.input):
            if name in uses and index not in _SETTINGS.get(node.op_type, ()):
                uses[name].append((place, index))
    return uses


def _named(foreign: Foreign, config: NetworkConfig) -> frozenset[str] | None:
    """What is to be trained, as the user or the file says; None where nobody does."""
    patterns = [part.strip() for part in config.trainable.split(",") if part.strip()]
    if not patterns and foreign.told is not None:
        return frozenset(foreign.told)
    if not patterns:
        return None
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in foreign.weights):
            names = ", ".join(list(foreign.weights)[:50])
            raise BadConfig(f"network.trainable: no tensor is called {pattern!r}.", f"There are: {names}.")
    return frozenset(name for name in foreign.weights if any(fnmatchcase(name, pattern) for pattern in patterns))


def _is_weight(foreign: Foreign, name: str, uses: Sequence[Use]) -> bool:
    """Whether a tensor looks like one that is learnt: several numbers, or the one number of a bias."""
    array = foreign.weights[name]
    if array.ndim == 0 or array.size == 0:
        return False
    return array.size > 1 or any(_is_bias(foreign, use) for use in uses)


def _is_bias(foreign: Foreign, use: Use) -> bool:
    node = foreign.nodes[use[0]]
    if node.op_type in _BIASED:
        return use[1] == 2
    makers = {output: other.op_type for other in foreign.nodes for output in other.output}
    others = [name for index, name in enumerate(node.input) if index != use[1]]
    return node.op_type == "Add" and any(makers.get(name) in ("MatMul", "Gemm", "Conv") for name in others)


def _separate(foreign: Foreign, name: str, usable: Sequence[Use], roles: Roles, *, joined: bool) -> None:
    """Make a parameter of an initialiser; several where an exporter gave layers of equal first values one tensor.

    Raises:
        BadNetwork: Layers share a tensor whose values are its own: nothing tells whether they were meant to.
    """
    layers = [use for use in usable if foreign.nodes[use[0]].op_type not in _VIEWS]
    merged = not joined and len(layers) > 1
    if merged and not is_constant_valued(foreign.weights[name]):
        nodes = ", ".join(repr(_node(foreign, place)) for place, _ in layers[:_SHOWN])
        raise BadNetwork(
            f"Tensor {name[:100]!r} is read by {len(layers)} nodes ({nodes}): an exporter that optimises merges layers "
            "which begin with equal values, and they would be trained as one.",
            "Export without optimisation (of PyTorch `optimize=False`). Where it is one tensor by design: "
            "`--set network.trainable='*'`.",
        )
    groups = [[use] for use in usable] if merged else [list(usable)]
    for number, group in enumerate(groups):
        parameter = name if number == 0 else _unused(f"{name}.{number + 1}", foreign, roles)
        roles.parameters[parameter] = name
        roles.reads.update(dict.fromkeys(group, parameter))
    if merged:
        roles.notes.append(f"{name!r} was merged of {len(groups)} tensors of equal numbers: they are trained apart.")


def _node(foreign: Foreign, place: int) -> str:
    return str(foreign.nodes[place].name or foreign.nodes[place].output[0])[:60]


def _choose_statistics(foreign: Foreign, config: NetworkConfig, roles: Roles) -> None:
    """Running statistics of the BatchNormalizations that train become buffers; the others stay constants."""
    trained, frozen = 0, 0
    for place, node in enumerate(foreign.nodes):
        if node.op_type != "BatchNormalization":
            continue
        known = all(name in foreign.weights for name in node.input[3:5])
        # One without scale and bias of its own is trained wherever the others are.
        learns = any((place, index) in roles.reads or node.input[index] not in foreign.weights for index in (1, 2))
        if not (known and learns and config.batch_norm == "train"):
            frozen += 1
            continue
        trained += 1
        for index in (3, 4):
            name = node.input[index]
            shared = name in roles.buffers and is_constant_valued(foreign.weights[name])
            taken = name in roles.parameters
            buffer = _unused(f"{name}.{place}", foreign, roles) if shared or taken else name
            roles.buffers[buffer] = name
            roles.reads[place, index] = buffer
    if trained:
        roles.notes.append(
            f"BatchNormalization trains on the batch's own statistics ({trained}), and keeps running ones."
        )
    if frozen:
        why = "as asked" if config.batch_norm == "frozen" else "nothing of them is trained"
        roles.notes.append(f"BatchNormalization keeps the statistics of the file ({frozen}): {why}.")


def _unused(name: str, foreign: Foreign, roles: Roles) -> str:
    taken = {*foreign.weights, *roles.parameters, *roles.buffers}
    while name in taken:
        name += "'"
    return name


def _nothing(foreign: Foreign, cut: Sequence[str]) -> BadNetwork:
    if cut:
        return BadNetwork(
            f"No gradient leads from the network's answer to any of its tensors ({_listed(cut)}): it can't learn.",
            "Look for an operator that cuts the graph, such as ArgMax, Round or a cast to integers.",
        )
    return BadNetwork(
        f"The network holds nothing to train among its {len(foreign.weights)} float32 initialisers.",
        "Export it with its weights, in float32 and in one file; name them with network.trainable.",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:100]) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} others"
