"""The Open Inference Protocol: what is sent comes back, in JSON and in binary, and what is wrong is named."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shoal_core.errors import BadRequest, TooLarge
from shoal_core.serving.protocol import MAX_BATCH, TensorInfo, infer_answer, parse_infer

NUMERIC = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
}
BINARY = {"name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
X = TensorInfo("x", "FP32", (-1, 2))
Y = TensorInfo("y", "FP32", (-1,))


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]} | changes


def request(*inputs: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **fields}).encode()


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    datatype = draw(st.sampled_from(sorted(NUMERIC)))
    shape = draw(arrays.array_shapes(max_dims=3, max_side=4))
    elements: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    return datatype, draw(arrays.arrays(NUMERIC[datatype], shape, elements=elements))


@given(tensors(), st.booleans(), st.booleans())
def test_a_tensor_arrives_as_it_was_sent(tensor: tuple[str, np.ndarray], binary: bool, nested: bool) -> None:
    datatype, array = tensor
    sent: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": list(array.shape)}
    blob = b""
    if binary:
        blob = array.tobytes()
        sent["parameters"] = {"binary_data_size": len(blob)}
    else:
        sent["data"] = array.tolist() if nested else array.reshape(-1).tolist()
    head = request(sent)
    info = TensorInfo("x", datatype, (-1,) * array.ndim)
    got = parse_infer(head + blob, str(len(head)) if binary else None, [info], [Y]).tensors["x"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=5), st.booleans())
def test_texts_arrive_as_they_were_sent(texts: list[str], binary: bool) -> None:
    encoded = [text.encode("utf-8", "replace") for text in texts]
    sent: dict[str, Any] = {"name": "t", "datatype": "BYTES", "shape": [len(texts)]}
    blob = b""
    if binary:
        blob = b"".join(len(text).to_bytes(4, "little") + text for text in encoded)
        sent["parameters"] = {"binary_data_size": len(blob)}
    else:
        sent["data"] = [text.decode() for text in encoded]
    head = request(sent)
    info = TensorInfo("t", "BYTES", (-1,))
    got = parse_infer(head + blob, str(len(head)) if binary else None, [info], [Y])
    assert got.tensors["t"].tolist() == [text.decode() for text in encoded]


@pytest.mark.parametrize("binary", [False, True])
def test_an_answer_holds_what_was_asked_for(binary: bool) -> None:
    wanted = {"name": "y", "parameters": {"binary_data": binary}}
    parsed = parse_infer(request(entry(), id="7", outputs=[wanted]), None, [X], [Y, TensorInfo("z", "FP32", (-1,))])
    body, length = infer_answer(parsed, "m", 3, {"y": np.array([0.5, np.nan], np.float32)})
    document = json.loads(body[:length])
    assert (document["model_name"], document["model_version"], document["id"]) == ("m", "3", "7")
    (output,) = document["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("y", "FP32", [2])
    if binary:
        assert output["parameters"] == {"binary_data_size": 8}
        np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4"), np.array([0.5, np.nan], np.float32))
    else:
        assert (length, output["data"]) == (None, [0.5, None])


def test_all_outputs_come_when_none_is_named() -> None:
    outputs = [Y, TensorInfo("z", "INT64", (-1,))]
    parsed = parse_infer(request(entry(), parameters={"binary_data_output": True}), None, [X], outputs)
    assert [(wanted.name, wanted.binary) for wanted in parsed.outputs] == [("y", True), ("z", True)]


@pytest.mark.parametrize(
    ("body", "header", "reason"),
    [
        (b"{", None, "isn't valid JSON"),
        (b"[]", None, "isn't an object"),
        (b"{}", None, "no list of inputs"),
        (b'{"inputs": []}', None, "no list of inputs"),
        (b'{"inputs": [1]}', None, "no list of inputs"),
        (request(entry(name="w")), None, "no input 'w'"),
        (request(entry(), entry()), None, "there twice"),
        (request({"name": "x"}), None, "no shape"),
        (request(entry(shape=[2])), None, "shape [2]"),
        (request(entry(shape=[2, 3])), None, "shape [2, 3]"),
        (request(entry(shape=[0, 2], data=[])), None, "shape [0, 2]"),
        (request(entry(shape=[True, 2])), None, "no shape"),
        (request(entry(shape=[-1, 2])), None, "no shape"),
        (request(entry(datatype="FP64")), None, "datatype FP64"),
        (request(entry(datatype=5)), None, "no datatype"),
        (request(entry(data=None)), None, "no data"),
        (request(entry(data=[1])), None, "1 values; its shape needs 4"),
        (request(entry(data=[[1, 2], [3]])), None, "ragged"),
        (request(entry(data=["a", "b", "c", "d"])), None, "aren't FP32"),
        (request(entry(data=[1, 2, 3, 10**39])), None, "aren't FP32"),
        (request(entry(data=[1, 2, 3, 10**400])), None, "aren't FP32"),
        (request(entry(data=[1, 2, 3, True])), None, "aren't FP32"),
        (request(entry(data=[1, 2, 3, None])), None, "aren't FP32"),
        (request(entry(data=[[1, 2], 3])), None, "ragged"),
        (request(entry(data=[[], []])), None, "0 values; its shape needs 4"),
        (request(entry(shape=[2**31 + 1, 2])), None, "shape [2147483649, 2]"),
        (request(entry(shape=[10**4000, 2])), None, "shape [1000"),
        (request(entry(), id=5), None, "id isn't a text"),
        (request(entry(), outputs=[{"name": "q"}]), None, "no output 'q'"),
        (request(entry(), outputs=[{"name": "y", "parameters": {"classification": 2}}]), None, "classification"),
        (request(entry(parameters={"binary_data_size": 16})), None, "as JSON and in binary"),
        (
            request({k: v for k, v in entry(parameters={"binary_data_size": 16}).items() if k != "data"}),
            None,
            "0 bytes",
        ),
        (request(entry()) + b"xx", str(len(request(entry()))), "2 bytes are left"),
        (request(entry()), "-1", "Inference-Header-Content-Length"),
        (request(entry()), "99999", "Inference-Header-Content-Length"),
        (request(entry()), "9" * 5000, "Inference-Header-Content-Length"),
        (request(entry()), "1", "isn't valid JSON"),
    ],
)
def test_a_bad_request_is_named(body: bytes, header: str | None, reason: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_infer(body, header, [X], [Y])
    assert reason in caught.value.reason
    assert caught.value.fix


def parsed(datatype: str, data: list[Any]) -> np.ndarray:
    info = TensorInfo("x", datatype, (-1,))
    body = request(entry(datatype=datatype, shape=[len(data)], data=data))
    return parse_infer(body, None, [info], [Y]).tensors["x"]


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", 256),
        ("UINT64", -1),
        ("UINT64", 2**64),
        ("INT64", 2**63),
        ("INT32", 1.0),
        ("INT32", True),
        ("BOOL", 1),
        ("FP16", 1e6),
        ("FP32", 1e39),
        ("FP64", "1"),
    ],
)
def test_a_value_of_another_type_is_refused(datatype: str, value: object) -> None:
    with pytest.raises(BadRequest, match=f"aren't {datatype}"):
        parsed(datatype, [False if datatype == "BOOL" else 2, value])


@pytest.mark.parametrize(
    ("datatype", "data"), [("UINT64", [1, 2**63 + 1, 2**64 - 1]), ("FP64", [1, 2**70]), ("FP32", [float("inf"), 1])]
)
def test_large_numbers_arrive(datatype: str, data: list[Any]) -> None:
    assert parsed(datatype, data).tolist() == data


def test_a_long_text_among_numbers_costs_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(BadRequest, match="aren't FP32"):
        parsed("FP32", ["x" * 100_000, *[0] * 999])
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(BadRequest, match="surrogate"):
        parsed("BYTES", ["a", "\ud83d"])


def test_the_inputs_hold_equally_many_samples() -> None:
    second = TensorInfo("w", "FP32", (-1,))
    with pytest.raises(BadRequest, match="different numbers of samples"):
        parse_infer(request(entry(), entry(name="w", shape=[3], data=[1, 2, 3])), None, [X, second], [Y])


def test_a_batch_has_a_bound() -> None:
    info = TensorInfo("x", "INT64", (-1,))
    count = MAX_BATCH + 1
    with pytest.raises(TooLarge, match="1,001 samples"):
        parse_infer(request(entry(datatype="INT64", shape=[count], data=[0] * count)), None, [info], [Y])


@pytest.mark.parametrize("blob", [b"\x01", b"\x05\x00\x00\x00ab", b"\x01\x00\x00\x00\xff", b"\x00" * 8])
def test_broken_texts_are_refused(blob: bytes) -> None:
    head = request({"name": "t", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(blob)}})
    with pytest.raises(BadRequest, match="isn't 1 texts"):
        parse_infer(head + blob, str(len(head)), [TensorInfo("t", "BYTES", (-1,))], [Y])
