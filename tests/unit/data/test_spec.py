import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.spec import (
    CategoryColumn,
    ImageInput,
    NumberColumn,
    PreprocessingSpec,
    TableInput,
    TargetSpec,
)
from shoal_core.data.values import sort_naturally
from shoal_core.errors import BadImage, BadInput, BadTable
from tests.unit.data.builders import grey_png

TABLE = PreprocessingSpec(
    kind="table",
    table=TableInput(
        numbers=(NumberColumn(name="age"), NumberColumn(name="fare")),
        categories=(
            CategoryColumn(name="sex", categories=("female", "male")),
            CategoryColumn(name="alone", categories=("false", "true"), kind="boolean"),
        ),
        ignored=("name",),
    ),
    target=TargetSpec(task="classification", column="survived", classes=("0", "1"), kind="number"),
)
IMAGE = PreprocessingSpec(
    kind="image",
    image=ImageInput(height=8, width=8, channels=1),
    target=TargetSpec(task="classification", classes=("9", "10")),
)


def test_shapes():
    assert TABLE.tensor_shapes() == {"numbers": (2,), "categories": (2,)}
    assert IMAGE.tensor_shapes() == {"image": (1, 8, 8)}


def test_json_round_trip():
    TABLE.encode_rows([{}])
    assert PreprocessingSpec.decode(TABLE.encode()) == TABLE
    with pytest.raises(BadInput):
        PreprocessingSpec.decode(b"{}")


def test_rows_become_tensors():
    found = TABLE.encode_rows(
        [{"age": "3", "fare": 1.5, "sex": " male ", "alone": True}, {"sex": "?", "alone": "FALSE"}]
    )
    np.testing.assert_array_equal(found["numbers"], np.array([[3, 1.5], [np.nan, np.nan]], np.float32))
    np.testing.assert_array_equal(found["categories"], [[2, 2], [0, 1]])
    assert found["categories"].dtype == np.int64


CELLS = st.fixed_dictionaries(
    {
        "age": st.none() | st.floats(-1e6, 1e6, width=32) | st.integers(-1000, 1000),
        "fare": st.none() | st.floats(-1e6, 1e6),
        "sex": st.none() | st.sampled_from(["male", "female", "other"]),
        "alone": st.none() | st.booleans(),
    }
)


@given(st.lists(CELLS, max_size=10))
def test_json_values_and_csv_texts_give_the_same_tensors(rows):
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    from_json, from_csv = TABLE.encode_rows(rows), TABLE.encode_rows(texts)
    for name, array in from_json.items():
        assert array.tobytes() == from_csv[name].tobytes()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"agee": 1}, ["Row 5", "'agee'", "Did you mean 'age'"]),
        ({"age": "abc"}, ["Row 5", "'age'", "'abc'", "isn't a number"]),
        ({"age": True}, ["'age'", "True"]),
        ({"age": "1_000"}, ["'1_000'"]),
        ({"age": 10**400}, ["'age'"]),
        ({"fare": "1e39"}, ["too large"]),
        ({"sex": ["a"]}, ["'sex'", "isn't one value"]),
        ({"alone": "maybe"}, ["'alone'", "true or false"]),
    ],
)
def test_a_bad_cell_is_named(row, words):
    with pytest.raises(BadTable) as caught:
        TABLE.encode_rows([row], first_row=5)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_target_and_ignored_columns_may_be_in_a_request():
    assert TABLE.encode_rows([{"survived": 1, "name": "Ada"}])["numbers"].shape == (1, 2)


def test_targets():
    np.testing.assert_array_equal(TABLE.encode_target([1, "0", "1.0"]), [1, 0, 1])
    np.testing.assert_array_equal(IMAGE.encode_target(["10"]), [1])
    for value in (None, "2", "x"):
        with pytest.raises(BadTable, match="survived"):
            TABLE.encode_target([value])
    regression = TABLE.model_copy(update={"target": TargetSpec(task="regression", column="y", kind="number")})
    assert regression.encode_target(["1.5", 2]).dtype == np.float32
    with pytest.raises(BadTable, match="Row 2"):
        regression.encode_target([1, "a"])


def test_a_class_folder_may_have_the_name_of_a_missing_value():
    spec = IMAGE.model_copy(update={"target": TargetSpec(task="classification", classes=("NA", "yes"))})
    np.testing.assert_array_equal(spec.encode_target(["yes", "NA"]), [1, 0])


def test_the_wrong_kind_of_input_is_told():
    assert IMAGE.encode_image(grey_png(1)).shape == (1, 8, 8)
    with pytest.raises(BadImage, match="rows"):
        TABLE.encode_image(b"")
    with pytest.raises(BadTable, match="images"):
        IMAGE.encode_rows([{}])
    with pytest.raises(ValueError, match="exactly the input"):
        PreprocessingSpec(kind="image", target=IMAGE.target)


def test_classes_are_sorted_naturally():
    assert sort_naturally(["10", "9", "1"]) == ["1", "9", "10"]
    assert sort_naturally(["-1", "0.5", "-2", "1"]) == ["-2", "-1", "0.5", "1"]
    assert sort_naturally(["img10", "img9", "b", "a", "nan", "²"]) == ["a", "b", "img9", "img10", "nan", "²"]


def test_long_names_of_unknown_columns_are_shortened():
    with pytest.raises(BadTable) as caught:
        TABLE.encode_rows([{letter * 100_000: 1 for letter in "abcdef"}])
    assert "has unknown columns: 'aaa" in caught.value.reason
    assert len(str(caught.value)) < 2000
