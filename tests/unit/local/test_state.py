import json
import sqlite3

import pytest

from shoal.local.state import StateStore


def test_numbers_grow_over_restarts(tmp_path):
    store = StateStore(tmp_path)
    first = [store.next_number("sequence") for _ in range(3)]
    store.close()
    again = StateStore(tmp_path)
    assert first == [1, 2, 3]
    assert again.next_number("sequence") == 4
    again.close()


def test_a_failed_transaction_keeps_nothing_and_a_nested_one_joins(tmp_path):
    store = StateStore(tmp_path)
    with pytest.raises(KeyError), store.transaction():
        store.set_setting("a", 1)
        with store.transaction():
            store.set_setting("b", 2)
        raise KeyError
    assert store.setting("a") is None
    assert store.setting("b") is None
    with store.transaction():
        store.set_setting("c", {"x": [1]})
    assert store.setting("c") == {"x": [1]}
    store.close()


def test_bodies_are_kept_once_and_collected_when_nobody_names_them(tmp_path):
    store = StateStore(tmp_path)
    kept, lost = store.write_body(b"kept"), store.write_body(b"lost")
    assert store.write_body(b"kept") == kept
    with store.transaction() as db:
        db.execute("INSERT INTO versions VALUES('b', 'k', 'v', 1, ?, '{}')", (kept,))
    assert store.collect_garbage() == 1
    assert store.body_path(kept).read_bytes() == b"kept"
    assert not store.body_path(lost).exists()
    store.close()


def test_what_was_being_written_at_a_crash_is_gone_at_the_next_start(tmp_path):
    StateStore(tmp_path).close()
    (tmp_path / "tmp" / "half").write_bytes(b"half")
    StateStore(tmp_path).close()
    assert not (tmp_path / "tmp" / "half").exists()


def test_committed_records_are_readable_by_another_process_before_closing(tmp_path):
    store = StateStore(tmp_path)
    store.set_setting("a", "ü")
    with sqlite3.connect(tmp_path / "state.db") as other:
        assert json.loads(other.execute("SELECT value FROM settings").fetchone()[0]) == "ü"
    other.close()
    store.close()
