"""Recurrent layers."""

import torch


def module(kind, count, bidirectional=False, **options):
    """PyTorch's recurrent module on ONNX's operands; its gates lie in another order."""
    order = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}[kind]

    def reordered(tensor):
        return torch.cat([tensor[2 * gate : 2 * gate + 2] for gate in order])

    def run(x, w, r, *rest):
        bias = rest[0] if rest else torch.zeros(len(w), 4 * len(order))
        states = rest[1:] or [torch.zeros(len(w), x.shape[1], 2)] * (2 if kind == "LSTM" else 1)
        weights = []
        for way in range(len(w)):
            b_w, b_r = bias[way].chunk(2)
            weights += [reordered(w[way]), reordered(r[way]), reordered(b_w), reordered(b_r)]
        net = getattr(torch.nn, kind)(3, 2, bidirectional=bidirectional)
        names = [name for name, _ in net.named_parameters()]
        start = tuple(states) if kind == "LSTM" else states[0]
        output, last = torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (x, start))
        if count:
            return last[count - 1] if kind == "LSTM" else last
        return output.reshape(*output.shape[:2], len(w), 2).transpose(1, 2)

    return run


def reversed_cells(x, *operands):
    # Backwards is forwards on the reversed sequence.
    return module("LSTM", 2)(torch.flip(x, (0,)), *operands)


def reset_before(x, w, r, *rest):
    """The original GRU, which PyTorch doesn't have."""
    outputs = []
    for way in range(len(w)):
        b_w, b_r = rest[0][way].chunk(2) if rest else (torch.zeros(6), torch.zeros(6))
        h = rest[1][way] if len(rest) > 1 else torch.zeros(x.shape[1], 2)
        steps = list(x.flip(0) if way else x)
        hidden = []
        for part in steps:
            a_z, a_r, a_n = (part @ w[way].T + b_w).chunk(3, 1)
            s_z, s_r = (h @ r[way][:4].T + b_r[:4]).chunk(2, 1)
            z, reset = torch.sigmoid(a_z + s_z), torch.sigmoid(a_r + s_r)
            new = torch.tanh(a_n + (reset * h) @ r[way][4:].T + b_r[4:])
            h = (1 - z) * new + z * h
            hidden.append(h)
        outputs.append(torch.stack(hidden[::-1] if way else hidden))
    return torch.stack(outputs, 1)


PYTORCH = {
    "lstm": module("LSTM", 0),
    "lstm_plain": module("LSTM", 0),
    "lstm_both": module("LSTM", 0, bidirectional=True),
    "lstm_last": module("LSTM", 1),
    "lstm_cell_reverse": reversed_cells,
    "gru": reset_before,
    "gru_plain": reset_before,
    "gru_both": reset_before,
    "gru_after": module("GRU", 0),
    "gru_after_both": module("GRU", 0, bidirectional=True),
    "gru_last": module("GRU", 1),
    "rnn_both": module("RNN", 0, bidirectional=True),
}
