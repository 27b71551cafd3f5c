"""ONNX Runtime sessions that give the same bytes every time, kept warm between invocations of one worker."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from shoal_core.data.shards import Tensors
from shoal_core.training.noise import NOISE


class Session:
    """One loaded graph.

    Intra-op threads are fixed (a different count sums in a different order), nodes run in sequence, and idle threads
    don't spin (a Lambda pays for them).
    """

    def __init__(self, graph: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        # One block for a step's tensors would come on top of what the first step took: twice the memory, no faster.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs: list[str] = [value.name for value in self._session.get_inputs()]
        self.outputs: list[str] = [value.name for value in self._session.get_outputs()]
        self.noise: dict[str, tuple[int | str, ...]] = {
            value.name: tuple(value.shape) for value in self._session.get_inputs() if value.name.startswith(NOISE)
        }
        """What a step of a network with Dropout is to be given at random: input -> shape."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
        """Run once. Feeds that the graph doesn't ask for are left out; outputs come back by name."""
        wanted = {name: feeds[name] for name in self.inputs}
        return dict(zip(self.outputs, self._session.run(self.outputs, wanted), strict=True))


def node_args(model: bytes) -> tuple[list[Any], list[Any]]:
    """The graph's inputs and outputs as ONNX Runtime describes them (`NodeArg`)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.get_inputs(), session.get_outputs()


class SessionCache:
    """The most recently used sessions, by the content of their graph.

    Args:
        capacity: How many sessions to keep.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sessions: OrderedDict[tuple[str, int], Session] = OrderedDict()
        self._lock = Lock()

    def get(self, graph: bytes, threads: int) -> Session:
        """The session of this graph with this number of threads, loaded at most once."""
        key = (hashlib.sha256(graph).hexdigest(), threads)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                session = Session(graph, threads)
                self._sessions[key] = session
            self._sessions.move_to_end(key)
            while len(self._sessions) > self._capacity:
                self._sessions.popitem(last=False)
            return session

    def __len__(self) -> int:
        return len(self._sessions)


_SESSIONS = SessionCache(capacity=4)


def session_of(graph: bytes, threads: int) -> Session:
    """The warm session of a graph in this process."""
    return _SESSIONS.get(graph, threads)
