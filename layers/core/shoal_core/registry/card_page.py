"""The model card as one page for people, complete in itself: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shoal_core.data.quality.charts import HEIGHT, WIDTH, bar, curve, figure, stacked_bars
from shoal_core.data.quality.markup import Child, Markup, element, join, verbatim
from shoal_core.data.quality.page_parts import chip, hint, table
from shoal_core.data.quality.style import CSS, POLICY
from shoal_core.registry.card_markdown import plain_metrics

MAX_CLASSES = 100
MAX_MATRIX = 30
_SHADES = {"production": "good", "candidate": "warn", "late": "plain"}


def page(card: Mapping[str, Any]) -> bytes:
    """The card as HTML."""
    sections = [
        ("about", "What it is for", _about(card["said"])),
        ("results", f"Results on the {card['evaluation']['split']} split", _results(card["evaluation"])),
        ("classes", "By class", _classes(card["evaluation"])),
        ("matrix", "Confusion matrix", _matrix(card["evaluation"])),
        ("calibration", "Calibration", _calibration(card["calibration"], card["evaluation"])),
        ("data", "Data", _data(card["data"])),
        ("training", "Training", _training(card["training"])),
        ("candidates", "What could be served", _candidates(card["optimization"])),
        ("promotion", "Why it serves, or waits", _promotion(card["promotion"])),
        ("lineage", "Where it comes from", _lineage(card)),
    ]
    shown = [(name, title, body) for name, title, body in sections if body is not None]
    title = f"{card['model']} {card['version']}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{title} · model card"),
        verbatim(f"<style>{CSS}</style>"),
    )
    links = (element("a", name, href=f"#{key}") for key, name, _ in shown)
    bodies = (
        element("section", element("h2", name, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title")
        for key, name, body in shown
    )
    body = element(
        "body",
        element("header", element("div", *_header(card), element("nav", *links, aria_label="Sections"))),
        element("main", *bodies),
        element("footer", f"Model {card['model']}, version {card['version']}. The same in JSON: card.json."),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n".encode()


def _header(card: Mapping[str, Any]) -> list[Markup]:
    decision = str(card["promotion"].get("decision", ""))
    chips = [chip(decision, _SHADES.get(decision, "plain"))] if decision else []
    chips += [chip("warning", "warn") for _ in card["warnings"][:1]]
    tiles = (
        element("div", element("b", figure(value)), element("span", name.replace("_", " ")), class_="figure")
        for name, value in plain_metrics(card["evaluation"])[:6]
    )
    lead = f"Model card · version {card['version']} · {card['task']} · {card['created_at']} "
    return [
        element("h1", card["model"]),
        element("p", lead, join(chips), class_="lead"),
        *(element("p", warning, class_="hint") for warning in card["warnings"]),
        element("div", *tiles, class_="figures"),
    ]


def _about(said: Mapping[str, str]) -> Markup:
    names = (("owner", "Owner"), ("intended_use", "Intended use"), ("limits", "Limits"), ("license", "Licence"))
    rows: list[Sequence[Child]] = [(title, said[name]) for name, title in names if said.get(name)]
    if not rows:
        return hint("Nobody has said: write owner, intended_use and limits under `card:` in dataset.yaml.")
    return table("What people said of it in dataset.yaml", ("", "said"), rows)


def _results(evaluation: Mapping[str, Any]) -> Markup:
    baseline = evaluation["baseline"]
    rows: list[Sequence[Child]] = [
        (name, figure(value), figure(baseline["metrics"][name]) if name in baseline["metrics"] else "")
        for name, value in plain_metrics(evaluation)
    ]
    note = hint(f"Of the very file that is served. The baseline always answers {str(baseline['always'])[:80]!r}.")
    return join([note, table("Metrics", ("Metric", "Model", "Baseline"), rows, ("Model", "Baseline"))])


def _classes(evaluation: Mapping[str, Any]) -> Markup | None:
    classes = evaluation.get("per_class") or []
    if not classes:
        return None
    rows: list[Sequence[Child]] = [
        (
            entry["label"],
            *(figure(round(entry[name], 4)) for name in ("precision", "recall", "f1")),
            bar(entry["f1"], f"F1 {entry['f1']:.4f}"),
        )
        for entry in classes[:MAX_CLASSES]
    ]
    more = hint(f"And {len(classes) - MAX_CLASSES} more.") if len(classes) > MAX_CLASSES else None
    columns = ("Class", "Precision", "Recall", "F1", "")
    return join([table("Each class against all others", columns, rows, columns[1:4]), more])


def _matrix(evaluation: Mapping[str, Any]) -> Markup | None:
    matrix, classes = evaluation.get("confusion_matrix"), evaluation.get("classes") or []
    if not matrix or len(matrix) > MAX_MATRIX:
        return None
    rows: list[Sequence[Child]] = [
        (
            label,
            *(
                element("b", f"{count:,}") if index == row else (f"{count:,}" if count else "")
                for index, count in enumerate(line)
            ),
        )
        for row, (label, line) in enumerate(zip(classes, matrix, strict=True))
    ]
    return table("Rows are the truth, columns the prediction", ("", *classes), rows, classes)


def _calibration(bins: Sequence[Mapping[str, Any]], evaluation: Mapping[str, Any]) -> Markup | None:
    if not bins:
        return None
    rows: list[Sequence[Child]] = [
        (
            f"{entry['confidence']:.1%}",
            f"{entry['accuracy']:.1%}",
            f"{entry['samples']:,}",
            bar(entry["accuracy"], f"{entry['accuracy']:.1%} right at {entry['confidence']:.1%} confidence"),
        )
        for entry in bins
    ]
    error = evaluation.get("calibration_error")
    told = hint(
        "How sure the model was, and how often it was right: a well calibrated model lies on the diagonal."
        + (f" Expected calibration error {error:.4f}." if error is not None else "")
    )
    columns = ("Confidence", "Right", "Samples", "")
    return join([told, _diagonal(bins), table("By confidence", columns, rows, columns[:3], headed=False)])


def _diagonal(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """The reliability diagram: confidence to the right, right answers upward, the diagonal dashed."""

    def place(entry: Mapping[str, Any]) -> str:
        return f"{2 + entry['confidence'] * (WIDTH - 4):.2f},{HEIGHT - 2 - entry['accuracy'] * (HEIGHT - 4):.2f}"

    told = "; ".join(f"{entry['confidence']:.2f}: {entry['accuracy']:.2f}" for entry in bins)
    return element(
        "svg",
        element("line", class_="s-bound", x1=2, y1=HEIGHT - 2, x2=WIDTH - 2, y2=2),
        element("polyline", class_="s-line", points=" ".join(place(entry) for entry in bins)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"right answers by confidence: {told}",
    )


def _data(data: Mapping[str, Any]) -> Markup:
    told = f"Dataset {data['name']}, version {data['version']}: "
    told += ", ".join(f"{count:,} for {split}" for split, count in data["samples"].items())
    if "kept" in data:
        told += f". {data['dropped'] - data['duplicates']:,} left out, {data['duplicates']:,} duplicates"
    counts: dict[str, dict[str, int]] = {}
    for split, classes in data["class_counts"].items():
        for label, count in classes.items():
            counts.setdefault(label, {})[split] = count
    drawn = stacked_bars(list(counts.items())[:MAX_CLASSES]) if counts else None
    return join([hint(f"{told}."), element("div", drawn, class_="scroll") if drawn else None])


def _training(training: Mapping[str, Any]) -> Markup:
    rounds = training["rounds"]
    losses, scores = [entry["loss"] for entry in rounds], [entry["score"] for entry in rounds]
    told = f"{len(rounds)} rounds, the best is {training['best_round']}"
    told += f"; it ended since {training['reason']}" if training.get("reason") else ""
    rows: list[Sequence[Child]] = [(name, str(value)) for name, value in training["settings"].items()]
    cards = [
        element("div", element("h3", title), curve(values, f"{title}: {', '.join(map(figure, values))}"), class_="card")
        for title, values in (("Training loss", losses), (f"Score, {training['validation_split']}", scores))
    ]
    settings = table("Settings", ("Setting", "Value"), rows)
    return join([hint(f"{told}."), element("div", *cards, class_="cards"), settings])


def _candidates(optimization: Mapping[str, Any]) -> Markup | None:
    if not optimization.get("candidates"):
        return None
    rows: list[Sequence[Child]] = [
        (
            one["name"],
            "" if one.get("metric") is None else figure(one["metric"]),
            "" if one.get("agreement") is None else f"{one['agreement']:.2%}",
            *("" if size not in one["latency_ms"] else figure(one["latency_ms"][size]) for size in ("1", "64")),
            "" if one.get("bytes") is None else f"{one['bytes']:,}",
            "served" if one["name"] == optimization["served"] else one.get("reason") or "",
        )
        for one in optimization["candidates"]
    ]
    told = f"Measured on {optimization['samples']:,} samples of the {optimization['split']} split."
    columns = ("Candidate", str(optimization["metric"]), "Agrees", "ms at 1", "ms at 64", "Bytes", "")
    return join([hint(told), table("Candidates", columns, rows, columns[1:6])])


def _promotion(promotion: Mapping[str, Any]) -> Markup | None:
    if not promotion:
        return None
    lines: list[Child] = [element("p", f"{promotion['decision']}: {promotion['reason']}.")]
    if promotion.get("samples"):
        interval = promotion.get("error_gain_interval")
        span = f", {interval[0]:+.4g} to {interval[1]:+.4g} at 95 %" if interval else ""
        lines.append(
            hint(
                f"On the same {promotion['samples']:,} samples of the {promotion['split']} split it is better on "
                f"{promotion['better']:,} and worse on {promotion['worse']:,} (p = {promotion['p_value']:.3g}); its "
                f"error is smaller by {promotion['error_gain']:+.4g} per sample{span}."
            )
        )
    return join(lines)


def _lineage(card: Mapping[str, Any]) -> Markup:
    lineage, signature = card["lineage"], card["signature"]
    upload = lineage.get("upload", {})
    rows: list[Sequence[Child]] = [
        ("upload", ", ".join(file["key"] for file in upload.get("files", ())) or f"{upload.get('count', 0):,} files"),
        ("dataset version", f"{lineage['dataset']['name']} {lineage['dataset']['version']}"),
        ("run", lineage["run"]),
        ("checkpoint", lineage["checkpoint"]["key"]),
        ("file", f"{lineage['artifact']['key']}, {card['bytes']:,} bytes"),
        ("sha256", element("code", card["digest"])),
    ]
    tensors: list[Sequence[Child]] = [
        (tensor["name"], side, tensor["datatype"], str(tensor["shape"]))
        for side in ("inputs", "outputs")
        for tensor in signature.get(side, ())
    ]
    columns = ("Tensor", "", "Type", "Shape")
    return join([table("Lineage", ("", ""), rows), table("Signature", columns, tensors)])
