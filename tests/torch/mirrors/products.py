"""Matrix products."""

import torch

PYTORCH = {
    "matmul": torch.matmul,
    "matmul_turned": torch.matmul,
    "matmul_batch": torch.matmul,
    "matmul_both_batch": torch.matmul,
    "matmul_broadcast": torch.matmul,
    "matmul_left_matrix": torch.matmul,
    "matmul_vector": torch.matmul,
    "matmul_vector_left": torch.matmul,
    "matmul_vectors": torch.matmul,
    "gemm": lambda a, b, c: a @ b + c,
    "gemm_no_bias": torch.matmul,
    "gemm_a": lambda a, b, c: 0.5 * a.T @ b + 2 * c,
    "gemm_b": lambda a, b, c: 2 * a @ b.T + c,
    "gemm_ab": lambda a, b: a.T @ b.T,
    "einsum_attention": lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b),
    "einsum_three": lambda *x: torch.einsum("ni,ij,jk->nk", *x),
    "einsum_implicit": lambda a, b: torch.einsum("zi,ij", a, b),
    "einsum_summed": lambda a, b: torch.einsum("ni,ij->n", a, b),
    "einsum_ellipsis": torch.matmul,
    "einsum_ellipsis_implicit": torch.matmul,
    "einsum_ellipsis_shorter": lambda a, b: torch.einsum("bki,kij->bkj", a, b),
}
