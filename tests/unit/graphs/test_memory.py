"""The memory of a step as its graph tells it, beside what a process really takes."""

import subprocess
import sys

import numpy as np
import pytest

from shoal_core.graphs.builder import GraphBuilder
from shoal_core.graphs.forward import ForwardGraph
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.memory import step_memory
from shoal_core.graphs.optimizers import Sgd
from shoal_core.graphs.training_step import build_training_step, plan_training_step
from tests.unit.graphs.networks import CLASSES, NETWORK_IDS, NETWORKS, batch, load, prefixed, run, small

COMPUTED_TWICE = (
    "autoencoder-image", "cnn-image", "crnn-image", "mlp-mixed", "resnet-image", "rnn-text", "rnn-sequence",
    "transformer-text", "vgg-image",
)  # fmt: skip
FLOAT, MEGABYTE = 1, 2**20
SIZES = {"N": 8}
# What a function has, and what of it a step may take beside the interpreter and its libraries.
FUNCTION, ROOM = 1_769 * MEGABYTE, 1_300 * MEGABYTE
WIDTH, BLOCKS = 131_072, 54

# In: graph, feeds; out: the step, how much the process grew by it, and the most that it took.
RUN = """
import sys
import numpy as np
from shoal_core.training.sessions import Session
graph, feeds, told = sys.argv[1:]

def most():
    # The kernel's mark of this program: getrusage counts what the process was before it became this program, too.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])

session = Session(open(graph, "rb").read(), 1)
values = dict(np.load(feeds))
before = most()
outputs = session.run(values)
np.savez(told, **outputs)
print(most() - before, most())
"""


def chain(*operators: str) -> GraphBuilder:
    graph = GraphBuilder(namespace="chain")
    x = graph.input("x", FLOAT, ("N", 100))
    for operator in operators:
        x = graph.emit(operator, x)
    graph.output(graph.emit("Softmax", x, output="y"))
    return graph


def test_what_nobody_reads_any_more_is_free():
    memory = step_memory(chain("Exp", "Sin", "Cos"), SIZES)
    one = 8 * 100 * 4
    assert (memory.held, memory.peak) == (one, 2 * one)


def test_a_result_takes_the_place_of_its_operand():
    assert step_memory(chain("Exp", "Neg", "Relu"), SIZES).peak == 2 * 8 * 100 * 4


def test_a_view_takes_nothing_and_keeps_its_source():
    graph = GraphBuilder(namespace="views")
    x = graph.emit("Exp", graph.input("x", FLOAT, ("N", 100)))
    view = graph.emit("Reshape", x, graph.integers(-1))
    other = graph.emit("Exp", graph.emit("Sin", graph.constant(np.ones(3, np.float32))))
    graph.output(graph.emit("ReduceSum", view, keepdims=0, output="total"))
    graph.output(graph.emit("Identity", other, output="other"))
    assert step_memory(graph, SIZES).peak == 8 * 100 * 4 + 2 * 3 * 4


def test_what_no_output_needs_is_left_out():
    graph = chain("Exp")
    graph.emit("Sin", "x")
    assert [node.op_type for node in graph.needed_nodes()] == ["Exp", "Softmax"]
    assert len(graph.build("chain").graph.node) == 2


@pytest.mark.parametrize("network", COMPUTED_TWICE)
def test_a_step_computed_twice_is_the_same_step(network):
    recipe, signature = NETWORKS[NETWORK_IDS.index(network)]
    forward, loss, optimizer = small(recipe, signature), loss_for(signature.task), Sgd()
    feeds = batch(signature, 5) | prefixed(forward) | {"learning_rate": np.float32(0.1), "step": np.float32(0)}
    feeds |= {f"state.momentum.{name}": np.zeros_like(value) for name, value in forward.initial.items()}
    once = build_training_step(forward, loss, optimizer)
    expected = run(load(once), feeds)
    again = build_training_step(forward, loss, optimizer, parts=4)
    assert len(again.graph.node) > len(once.graph.node)
    found = run(load(again), feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def deep(blocks: int) -> ForwardGraph:
    """A network that is nothing but large results: each Relu keeps 32 MB for 64 samples."""
    graph = GraphBuilder(namespace="deep")
    x = graph.input("numbers", FLOAT, ("N", 1))
    initial = {"spread": np.linspace(-1, 1, WIDTH, dtype=np.float32).reshape(1, -1)}
    x = graph.emit("MatMul", x, graph.input("param.spread", FLOAT, (1, WIDTH)))
    for block in range(blocks):
        if block % 9 == 0:
            name = f"scale{block}"
            initial[name] = np.float32([1 + block / 100])
            x = graph.emit("Mul", x, graph.input(f"param.{name}", FLOAT, (1,)))
        x = graph.emit("Relu", x)
    initial["weight"] = np.random.default_rng(0).normal(0, 0.01, (WIDTH, 3)).astype(np.float32)
    raw = graph.emit("MatMul", x, graph.input("param.weight", FLOAT, (WIDTH, 3)))
    graph.output(graph.emit("Identity", raw, output="logits"))
    return ForwardGraph(graph.build("forward"), tuple(initial), initial)


def run_apart(tmp_path, model, feeds):
    """A step in a process of its own: its outputs, by how many bytes it grew, and how many it took in all.

    What counts is memory that was touched, as in a function: a limit on what is only reserved (`ulimit -d`) falls
    with the way the runtime's arena happens to grow.
    """
    (tmp_path / "step.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "feeds.npz", **feeds)
    files = [str(tmp_path / name) for name in ("step.onnx", "feeds.npz")]
    command = [sys.executable, "-c", RUN, *files, str(tmp_path / "outputs.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with np.load(tmp_path / "outputs.npz") as outputs:
        return dict(outputs), *map(int, done.stdout.split())


def test_a_network_that_outgrows_the_function_trains_within_it(tmp_path):
    forward, loss, optimizer = deep(BLOCKS), loss_for(CLASSES), Sgd()
    random = np.random.default_rng(0)
    feeds = {"numbers": random.normal(size=(64, 1)).astype(np.float32), "target": random.integers(0, 3, 64)}
    feeds |= prefixed(forward) | {"learning_rate": np.float32(0.1), "step": np.float32(0)}
    feeds |= {f"state.momentum.{name}": np.zeros_like(value) for name, value in forward.initial.items()}

    kept = plan_training_step(forward, loss, optimizer, 64, ROOM, recompute="never")
    fitted = plan_training_step(forward, loss, optimizer, 64, ROOM)
    assert (kept.again, kept.memory.total > FUNCTION) == (0, True)
    assert (fitted.again > 0, fitted.memory.total <= ROOM) == (True, True)

    found, grown, most = run_apart(tmp_path, fitted.model, feeds)
    expected, grown_kept, most_kept = run_apart(tmp_path, kept.model, feeds)
    assert most < FUNCTION < most_kept
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    # What was told beforehand, beside what the processes took; the runtime rounds up what it asks for.
    for told, took in ((fitted.memory.peak, grown), (kept.memory.peak, grown_kept)):
        assert 0.8 * told < took < 1.4 * told
