"""What moves, repeats, cuts, reads and writes elements."""

import torch
import torch.nn.functional as F

from tests.torch.mirrors.windows import padded


def split(x):
    first, _, last = torch.split(x, [1, 2, 2], dim=1)
    return first * last


def strided_backwards(x):
    # PyTorch has no negative steps.
    return torch.flip(x, (2,))[:, :, ::2, 1:6:3]


PYTORCH = {
    "reshape": lambda x: x.reshape(x.shape[0], -1),
    "reshape_unknown": lambda x: x.reshape(-1),
    "flatten": lambda x: x.reshape(x.shape[0] * x.shape[1], -1),
    "squeeze": lambda x: x[:, 0, :, 0],
    "unsqueeze": lambda x: x[None, :, None],
    "transpose": lambda x: x.permute(2, 0, 3, 1),
    "transpose_reversed": lambda x: x.permute(2, 1, 0),
    "expand": lambda x: x[None].expand(2, x.shape[0], 4, 3),
    "expand_unknown": lambda a, b: a.expand_as(b) * b,
    "concat": lambda *x: torch.cat(x, -1),
    "concat_batch": lambda *x: torch.cat(x, 0),
    "split": split,
    "slice": lambda x: x[:, :, 1:, -5:-1],
    "slice_batch": lambda x: x[1:3],
    "slice_steps": strided_backwards,
    "pad": lambda x: padded(x, 0, 2, 1, 0, value=3.0),
    "pad_crop": lambda x: padded(x, 2, -2, -1, 1),
    "pad_axes": lambda x: padded(x, 1, 2),
    "gather_rows": lambda x: x[torch.tensor([[0, 3], [3, -1]])],
    "gather_columns": lambda x: x[:, [3, 1, 1]],
    "gather_one": lambda x: x[:, 2],
    "reverse_sequence": lambda x: torch.stack(
        [torch.cat([x[:steps, n].flip(0), x[steps:, n]]) for n, steps in enumerate((1, 3, 5))], 1
    ),
    "reverse_sequence_batch_first": lambda x: torch.stack([x[0].flip(0), torch.cat([x[1, :2].flip(0), x[1, 2:]])]),
    "cum_sum": lambda x: torch.cumsum(x, 1),
    "cum_sum_back": lambda x: torch.cumsum(x.flip(1), 1).flip(1) - x,
    "gather_elements": lambda x: torch.gather(x[:2], 1, torch.tensor([[3, 0, 3], [1, 3, 2]])),
    "gather_nd": lambda x: x[[[1, 0], [1, 0]], [[1, -1], [1, 0]]],
    "gather_nd_batch": lambda x: x[[[0, 0], [1, 1]], [[3, 0], [3, 0]]],
    "scatter_nd": lambda x, updates: x.index_put((torch.tensor([4, 1]),), updates),
    "scatter_nd_add": lambda x, updates: x.index_put((torch.tensor([4, 4]),), updates, accumulate=True),
    "scatter_elements": lambda x, updates: torch.scatter(x, 1, torch.tensor([[3, 0], [1, 3]]), updates),
    "scatter_elements_add": lambda x, updates: torch.scatter_add(x, 1, torch.tensor([[3, 3], [1, 3]]), updates),
    "top_k": lambda x: torch.topk(x, 3, 2).values,
    "tile": lambda x: x.repeat(2, 3),
    "trilu": lambda x: torch.tril(x, 1),
    "pad_reflect": lambda x: F.pad(x, (1, 2, 2, 3), mode="reflect"),
    "pad_edge": lambda x: F.pad(x, (1, 2, 2, 0), mode="replicate"),
    "pad_wrap": lambda x: F.pad(x, (2, 1, 1, 2), mode="circular"),
    "split_number": lambda x: x[:, :3].sum(1) * x[:, 3:].sum(1),
    "compress": lambda x: x[:, :, 1:3],
    "compress_flat": lambda x: x.flatten()[[1, 4]],
}
