"""The optimizers of graphs/optimizers.py as PyTorch's own, with their state under the same names in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shoal_core.data.shards import Tensors
from shoal_core.errors import BadConfig
from shoal_core.training.settings import TrainingSettings

# Slot in a checkpoint -> PyTorch's name of it.
_SLOTS: Mapping[str, Mapping[str, str]] = {
    "sgd": {"momentum": "momentum_buffer"},
    "adam": {"m": "exp_avg", "v": "exp_avg_sq"},
    "adamw": {"m": "exp_avg", "v": "exp_avg_sq"},
    "lion": {"m": "exp_avg"},
}


class Lion(torch.optim.Optimizer):
    """Lion (X. Chen et al., 2023), as graphs/optimizers.py has it."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ANN401 - PyTorch's own signature
        """Move every weight equally far."""
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                average = state.setdefault("exp_avg", torch.zeros_like(weight))
                way = torch.sign(first * average + (1 - first) * weight.grad)
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(way, alpha=group["lr"])
                average.mul_(second).add_(weight.grad, alpha=1 - second)


class RunOptimizer:
    """A run's optimizer over named weights.

    Args:
        settings: Of the run.
        weights: Name -> the weight.
        state: `<slot>.<name>` -> array, as a checkpoint has it.
        step: Steps done.

    Raises:
        BadConfig: An optimizer that a job doesn't know.
    """

    def __init__(self, settings: TrainingSettings, weights: Mapping[str, Tensor], state: Tensors, step: int) -> None:
        if settings.optimizer not in _SLOTS:
            raise BadConfig(
                f"A SageMaker job doesn't know the optimizer {settings.optimizer!r}.", "Train with compute: lambda."
            )
        self._weights, self._slots = dict(weights), _SLOTS[settings.optimizer]
        config = settings.optimizer_config
        self._clip: float | None = config.get("clip_norm")
        decay = float(config.get("weight_decay", 0.0))
        groups: list[dict[str, Any]] = [
            {"params": [w for name, w in weights.items() if _decays(name, w.ndim) is decaying], "weight_decay": share}
            for decaying, share in ((True, decay), (False, 0.0))
        ]
        self._optimizer = _made(settings.optimizer, config, [group for group in groups if group["params"]])
        for name, weight in self._weights.items():
            kept: dict[str, Any] = {
                theirs: torch.from_numpy(np.array(state[f"{ours}.{name}"])).to(weight.device)
                for ours, theirs in self._slots.items()
                if f"{ours}.{name}" in state
            }
            if settings.optimizer in ("adam", "adamw"):
                kept["step"] = torch.tensor(float(step))
            self._optimizer.state[weight] = kept

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Clip the gradients, and take a step at a learning rate."""
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(self._weights.values(), self._clip)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()

    def arrays(self) -> Tensors:
        """`<slot>.<name>` -> float32 array: what a checkpoint keeps."""
        found: Tensors = {}
        for ours, theirs in self._slots.items():
            for name, weight in self._weights.items():
                value = self._optimizer.state[weight].get(theirs)
                kept = torch.zeros_like(weight) if value is None else value
                found[f"{ours}.{name}"] = np.array(kept.detach().cpu().numpy(), np.float32)
        return found


def _made(name: str, config: Mapping[str, Any], groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    betas = (float(config.get("beta1", 0.9)), float(config.get("beta2", 0.99 if name == "lion" else 0.999)))
    if name == "sgd":
        momentum = float(config.get("momentum", 0.9))
        return torch.optim.SGD(
            groups, lr=1.0, momentum=momentum, nesterov=bool(config.get("nesterov")) and momentum > 0
        )
    if name == "lion":
        return Lion(groups, lr=1.0, betas=betas)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, lr=1.0, betas=betas, eps=float(config.get("epsilon", 1e-8)))


def _decays(parameter: str, rank: int) -> bool:
    """As graphs.optimizers.decays, which needs onnx to be imported: weights decay, biases and normalisations don't."""
    *layers, last = parameter.lower().split(".")
    return rank >= 2 and "bias" not in last and not any("norm" in part for part in (*layers, last))
