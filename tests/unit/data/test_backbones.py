"""Datasets that are planned for a backbone: images at its size, texts in its tokens, its version pinned."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from shoal_core.data.backbones import Backbone, read_backbone, require_tokens
from shoal_core.data.config import DatasetConfig, DatasetRequest, SourceFile
from shoal_core.data.plan import Plan
from shoal_core.data.planning import plan_dataset
from shoal_core.data.spec import ImageInput, TextColumn
from shoal_core.data.writing import write_shard
from shoal_core.errors import BadConfig, BadInput, NotFound
from shoal_core.keys import DatasetKeys, ModelKeys
from tests.support.backbones import VOCABULARY
from tests.support.stores import MemoryStore

IMAGES = Backbone(
    name="net",
    version=2,
    digest="0" * 64,
    image=ImageInput(height=24, width=20, channels=3, fit="cover", crop=0.875),
    source="k",
    pooling="none",
    width=10,
)
TEXTS = IMAGES.model_copy(
    update={"image": None, "text": TextColumn(name="text", length=8, unit="wordpiece", vocabulary=VOCABULARY)}
)


def planned(files: dict[str, bytes], backbone: Backbone, **fields: object) -> tuple[Plan, MemoryStore, MemoryStore]:
    uploads, artifacts = MemoryStore(), MemoryStore()
    artifacts.write(ModelKeys("net", 2).backbone, backbone.encode())
    config = DatasetConfig.model_validate({"backbone": "net", **fields})
    sources = []
    for name, data in files.items():
        uploads.write(f"datasets/set/{name}", data)
        sources.append(SourceFile(key=f"datasets/set/{name}", size=len(data)))
    request = DatasetRequest(dataset="set", version="v1", files=tuple(sources), config=config)
    artifacts.write(DatasetKeys("set", "v1").request, request.model_dump_json().encode())
    return plan_dataset(uploads, artifacts, "set", "v1", lambda name: 2), uploads, artifacts


def pictures() -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(8):
            file = io.BytesIO()
            Image.fromarray(np.full((9, 7), 30 * index, np.uint8)).save(file, "PNG")
            archive.writestr(f"{'ab'[index % 2]}/{index}.png", file.getvalue())
    return {"pictures.zip": buffer.getvalue()}


def reviews(columns: str = "text,stars,label") -> dict[str, bytes]:
    words = ["a fine film", "a poor film", "the good film", "bad films"]
    rows = [f"{words[index % 4]} {index},{index},{'yes' if index % 2 else 'no'}" for index in range(40)]
    return {"reviews.csv": "\n".join([columns, *rows]).encode()}


def test_images_get_the_size_and_colours_of_the_backbone_and_its_version_is_pinned():
    plan, *_ = planned(pictures(), IMAGES)
    assert plan.spec.image == IMAGES.image
    assert plan.config.backbone == "net@2"
    assert plan.config.image_size is None
    assert {"image_size", "channels"} <= set(plan.inferred)


def test_what_the_user_says_of_images_goes_before():
    plan, *_ = planned(pictures(), IMAGES, image_size=12, image={"fit": "pad", "color": "grey"}, recipe="transfer")
    assert plan.spec.image == ImageInput(height=12, width=12, channels=1, fit="pad", crop=1.0)
    assert plan.config.image.fit == "pad"
    plan, *_ = planned(pictures(), IMAGES, recipe="cnn")
    assert (plan.spec.image.height, plan.config.backbone) == (9, "net")


def test_texts_are_cut_into_the_backbones_tokens():
    plan, uploads, artifacts = planned(reviews(), TEXTS, target="label", columns={"text": {"type": "text"}})
    (column,) = plan.spec.table.texts
    assert (column.name, column.length, column.unit, column.vocabulary) == ("text", 8, "wordpiece", VOCABULARY)
    assert [number.name for number in plan.spec.table.numbers] == ["stars"]
    require_tokens(plan.spec, TEXTS)
    written = write_shard(uploads, artifacts, "set", "v1", 0)
    assert written.samples == 40
    tokens = plan.spec.encode_rows([{"text": "A fine film!"}, {"text": " "}])["tokens"]
    first = [2 + VOCABULARY.index(piece) for piece in ("[CLS]", "a", "fine", "film", "[UNK]", "[SEP]")]
    assert tokens[0].tolist() == [*first, 0, 0]
    assert (tokens[1] > 0).sum() == 2
    shorter, *_ = planned(reviews(), TEXTS, target="label", columns={"text": {"type": "text"}}, text={"length": 4})
    assert shorter.spec.table.texts[0].length == 4


def test_text_files_are_cut_into_them_too():
    files = {f"{label}/{index}.txt": f"a {word} film {index}".encode() for index in range(6) for label, word in LABELS}
    plan, uploads, artifacts = planned(files, TEXTS)
    assert plan.spec.table.texts[0].vocabulary == VOCABULARY
    assert write_shard(uploads, artifacts, "set", "v1", 0).samples == 12


LABELS = (("yes", "good"), ("no", "bad"))


def test_data_that_a_backbone_cannot_take_are_refused():
    with pytest.raises(BadConfig, match=r"the dataset is a table. Backbone 'net@2' takes images"):
        planned(reviews(), IMAGES, target="label")
    with pytest.raises(BadConfig, match="takes one text, and the dataset's columns of texts are: none"):
        planned(pictures(), TEXTS)
    with pytest.raises(BadConfig, match=r"trained on RGB or grey, and image\.color is hsv"):
        planned(pictures(), IMAGES, image={"color": "hsv"})


def test_other_tokens_are_refused():
    plan, *_ = planned(reviews(), TEXTS, target="label", columns={"text": {"type": "text"}})
    other = TEXTS.model_copy(update={"text": TEXTS.text.model_copy(update={"vocabulary": VOCABULARY[::-1]})})
    with pytest.raises(BadConfig, match="weren't cut into the tokens of 'net'"):
        require_tokens(plan.spec, other)


def test_a_backbone_is_read_by_its_name_or_exactly():
    store = MemoryStore({ModelKeys("net", 2).backbone: IMAGES.encode()})
    assert read_backbone(store, "net", lambda name: 2) == read_backbone(store, "net@2", missing) == IMAGES
    with pytest.raises(BadConfig, match="'net' has no version 3, or it isn't a backbone"):
        read_backbone(store, "net@3", missing)
    with pytest.raises(NotFound):
        read_backbone(store, "net", missing)
    with pytest.raises(BadConfig, match="needs a backbone"):
        read_backbone(store, None, missing)
    store.write(ModelKeys("net", 2).backbone, b"{}")
    with pytest.raises(BadInput, match="can't be read"):
        read_backbone(store, "net@2", missing)


def missing(name: str) -> int:
    raise NotFound(f"Model {name!r} doesn't exist.")
