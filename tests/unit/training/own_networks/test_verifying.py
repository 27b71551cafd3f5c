"""From an uploaded file to a fitted network, in a process of its own; kept for later runs."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from shoal_core.data.config import DatasetConfig, SourceFile
from shoal_core.errors import BadInput, BadNetwork, NotFound, TooLarge, UnsupportedOperator
from shoal_core.keys import NetworkKeys
from shoal_core.training.networks import verifying
from shoal_core.training.networks.config import LIMITS, FittedNetwork, NetworkConfig
from shoal_core.training.networks.loading import own_network
from shoal_core.training.networks.receiving import receive_network
from shoal_core.training.networks.verifying import describe_inputs, fit_network
from tests.support.stores import MemoryStore
from tests.unit.training.datasets import blobs, commit, drawings, image_spec, profile_spec, profiles, table_spec
from tests.unit.training.own_networks import made
from tests.unit.training.own_networks.made import node


def stored(data: bytes, spec=None, make=drawings) -> tuple[MemoryStore, NetworkConfig, object]:
    store = MemoryStore()
    manifest = commit(store, spec or image_spec(), {"train": make(40)})
    config = NetworkConfig(sha256=hashlib.sha256(data).hexdigest())
    store.write(NetworkKeys(config.sha256).network, data)
    return store, config, manifest


class Uploads(MemoryStore):
    """A bucket that tells sizes; `sizes` are those of objects that nobody should read."""

    sizes: dict[str, int] = {}  # noqa: RUF012 - set by tests

    def describe(self, key: str, version: str | None = None) -> SourceFile:
        if key in self.sizes:
            return SourceFile(key=key, version="1", size=self.sizes[key])
        return SourceFile(key=key, version="1", size=len(self.read(key)))


def test_a_network_is_fitted_once_and_kept(monkeypatch):
    store, config, manifest = stored(made.convolutional())
    fitted = fit_network(store, config, manifest)
    assert fitted.parameters[:2] == ("conv.weight", "conv.bias") and fitted.numbers == 36 + 4 + 8 + 192 + 3
    assert fitted.seconds > 0 and len(fitted.dropouts) == 1 and fitted.notes
    before = dict(store.objects)
    monkeypatch.setattr(verifying, "run_bounded", None)
    assert fit_network(store, config, manifest) == fitted
    own = own_network(store, DatasetConfig(recipe="network", network={"sha256": config.sha256}), manifest)
    assert own is not None and own.forward.parameters == fitted.parameters
    assert set(own.forward.buffers) == {"norm.running_mean", "norm.running_var"}
    assert own_network(store, DatasetConfig(recipe="cnn"), manifest) is None
    assert store.objects == before


def test_the_process_names_what_it_refuses_and_nothing_is_kept():
    store, config, manifest = stored(made.with_node([node("Hardmax", ["h"], "t")]), table_spec(), blobs)
    before = dict(store.objects)
    with pytest.raises(UnsupportedOperator, match=r"Hardmax \(node 'node_t'\)") as caught:
        fit_network(store, config, manifest)
    assert "Use only these operators" in caught.value.fix and store.objects == before


def test_a_process_that_takes_too_much_is_ended():
    store, config, manifest = stored(made.dense(4), table_spec(), blobs)
    with pytest.raises(BadNetwork, match=r"The network wasn't fitted and tried on a few samples within 0\.01 s"):
        fit_network(store, config, manifest, replace(LIMITS, wall_seconds=0.01))


def test_labels_are_learnt_by_a_network_of_parts():
    spec = profile_spec()
    words = made.network(
        [node("Gather", ["table", "tokens"], "e"), made.constant("axis", [1]),
         node("ReduceMean", ["e", "axis"], "m", keepdims=0), node("Gemm", ["numbers", "w"], "a"),
         node("Add", ["a", "m"], "y")],
        {"table": made.drawn(10, 3), "w": made.drawn(3, 3)},
        {"numbers": (made.FLOAT, ["N", 3]), "tokens": (made.INT64, ["N", 6])},
        {"y": ["N", 3]},
    )  # fmt: skip
    store, config, manifest = stored(words, spec, profiles)
    described = describe_inputs(manifest)
    assert described["outputs"] == 3 and described["task"] == "multilabel"
    width = next(given["shape"][0] for given in described["inputs"] if given["name"] == "numbers")
    if width == 3:
        assert any("categories" in note for note in fit_network(store, config, manifest).notes)


def test_a_file_is_taken_over_once_by_its_sha256():
    data = made.dense()
    sha256 = hashlib.sha256(data).hexdigest()
    keys = NetworkKeys(sha256)
    uploads, artifacts = Uploads({keys.upload: data}), MemoryStore()
    receive_network(uploads, artifacts, sha256)
    assert artifacts.objects == {keys.network: data}
    del uploads.objects[keys.upload]
    receive_network(uploads, artifacts, sha256)
    with pytest.raises(BadNetwork, match="There is no network at networks/1111"):
        receive_network(uploads, artifacts, "1" * 64)
    wrong = Uploads({NetworkKeys("2" * 64).upload: data})
    with pytest.raises(BadNetwork, match="another sha256 than its name"):
        receive_network(wrong, MemoryStore(), "2" * 64)


def test_two_gigabytes_are_refused_without_being_read():
    sha256 = "3" * 64
    uploads = Uploads()
    uploads.sizes = {NetworkKeys(sha256).upload: 2 * 1024**3}
    with pytest.raises(TooLarge, match="2,147,483,648 bytes; 134,217,728 are allowed"):
        receive_network(uploads, MemoryStore(), sha256)
    with pytest.raises(NotFound):
        uploads.read(NetworkKeys(sha256).upload)


def test_what_was_kept_is_checked():
    store, config, manifest = stored(made.dense(4), table_spec(), blobs)
    store.write(NetworkKeys(config.sha256).network, b"another file")
    with pytest.raises(BadNetwork, match="isn't the file that was uploaded"):
        fit_network(store, config, manifest)
    with pytest.raises(BadNetwork, match="There is no network 4444"):
        fit_network(store, NetworkConfig(sha256="4" * 64), manifest)
    with pytest.raises(BadInput, match="fitted network can't be read"):
        FittedNetwork.decode(b"{}")
