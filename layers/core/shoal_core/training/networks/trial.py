"""The process that fits a foreign network and tries it: `python -m shoal_core.training.networks.trial NETWORK`.

Beside the network lies `batch.safetensors`, real samples with their `target`. The request comes on stdin (JSON:
`signature`, `config`, `loss`, `loss_config`, `limits`), the answer goes to stdout: a line of JSON (the lists of
`FittedNetwork`, and `forward_bytes`, the length of the graph; or `error`, `reason` and `fix`), the forward graph, and a
safetensors file with the first values of its parameters and buffers.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from shoal_core.data.shards import decode_shard, encode_shard
from shoal_core.errors import ShoalError
from shoal_core.graphs.forward import BUFFER, PARAMETER
from shoal_core.graphs.losses import loss_for
from shoal_core.graphs.signature import NetworkSignature
from shoal_core.importing.bounded import limit_process
from shoal_core.importing.limits import Limits
from shoal_core.training.networks.adopting import adopt_network
from shoal_core.training.networks.config import BATCH_FILE, TRIAL, NetworkConfig
from shoal_core.training.networks.proving import prove
from shoal_core.training.networks.work import seconds_per_sample

_PROOF_SHARE = 0.6
"""Of the time that is allowed; the rest is for starting, reading and writing."""


def try_network(data: bytes, batch: bytes, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], bytes]:
    """Fit a network and try it on real samples.

    Args:
        data: One ONNX file.
        batch: Real samples, as safetensors.
        request: As the module says.
        limits: What is allowed.

    Returns:
        The line of JSON, and the bytes behind it.

    Raises:
        ShoalError: As `adopting.adopt_network` and `proving.prove` do.
    """
    started = time.monotonic()
    signature = NetworkSignature.model_validate(request["signature"])
    adopted = adopt_network(data, signature, NetworkConfig.of(request["config"]), limits)
    forward = adopted.forward
    loss = loss_for(signature.task, request["loss"], request["loss_config"])
    left = _PROOF_SHARE * limits.wall_seconds - (time.monotonic() - started)
    proof = prove(forward, loss, decode_shard(batch, "The batch"), left)
    graph = forward.model.SerializeToString(deterministic=True)
    values = {PARAMETER + name: value for name, value in forward.initial.items()}
    values |= {BUFFER + name: value for name, value in forward.buffers.items()}
    answer = {
        "parameters": list(forward.parameters),
        "buffers": list(forward.buffers),
        "dropouts": list(forward.dropouts),
        "numbers": sum(int(value.size) for value in forward.initial.values()),
        "seconds": seconds_per_sample(forward),
        "notes": list(adopted.notes),
        "warnings": list(proof.warnings),
        "forward_bytes": len(graph),
    }
    return answer, graph + encode_shard(values)


def main() -> None:
    """Try the network that the first argument names."""
    request = json.loads(sys.stdin.buffer.read())
    limits = Limits(**{**request["limits"], "ir_versions": tuple(request["limits"]["ir_versions"])})
    path = Path(sys.argv[1])
    data, batch = path.read_bytes(), path.with_name(BATCH_FILE).read_bytes()
    allowed = limit_process(limits, len(data) + len(batch))
    rest = b""
    try:
        answer, rest = try_network(data, batch, request, limits)
    except ShoalError as error:
        answer = {"error": type(error).__name__, "reason": error.reason, "fix": error.fix}
    except MemoryError:
        refusal = TRIAL.too_much_memory(allowed)
        answer = {"error": type(refusal).__name__, "reason": refusal.reason, "fix": refusal.fix}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + rest)


if __name__ == "__main__":
    main()
