"""Small graphs, one or more for every operator with a gradient rule; shared with the comparisons in tests/torch."""

from tests.unit.graphs.cases import elementwise, moving, products, recurrent, statistics, windows
from tests.unit.graphs.cases.case import Case, Gradients

__all__ = ["CASES", "Case", "Gradients"]

CASES = [
    *elementwise.CASES,
    *products.CASES,
    *windows.CASES,
    *statistics.CASES,
    *moving.CASES,
    *recurrent.CASES,
]
