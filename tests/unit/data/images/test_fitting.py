import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.data.images.fitting import place

SIDES = st.integers(1, 5000)
SIZES = st.tuples(SIDES, SIDES)
CROPS = st.floats(0.01, 1)


@given(SIZES, SIZES, st.sampled_from(["stretch", "pad", "cover"]), CROPS)
def test_the_box_lies_in_the_source_and_the_result_in_the_target(source, target, fit, crop):
    spot = place(source, target, fit, crop)
    left, top, right, bottom = spot.box
    assert 0 <= left < right <= source[0] and 0 <= top < bottom <= source[1]
    assert spot.width >= 1 and spot.height >= 1
    assert 0 <= spot.left <= target[0] - spot.width and 0 <= spot.top <= target[1] - spot.height
    if fit != "pad":
        assert (spot.width, spot.height, spot.left, spot.top) == (*target, 0, 0)


@given(SIZES, SIZES, st.sampled_from(["stretch", "pad", "cover"]), CROPS)
def test_what_is_taken_is_centred(source, target, fit, crop):
    spot = place(source, target, fit, crop)
    left, top, right, bottom = spot.box
    assert left + right == pytest.approx(source[0]) and top + bottom == pytest.approx(source[1])
    assert abs(target[0] - spot.width - 2 * spot.left) <= 1 and abs(target[1] - spot.height - 2 * spot.top) <= 1


@given(SIZES, SIZES, CROPS)
def test_cover_keeps_the_aspect_ratio_and_touches_two_borders(source, target, crop):
    left, top, right, bottom = place(source, target, "cover", crop).box
    assert (right - left) * target[1] == pytest.approx((bottom - top) * target[0], rel=1e-6)
    assert right - left == pytest.approx(source[0] * crop) or bottom - top == pytest.approx(source[1] * crop)


@given(SIZES, SIZES)
def test_pad_takes_all_and_touches_two_borders(source, target):
    spot = place(source, target, "pad", 1)
    assert spot.box == (0, 0, *source)
    assert spot.width == target[0] or spot.height == target[1]
    assert abs(spot.width - spot.height * source[0] / source[1]) <= 0.5 * max(1, source[0] / source[1]) + 1e-6 or (
        min(spot.width, spot.height) == 1
    )


@given(SIZES, st.sampled_from(["stretch", "pad", "cover"]))
def test_an_image_of_the_right_size_is_kept(size, fit):
    assert place(size, size, fit, 1).keeps(*size)


@given(SIZES, CROPS)
def test_stretch_takes_the_share(source, crop):
    left, top, right, bottom = place(source, (10, 10), "stretch", crop).box
    assert right - left == pytest.approx(source[0] * crop) and bottom - top == pytest.approx(source[1] * crop)
