"""The audit record's chain: whole when nothing was touched, broken at the place where something was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.registry.audit import GENESIS, AuditEntry, verify


def chain(length: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(1, length + 1):
        previous = entries[-1].hash if entries else GENESIS
        entry = AuditEntry(
            number=number,
            at=f"2026-11-21T08:00:{number:02d}.000Z",
            who="root",
            action="token.created",
            subject=f"t{number}",
            details={"number": number},
            previous=previous,
        )
        entries.append(entry.sealed())
    return entries


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_whole_chain_holds(length: int) -> None:
    entries = chain(length)
    found = verify(entries)
    assert found.valid
    assert (found.entries, found.head) == (length, entries[-1].hash if entries else GENESIS)
    assert verify(entries, found.head).valid


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda e: [*e[:2], e[2].model_copy(update={"who": "x"}), *e[3:]], "altered"),
        (lambda e: [*e[:2], e[2].model_copy(update={"details": {}}).sealed(), *e[3:]], "doesn't follow"),
        (lambda e: [*e[:2], *e[3:]], "missing"),
        (lambda e: [e[1], e[0], *e[2:]], "missing"),
        (lambda e: [*e[:2], e[2].model_copy(update={"previous": GENESIS}).sealed(), *e[3:]], "doesn't follow"),
    ],
)
def test_a_touched_chain_breaks_at_its_place(
    break_it: Callable[[list[AuditEntry]], list[AuditEntry]], reason: str
) -> None:
    found = verify(break_it(chain(5)))
    assert not found.valid
    assert found.broken_at is not None
    assert reason in found.reason


def test_entries_cut_off_at_the_end_show_against_a_kept_head() -> None:
    entries = chain(5)
    assert verify(entries[:4]).valid
    found = verify(entries[:4], entries[-1].hash)
    assert (found.valid, found.broken_at) == (False, 5)


@given(st.integers(1, 6), st.integers(0, 5), st.sampled_from(["at", "who", "action", "subject", "source"]), st.text())
def test_any_altered_field_shows(length: int, place: int, field: str, value: str) -> None:
    entries = chain(length)
    index = place % length
    if getattr(entries[index], field) == value:
        return
    entries[index] = entries[index].model_copy(update={field: value})
    assert verify(entries).broken_at == index + 1
