import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from shoal_core.data.manifest import ShardFile
from shoal_core.data.quality.findings import (
    BrokenRow,
    ColumnDrift,
    ColumnFlag,
    Distribution,
    DriftReport,
    ExpectationReport,
    NearDuplicate,
    NearDuplicatesReport,
    QuarantineReport,
    ValueCount,
)
from shoal_core.data.quality.gallery import PER_CLASS, Gallery, Picture, png, read_samples, show_samples
from shoal_core.data.quality.markup import element, join
from shoal_core.data.quality.page import render_page
from shoal_core.data.report import ColumnReport, Drop, Drops, FileReport, Report
from shoal_core.data.shards import encode_shard
from shoal_core.data.spec import (
    CategoryColumn,
    ImageInput,
    NumberColumn,
    PreprocessingSpec,
    SequenceInput,
    TableInput,
    TargetSpec,
    TextColumn,
)
from tests.support.stores import MemoryStore

EVIL = "\"><script>alert(1)</script>&'\u202e\ud800\x00"


def report(text=EVIL, **changes):
    """A report that has something of everything, with one text in every place that an upload can fill."""
    whole = {
        "dataset": "set",
        "version": "v1",
        "kind": "table",
        "task": "classification",
        "files": (FileReport(file=text, kept=7, dropped={text: 2}),),
        "kept": 7,
        "dropped": 3,
        "duplicates": 1,
        "drops": Drops(counts={text: 2}, examples=(Drop(file=text, place=text, code=text, reason=text, fix=text),)),
        "settings": {"target": text, "columns": [text, "b"]},
        "inferred": ("target",),
        "columns": (
            ColumnReport(name=text, role="number", type="number", missing=3, distinct=5),
            ColumnReport(name="b", role="dropped", type="text", missing=0, distinct=5, reason=text),
        ),
        "samples": {"train": 5, "validation": 1, "test": 1},
        "class_counts": {"train": {text: 3, "b": 2}, "validation": {text: 1, "b": 0}, "test": {text: 0, "b": 1}},
        "warnings": (text,),
        "expectations": (
            ExpectationReport(
                index=0, rule="pattern", column=text, what=text, held=False, checked=5, broken=1,
                examples=(BrokenRow(file=text, place=text, value=text),),
            ),
            ExpectationReport(index=1, rule="min_samples", what="at least 5", held=True, checked=7, broken=0),
        ),
        "quarantine": QuarantineReport(samples=2, bytes=10, left_out=1),
        "distributions": (
            Distribution(
                name=text, kind="number", count=5, missing=1, mean=1.5, std=0.5, minimum=0.0, maximum=1e9,
                quantiles={"0.25": 1.0, "0.5": 1.5, "0.75": 2.0}, histogram=(1, 0, 4), bounds=(0.5, 2.0), outliers=2,
            ),
            Distribution(name="c", kind="category", count=5, distinct=1, top=(ValueCount(value=text, count=5),)),
            Distribution(name="none", kind="number", count=0, missing=5),
        ),
        "flags": (ColumnFlag(column=text, kind="leaking", reason=text),),
        "near_duplicates": NearDuplicatesReport(
            samples=1, dropped=False, examples=(NearDuplicate(place=text, twin=text),)
        ),
        "sources": {"size": {text: 3, "": 1}},
        "drift": DriftReport(
            version="v0", samples=(4, 5), columns_added=(text,),
            columns=(ColumnDrift(name=text, kind="number", level="large", psi=0.5, ks=0.2, reasons=(text,)),),
        ),
    }  # fmt: skip
    return Report(**{**whole, **changes})


GALLERY = Gallery(header=(EVIL, "y"), rows=((EVIL, EVIL),))


class Reader(HTMLParser):
    """Checks that elements are closed in order, and collects what a browser would act on."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.ids, self.attributes = [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def _note(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value for name, value in attrs if name in ("src", "href")]
        self.ids += [value for name, value in attrs if name == "id"]


def test_the_page_is_well_formed_and_says_everything():
    page = render_page(report("tom & jerry"), GALLERY).decode()
    reader = Reader(page)
    assert not reader.open
    assert page.startswith('<!doctype html>\n<html lang="en">')
    for text in ("tom &amp; jerry", "1 of 2 expectations broken", "large drift", "2 bad samples (10 bytes)", "leaking",
                 "1 samples nearly equal", "no room for 1 more", "The same in JSON: report.json."):  # fmt: skip
        assert text in page, text
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))


def test_nothing_of_an_upload_becomes_markup():
    page = render_page(report(), GALLERY).decode()
    reader = Reader(page)
    assert not reader.open
    assert "script" not in reader.tags and "<script" not in page
    assert not [name for name in reader.attributes if name.startswith("on") or name == "style"]
    assert "\u202e" not in page and "\x00" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20


def test_nothing_is_loaded_from_elsewhere():
    page = render_page(report("x"), Gallery(pictures={"x": (Picture("data:image/png;base64,AAAA", 2, 2),)})).decode()
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in Reader(page).links)
    assert not re.search(r"https?:|@import|url\(", page)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src &#x27;none&#x27;; img-src data:; style-src &#x27;sha256-")


def test_the_same_report_gives_the_same_bytes():
    assert render_page(report(), GALLERY) == render_page(report(), GALLERY)


def test_a_report_of_an_unusable_set_has_a_page():
    empty = Report(
        dataset="set", version="v1", kind="image", task="classification", files=(), kept=0, dropped=2, duplicates=0,
        drops=Drops(counts={"bad_image": 2}), settings={}, inferred=(), samples={},
    )  # fmt: skip
    page = render_page(empty, Gallery()).decode()
    assert "bad image" in page and not Reader(page).open


def test_pictures_and_charts_are_named_for_those_who_dont_see_them():
    page = render_page(report("x"), Gallery(pictures={"x": (Picture("data:,", 2, 2),)})).decode()
    charts = re.findall(r"<svg[^>]*>", page)
    assert charts and all('role="img"' in chart and 'aria-label="' in chart for chart in charts)
    assert all(' alt="' in image for image in re.findall(r"<img[^>]*>", page))
    assert page.count("<caption>") == page.count("<table>")


def test_many_classes_and_columns_keep_the_page_small():
    counts = {f"class {number}": number for number in range(2000)}
    columns = tuple(
        ColumnReport(name=f"c{n}", role="number", type="number", missing=n, distinct=2) for n in range(3000)
    )
    distributions = tuple(Distribution(name=f"c{number}", kind="number", count=0) for number in range(3000))
    page = render_page(
        report("x", class_counts={"train": counts}, columns=columns, distributions=distributions), GALLERY
    )
    assert len(page) < 2_000_000 and b"2,000 classes" in page


def test_element_escapes_and_leaves_out_none():
    assert element("a", "<", None, element("b", 1), href='"', id=None) == '<a href="&quot;">&lt;<b>1</b></a>'
    assert join(["&", None, element("br")]) == "&amp;<br/>"


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (9, 4, 3)])
def test_a_png_is_read_by_others(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = Image.open(io.BytesIO(png(pixels)))
    assert image.mode == ("L" if len(shape) == 2 else "RGB")
    assert np.array_equal(np.asarray(image), pixels)


def stored(tensors):
    data = encode_shard(tensors)
    store = MemoryStore({"shard": data})
    return read_samples(store, [ShardFile(key="shard", samples=len(tensors["target"]), bytes=len(data), sha256="")])


def shown_pixels(picture):
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))))


@pytest.mark.parametrize("color", ["rgb", "hsv", "ycbcr"])
def test_images_are_shown_in_their_own_colours(color):
    ramp = np.linspace(0, 255, 16).astype(np.uint8)
    rgb = np.stack(np.meshgrid(ramp, ramp), -1)
    rgb = np.concatenate([rgb, np.full((16, 16, 1), 77, np.uint8)], -1)
    mode = {"rgb": "RGB", "hsv": "HSV", "ycbcr": "YCbCr"}[color]
    encoded = np.asarray(Image.fromarray(rgb).convert(mode)).transpose(2, 0, 1)
    spec = PreprocessingSpec(
        kind="image",
        image=ImageInput(height=16, width=16, channels=3, color=color),
        target=TargetSpec(task="classification", classes=("a", "b")),
    )
    gallery = show_samples(spec, stored({"image": encoded[None], "target": np.array([1])}))
    (picture,) = gallery.pictures["b"]
    assert np.abs(shown_pixels(picture).astype(int) - rgb).max() <= 6


def test_images_come_a_few_per_class_in_the_order_of_the_classes():
    spec = PreprocessingSpec(
        kind="image",
        image=ImageInput(height=300, width=200, channels=1),
        target=TargetSpec(task="classification", classes=("a", "b", "c")),
    )
    images = np.random.default_rng(0).integers(0, 255, (30, 1, 300, 200), np.uint8)
    gallery = show_samples(spec, stored({"image": images, "target": np.arange(30) % 2 * 2}))
    assert list(gallery.pictures) == ["a", "c"]
    assert [len(pictures) for pictures in gallery.pictures.values()] == [PER_CLASS] * 2
    assert (gallery.pictures["a"][0].height, gallery.pictures["a"][0].width) == (75, 50)
    assert show_samples(spec, {}) == Gallery()


def test_rows_are_shown_with_their_meaning():
    spec = PreprocessingSpec(
        kind="table",
        table=TableInput(
            numbers=(NumberColumn(name="n"),),
            categories=(CategoryColumn(name="c", categories=("x",), buckets=2),),
            texts=(
                TextColumn(name="t", length=3, vocabulary=("good", "film")),
                TextColumn(name="h", length=2, buckets=9),
            ),
        ),
        target=TargetSpec(task="multilabel", column="y", classes=("a", "b")),
    )
    tensors = {
        "numbers": np.array([[1.5], [np.nan]], np.float32),
        "categories": np.array([[1], [3]]),
        "tokens": np.array([[2, 1, 3, 4, 5], [3, 0, 0, 6, 0]], np.int32),
        "target": np.array([[1, 1], [0, 0]], np.uint8),
    }
    gallery = show_samples(spec, stored(tensors))
    assert gallery.header == ("t", "h", "n", "c", "y")
    assert gallery.rows == (
        ("good □ film", "2 tokens (hashed)", "1.5", "x", "a, b"),
        ("film", "1 tokens (hashed)", "", "(rare)", "(none)"),
    )


def test_windows_are_shown_as_curves():
    spec = PreprocessingSpec(
        kind="sequence",
        sequence=SequenceInput(time="t", window=3, numbers=(NumberColumn(name="v"),)),
        target=TargetSpec(task="regression", column="v"),
    )
    window = np.array([[[1.0], [np.nan], [3.0]]], np.float32)
    gallery = show_samples(spec, stored({"sequence": window, "target": np.array([2.5], np.float32)}))
    assert gallery.series == (("2.5", {"v": (1.0, None, 3.0)}),)
    assert b"v over time" in render_page(report("x"), gallery)
