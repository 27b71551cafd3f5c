import pytest

from shoal_core.data.images.folders import class_of, classes_of, common_root, folder_of
from shoal_core.errors import BadDataset


def test_the_class_is_the_folder_that_holds_the_file():
    root, classes = classes_of({"set/train/cat", "set/test/cat", "set/train/dog"}, "d.zip")
    assert (root, classes) == ("set", ["cat", "dog"])
    assert class_of("set/train/cat", root) == "cat"
    assert class_of("set", root) is None


def test_roots():
    assert common_root(["a/b/c", "a/b/d", "a/b"]) == "a/b"
    assert common_root(["a", "b"]) == common_root([]) == common_root(["", "a"]) == ""


def test_macos_and_linux_names_are_one_class():
    assert folder_of("cafe\u0301/1.png") == folder_of("café/1.png")


@pytest.mark.parametrize("folders", [{""}, {"cats"}, {"", "cats"}, {"a/cats", "b/cats"}])
def test_fewer_than_two_classes(folders):
    with pytest.raises(BadDataset, match="one class only") as caught:
        classes_of(folders, "d.zip")
    assert "d.zip" in caught.value.reason and "one folder per class" in caught.value.fix
