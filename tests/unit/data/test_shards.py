import io
import json
import struct

import numpy as np
import pytest
from safetensors.numpy import load

from shoal_core.data.shards import decode_shard, encode_shard, read_metadata, read_rows
from shoal_core.errors import BadInput

TENSORS = {
    "target": np.arange(5, dtype=np.int64),
    "image": np.arange(60, dtype=np.uint8).reshape(5, 1, 3, 4),
    "numbers": np.linspace(0, 1, 10, dtype=np.float32).reshape(5, 2),
    "flag": np.array([True, False]),
    "none": np.empty((0, 3), np.float32),
}


def test_the_official_reader_reads_it():
    data = encode_shard(TENSORS, {"split": "train"})
    for found in (load(data), decode_shard(data)):
        assert found.keys() == TENSORS.keys()
        for name, array in TENSORS.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
    assert read_metadata(data) == {"split": "train"}


def test_the_bytes_depend_on_content_alone():
    shuffled = {name: np.asfortranarray(TENSORS[name]) for name in reversed(TENSORS)}
    assert encode_shard(shuffled) == encode_shard(TENSORS)


def test_rows_are_read_alone():
    tensors = {name: TENSORS[name] for name in ("target", "image", "numbers")}
    found = read_rows(io.BytesIO(encode_shard(tensors)), 1, 3, {"image", "target"})
    assert found.keys() == {"image", "target"}
    np.testing.assert_array_equal(found["image"], tensors["image"][1:3])


@pytest.mark.parametrize("cut", [0, 4, 8, 50, -1])
def test_a_cut_shard_is_refused(cut):
    with pytest.raises(BadInput, match=r"shard-7"):
        decode_shard(encode_shard(TENSORS)[:cut], "shard-7")


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"x": 1},
        {"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]}},
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    ],
)
def test_a_lying_header_is_refused(header):
    text = json.dumps(header).encode()
    with pytest.raises(BadInput):
        decode_shard(struct.pack("<Q", len(text)) + text + b"\0" * 4)
