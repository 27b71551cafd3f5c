from shoal_core.data.config import DatasetConfig, SourceFile
from shoal_core.registry import file_sets
from shoal_core.registry.file_sets import read_set


def test_the_same_files_read_by_a_mended_shoal_are_a_new_version(monkeypatch):
    files = read_set("set", [SourceFile(key="datasets/set/t.csv", size=3, sha256="ab")])
    before = files.version(DatasetConfig())
    assert files.version(DatasetConfig()) == before
    monkeypatch.setattr(file_sets, "DATA_REVISION", 2)
    assert files.version(DatasetConfig()) != before
