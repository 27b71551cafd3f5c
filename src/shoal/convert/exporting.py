"""`shoal.export`: a PyTorch module that lives in this process to an ONNX file that answers as it does."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shoal.convert.converting import TOLERANCE, run_program
from shoal.errors import BadRequest, ConversionFailed

OPSET = 18
SAMPLES = 8
SEED = 7


def export(
    module: Any,  # noqa: ANN401 - a torch.nn.Module; torch need not be installed
    example: Any,  # noqa: ANN401 - a tensor, or a tuple of them
    path: str | Path = "model.onnx",
    *,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Export a PyTorch module, with a free batch where the module allows it, and compare it with the original.

    Args:
        module: The module; it is exported as in `eval()`, and left as it was.
        example: A tensor that it takes, or a tuple of them, batch first.
        path: Where the ONNX file goes: `shoal import` takes it.
        tolerance: The largest difference that is fine, relative to the largest answer.

    Returns:
        `from`, `by`, `version`; `samples`, `max_difference`, `same_label` and `agreeing` (shares of the samples).

    Raises:
        BadRequest: torch isn't installed, or the example isn't tensors.
        ConversionFailed: The exporter failed, or what it made answers differently.
    """
    torch = import_torch()
    examples = tuple(example) if isinstance(example, tuple | list) else (example,)
    if not examples or not all(isinstance(tensor, torch.Tensor) and tensor.dim() for tensor in examples):
        raise BadRequest("The example isn't a tensor, or a tuple of tensors.", "Give what the module is called with.")
    was_training = module.training
    module.eval()
    try:
        with tempfile.TemporaryDirectory(prefix="shoal-") as folder:
            exported = Path(folder) / "exported.onnx"
            names = _names(module, len(examples))
            _export(torch, module, examples, names, exported)
            recorded = Path(folder) / "samples.npz"
            _record(torch, module, examples, names, recorded)
            request = {
                "source": str(exported),
                "version": torch.__version__,
                "output": str(Path(path).resolve()),
                "samples": str(recorded),
                "count": SAMPLES,
                "tolerance": tolerance,
            }
            return run_program(Path(sys.executable), "checking", request, isolated=False)
    finally:
        module.train(was_training)


def import_torch() -> Any:  # noqa: ANN401 - a module that need not be installed
    """PyTorch, where the user has it. Raises `BadRequest`."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise BadRequest("PyTorch isn't installed here.", "Do this where the module was made.") from error


def _names(module: Any, count: int) -> list[str]:  # noqa: ANN401
    """The names of forward's arguments."""
    parameters = [name for name in inspect.signature(module.forward).parameters if name not in ("args", "kwargs")]
    return parameters[:count] if len(parameters) >= count else [f"input_{number}" for number in range(count)]


def _export(torch: Any, module: Any, examples: Sequence[Any], names: Sequence[str], path: Path) -> None:  # noqa: ANN401
    """By PyTorch's newer exporter where onnxscript is installed, else by the older one."""
    # A batch of one is taken for a constant.
    doubled = tuple(torch.cat([tensor, tensor]) if tensor.shape[0] == 1 else tensor for tensor in examples)
    common: dict[str, Any] = {"input_names": list(names), "opset_version": OPSET, "verbose": False}
    try:
        if importlib.util.find_spec("onnxscript") is None:
            free = {name: {0: "N"} for name in names}
            torch.onnx.export(module, doubled, path, dynamo=False, dynamic_axes=free, **common)
            return
        free_batch = tuple({0: torch.export.Dim.DYNAMIC} for _ in doubled)
        options = {"dynamo": True, "external_data": False, **common}
        try:
            torch.onnx.export(module, doubled, path, dynamic_shapes=free_batch, **options)
        except Exception:  # noqa: BLE001 - the exporter's errors have no common base; a fixed batch is the next best
            torch.onnx.export(module, tuple(examples), path, **options)
    except Exception as error:
        text = " ".join(str(error).split())[:400]
        raise ConversionFailed(
            f"PyTorch can't export the module: {text}", "Look into what its exporter printed; change the module's code."
        ) from error


def _record(torch: Any, module: Any, examples: Sequence[Any], names: Sequence[str], path: Path) -> None:  # noqa: ANN401
    """The module's own answers to the example and to variations of it."""
    import numpy as np

    generator = torch.Generator().manual_seed(SEED)
    arrays: dict[str, Any] = {}
    with torch.no_grad():
        for number in range(SAMPLES):
            sample = [_varied(torch, tensor, generator, number) for tensor in examples]
            answers = module(*sample)
            found = answers if isinstance(answers, tuple | list) else [answers]
            arrays |= {f"in.{number}.{name}": tensor.cpu().numpy() for name, tensor in zip(names, sample, strict=True)}
            arrays |= {f"out.{number}.{index}": array.cpu().numpy() for index, array in enumerate(found)}
    np.savez(path, **arrays)


def _varied(torch: Any, tensor: Any, generator: Any, number: int) -> Any:  # noqa: ANN401
    """The example first; then numbers like its own, in another order (whole numbers), or with noise."""
    if number == 0:
        return tensor
    order = torch.randperm(tensor.numel(), generator=generator)
    shuffled = tensor.reshape(-1)[order].reshape(tensor.shape)
    if not tensor.is_floating_point():
        return shuffled
    return shuffled + 0.1 * torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
