import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.sequences.windows import count_windows, cut_windows, sequence_number
from shoal_core.data.spec import NumberColumn, PreprocessingSpec, SequenceInput, TargetSpec
from shoal_core.errors import BadTable

SPEC = PreprocessingSpec(
    kind="sequence",
    sequence=SequenceInput(
        time="t", id="who", window=3, numbers=(NumberColumn(name="a"), NumberColumn(name="b")), ignored=("c",)
    ),
    target=TargetSpec(task="classification", column="y", classes=("0", "1")),
)


def rows(count: int) -> list[dict[str, object]]:
    return [{"a": index, "b": index % 2 == 0, "t": index, "c": "x", "y": 0, "who": 1} for index in range(count)]


def test_the_last_rows_count():
    encoded = SPEC.encode_windows([{"rows": rows(3)}, {"rows": rows(5)}])["sequence"]
    assert encoded.tolist() == [[[0, 1], [1, 0], [2, 1]], [[2, 1], [3, 0], [4, 1]]]
    assert SPEC.encode_windows([])["sequence"].shape == (0, 3, 2)


def test_csv_text_and_json_values_are_the_same():
    text = [{"rows": [{"a": str(row["a"]), "b": str(row["b"])} for row in rows(3)]}]
    assert (SPEC.encode_windows(text)["sequence"] == SPEC.encode_windows([{"rows": rows(3)}])["sequence"]).all()


def test_absent_and_missing_values_are_missing():
    encoded = SPEC.encode_windows([{"rows": [{}, {"a": None, "b": "NA"}, {"a": 1, "b": ""}]}])["sequence"]
    assert np.isnan(encoded).tolist() == [[[True, True], [True, True], [False, True]]]


@pytest.mark.parametrize(
    ("instance", "match"),
    [
        ({"rows": rows(2)}, "Instance 2 has 2 rows, and the model looks at 3"),
        ({}, "no list of rows"),
        ({"rows": "abc"}, "no list of rows"),
        ({"rows": [1, 2, 3]}, "no list of rows"),
        ({"rows": [*rows(2), {"aa": 1}]}, "Instance 2, row 3 has the unknown column 'aa'"),
        ({"rows": [*rows(4), {"a": "x"}]}, "Instance 2, row 5, column 'a': 'x'"),
        ({"rows": [*rows(2), {"a": [1]}]}, "Instance 2, row 3, column 'a'"),
    ],
)
def test_bad_instances_are_refused_by_name(instance, match):
    with pytest.raises(BadTable, match=match) as found:
        SPEC.encode_windows([{"rows": rows(3)}, instance])
    assert found.value.fix


def test_the_wrong_kind_of_model():
    with pytest.raises(BadTable, match="windows of rows"):
        SPEC.encode_rows([{"a": 1}])


@given(st.integers(0, 60), st.integers(2, 9), st.integers(1, 9), st.integers(0, 9))
def test_windows_are_counted_and_cut_as_by_a_loop(length, window, stride, horizon):
    form = SPEC.sequence.model_copy(update={"window": window, "stride": stride, "horizon": horizon})
    starts = [start for start in range(0, length, stride) if start + window + horizon <= length]
    assert count_windows(np.array([length]), form).tolist() == [len(starts)]
    series = np.arange(2 * length, dtype=np.float32).reshape(length, 2)
    if starts:
        cut = cut_windows(series, np.array(starts), window)
        assert cut.flags.c_contiguous
        assert cut.tolist() == [series[start : start + window].tolist() for start in starts]


@pytest.mark.parametrize(
    ("value", "number"), [(True, 1), ("False", 0), (" TRUE ", 1), ("2.5", 2.5), (None, None), ("", None)]
)
def test_numbers_and_booleans(value, number):
    assert sequence_number(value) == number


def test_what_is_neither():
    with pytest.raises(ValueError, match="isn't a number"):
        sequence_number("yes")
