"""Matrix products."""

from __future__ import annotations

from tests.unit.graphs.cases.case import Case, binary

CASES = [
    Case("matmul", (("N", 3), (3, 5)), binary("MatMul")),
    Case("matmul_turned", ((2, 3), (3, "N")), binary("MatMul")),
    Case("matmul_batch", (("N", 4, 3), (3, 5)), binary("MatMul")),
    Case("matmul_both_batch", (("N", 4, 3), ("N", 3, 2)), binary("MatMul")),
    Case("matmul_broadcast", (("N", 2, 4, 3), (2, 3, 2)), binary("MatMul")),
    Case("matmul_left_matrix", ((4, 3), ("N", 3, 2)), binary("MatMul")),
    Case("matmul_vector", (("N", 3), (3,)), binary("MatMul")),
    Case("matmul_vector_left", ((3,), ("N", 3, 2)), binary("MatMul")),
    Case("matmul_vectors", ((3,), (3,)), binary("MatMul")),
    Case("gemm", (("N", 3), (3, 5), (5,)), lambda g, *x: g.emit("Gemm", *x)),
    Case("gemm_no_bias", (("N", 3), (3, 5)), binary("Gemm")),
    Case("gemm_a", ((3, "N"), (3, 5), ("N", 1)), lambda g, *x: g.emit("Gemm", *x, transA=1, alpha=0.5, beta=2.0)),
    Case("gemm_b", (("N", 3), (5, 3), ()), lambda g, *x: g.emit("Gemm", *x, transB=1, alpha=2.0)),
    Case("gemm_ab", ((3, "N"), (5, 3)), lambda g, *x: g.emit("Gemm", *x, transA=1, transB=1)),
    Case("einsum_attention", (("N", 2, 5, 3), ("N", 2, 4, 3)), binary("Einsum", equation="bhqd,bhkd->bhqk")),
    Case("einsum_three", (("N", 2), (2, 3), (3, 4)), lambda g, *x: g.emit("Einsum", *x, equation="ni,ij,jk->nk")),
    Case("einsum_implicit", (("N", 2), (2, 3)), binary("Einsum", equation="zi, ij")),
    Case("einsum_summed", (("N", 2), (2, 3)), binary("Einsum", equation="ni,ij->n")),
    Case("einsum_ellipsis", (("N", 2, 4, 3), ("N", 2, 3, 5)), binary("Einsum", equation="...ij,...jk->...ik")),
    Case("einsum_ellipsis_implicit", (("N", 2, 3), (3, 4)), binary("Einsum", equation="...i,ij")),
    Case("einsum_ellipsis_shorter", (("N", 2, 3), (2, 3, 4)), binary("Einsum", equation="b...i,...ij->b...j")),
]
