"""Commands about models that were made elsewhere: import, convert."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from shoal._runs import Run
from shoal.cli.output import FAILED, Output, common
from shoal.client import connect
from shoal.errors import BadRequest, RunFailed

POOLING = ("none", "mean", "first", "flatten")


@click.command(name="import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="The model's name; made from PATH's when left out.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE", help="Names of the classes, one a line.")
@click.option("--image", metavar="SIZE", help="It takes images of this size: 224, or HEIGHTxWIDTH.")
@click.option("--color", type=click.Choice(["rgb", "bgr", "grey"]), help="Order of an image's channels.")
@click.option("--mean", metavar="N,N,N", help="What is taken off each channel.")
@click.option("--std", metavar="N,N,N", help="What each channel is divided by, after that.")
@click.option("--range", "range_", metavar="LOW,HIGH", help="What pixels 0 and 255 become before that; 0,1.")
@click.option("--fit", type=click.Choice(["stretch", "pad", "cover"]), help="How an image gets its size.")
@click.option("--crop", type=float, metavar="SHARE", help="The share of an image's middle that is used.")
@click.option("--columns", metavar="A,B,C", help="It takes rows with these columns, in this order.")
@click.option("--output", metavar="NAME", help="The output that is answered.")
@click.option("--task", type=click.Choice(["classification", "multilabel", "regression"]), help="Told when left out.")
@click.option("--activation", type=click.Choice(["none", "softmax", "sigmoid"]), help="What makes probabilities.")
@click.option("--backbone", metavar="NAME", help="Keep it as a backbone of this name, for transfer learning.")
@click.option("--features", metavar="TENSOR", help="The tensor that is a backbone's features; told when left out.")
@click.option("--pooling", type=click.Choice(POOLING), help="What makes a vector of them; told when left out.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="A model.yaml: docs/models.md.")
@click.option("--vocabulary", type=click.Path(path_type=Path), metavar="FILE", help="The one that a pipeline names.")
@click.option("--production", is_flag=True, help="Serve it at once, even if another version serves.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is verified (the default).")
@common()
def import_model(
    path: Path,
    name: str | None,
    labels: Path | None,
    config: Path | None,
    vocabulary: Path | None,
    wait: bool,
    stack: str | None,
    out: Output,
    **options: Any,  # noqa: ANN401 - of several types
) -> None:
    """Bring the ONNX model PATH, or a pipeline.yaml of models: it is verified, becomes a version, and serves.

    Without a description of its input (--image, --columns, --config) it takes tensors: /v2/models/NAME/infer.
    """
    name = backbone_name(name, options)
    client = connect(stack)
    run = client.import_model(
        path, name=name, labels=labels, config=config, vocabulary=vocabulary, **described(options)
    )
    if wait:
        try:
            run.wait()
        except RunFailed:
            if not out.as_json:
                raise
            out.document(run.document)
            sys.exit(FAILED)
    out.document(run.document)
    _tell(client.model(run.model["name"]).document if run.model else {}, run, out)


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of model.yaml that the options mean. Raises `BadRequest`."""
    names = ("size", "color", "mean", "std", "range", "fit", "crop")
    given = (options["image"], options["color"], options["mean"], options["std"])
    image = dict(zip(names, (*given, options["range_"], options["fit"], options["crop"]), strict=True))
    image = {key: value for key, value in image.items() if value is not None}
    for key in ("mean", "std", "range"):
        if key in image:
            image[key] = _numbers(image[key], f"--{key}")
    if image and "size" not in image:
        raise BadRequest(f"--{next(iter(image))} is about images, and no size is given.", "Add --image SIZE.")
    columns = [column.strip() for column in (options["columns"] or "").split(",") if column.strip()]
    fields = {key: options[key] for key in ("output", "task", "activation")}
    wishes = {key: options[key] for key in ("features", "pooling") if options[key] is not None}
    backbone = (wishes or True) if options["backbone"] else None
    more = {"image": image, "columns": columns, "production": options["production"] or None, "backbone": backbone}
    return {**fields, **more}


def backbone_name(name: str | None, options: Mapping[str, Any]) -> str | None:
    """The model's name: the backbone's, if it is one. Raises `BadRequest` where options don't go together."""
    backbone = options["backbone"]
    told = next((option for option in ("features", "pooling") if options[option] is not None), None)
    if backbone is None and told is not None:
        raise BadRequest(f"--{told} is about a backbone, and none is named.", "Add --backbone NAME.")
    if backbone is not None and name not in (None, backbone):
        raise BadRequest(f"--name {name} and --backbone {backbone} are two names.", "Leave one of them out.")
    return backbone or name


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise BadRequest(f"{option} is {text!r}, which isn't numbers.", "Write them as 0.485,0.456,0.406.") from error


def _tell(model: Mapping[str, Any], run: Run, out: Output) -> None:
    """What came of it, for people."""
    if not run.model:
        out.line(f"import {run.id}")
        return
    number = run.model["version"]
    version = next(entry for entry in model["versions"] if entry["version"] == number)
    decision = version.get("promotion") or {}
    out.line(f"model {run.model['name']}, version {number}: {decision.get('decision')}, {decision.get('reason')}")
    lineage = version.get("lineage") or {}
    for kind in ("inputs", "outputs"):
        for tensor in version["signature"][kind]:
            out.line(f"{kind[:-1]:<7} {tensor['name']} {tensor['datatype']} {tensor['shape']}")
    for chosen in lineage.get("inferred") or []:
        out.line(f"chosen  {chosen}")
    for warning in lineage.get("warnings") or []:
        out.line(f"warning {warning}", style="yellow")
    name = run.model["name"]
    if "backbone" in lineage:
        out.line(f"train   shoal train DATASET --recipe transfer --backbone {name}")
    if version["task"] == "tensors":
        out.line(f"ask     POST /v2/models/{name}/infer (tensors)")
    else:
        out.line(f"ask     shoal predict {name} FILE")


def _write_blocks(backbone: Mapping[str, Any], out: Output) -> None:
    """What a backbone makes, and its blocks, of which the last ones can be fine-tuned."""
    out.line(f"a backbone: {backbone['width']:,} features from {backbone['source']!r}; training.fine_tune: N means")
    rows = [
        [str(number), f"{block['parameters']:,}", "x".join(map(str, block["shape"])), ", ".join(block["operators"])]
        for number, block in enumerate(backbone["blocks"], 1)
    ]
    if rows:
        out.table(["N", "NUMBERS OF THE BLOCK", "FEATURES BEFORE IT", "OPERATORS"], rows)


def _conversion(told: Mapping[str, str]) -> str:
    """How a file says that it was converted; empty where it doesn't, or in another way than `shoal convert` does."""
    try:
        facts = json.loads(told.get("shoal.converted", ""))
        return (
            f"converted from {facts['from']} {facts['version']} by {facts['by']}: as the converter told, largest "
            f"difference {facts['max_difference']:.3g}, same label {facts['same_label']:.1%}"
        )
    except (ValueError, KeyError, TypeError):
        return ""


def write_origin(version: Mapping[str, Any], model: Mapping[str, Any], out: Output) -> None:
    """Where an imported version comes from, and which imports of its model were refused."""
    lineage = version.get("lineage") or {}
    file = lineage.get("file")
    if isinstance(file, dict) and "operators" in file:
        sets = ", ".join(f"{domain} {number}" for domain, number in file["opsets"].items())
        out.line()
        out.line(f"Version {version['version']}: imported from {lineage['upload']['key']}")
        out.line(f"{file['parameters']:,} parameters, operator sets {sets}, by {file['producer'] or 'nobody told'}")
        told = _conversion(file.get("told") or {})
        if told:
            out.line(told)
    if lineage.get("backbone"):
        _write_blocks(lineage["backbone"], out)
    for refused in model.get("refused") or []:
        out.line(f"refused {refused['at']}: {refused['reason']}", style="yellow")
        out.line(f"        {refused['fix']}")


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("weights", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("model.onnx"), help="The ONNX file.")
@click.option("--input", "inputs", multiple=True, metavar="SHAPE", help="Its input's shape: 1x3x224x224, NAME=1x8.")
@click.option("--samples", type=click.Path(path_type=Path), metavar="FILE", help="An .npz of inputs to compare on.")
@click.option("--tolerance", type=float, default=1e-3, show_default=True, help="Largest relative difference.")
@click.option("--trust", is_flag=True, help="Load a file even if that executes code that lies in it.")
@common(stack=False)
def convert(
    source: Path,
    weights: Path | None,
    output: Path,
    inputs: tuple[str, ...],
    samples: Path | None,
    tolerance: float,
    trust: bool,
    out: Output,
) -> None:
    """Convert a model of another framework to ONNX, and compare it with the original.

    SOURCE is a file of PyTorch (.pt2, TorchScript), Keras (.keras, .h5), TFLite, scikit-learn (.skops, .joblib, .pkl),
    XGBoost (.json, .ubj) or LightGBM (.txt), a SavedModel's folder, or Caffe's .prototxt with its .caffemodel as
    WEIGHTS. The converters are installed once, into an environment of their own under your cache folder.
    """
    from shoal.convert.converting import convert as converted

    facts = converted(
        source,
        output,
        weights=weights,
        inputs=dict(map(_shape, inputs)),
        samples=samples,
        trust=trust,
        tolerance=tolerance,
        say=out.note,
    )
    out.document({"output": str(output), **facts})
    out.line(f"{output}: {facts['from']} {facts['version']}, by {facts['by']}")
    out.line(
        f"beside the original on {facts['samples']} samples: largest difference {facts['max_difference']:.3g}, "
        f"same label {facts['same_label']:.1%}"
    )
    out.line(f"next    shoal import {output} --name NAME")


def _shape(text: str) -> tuple[str, list[int]]:
    """`1x3x224x224`, or `NAME=1x8`."""
    name, _, shape = text.rpartition("=")
    try:
        return name, [int(part) for part in shape.split("x")]
    except ValueError as error:
        raise BadRequest(f"--input is {text!r}.", "Write a shape as 1x3x224x224, or NAME=1x8.") from error


COMMANDS = (import_model, convert)
