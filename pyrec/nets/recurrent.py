"""A gated recurrent unit over sequences of different lengths, without padding.

Steps of all users are packed by time: first the first item of each user, longest sequence first, then
the second items, and so on. The users that still have an item are then the first ones of each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyrec.kernels.memory import scratch
from pyrec.kernels.tensors import only_once

__all__ = ["Packing", "gru", "last_states", "packing"]


class Packing(NamedTuple):
    """How steps that lie user by user are packed by time.

    `users` (n,) int64 are the users, longest first; `sizes` how many of them have a step, for each
    time; `order` (steps,) int64 is the place among all steps of each packed one, `place` its inverse.
    """

    users: Tensor
    sizes: list[int]
    order: Tensor
    place: Tensor


def packing(offsets: Tensor) -> Packing:
    """Return the packing of sequences that `offsets`, (n + 1,) int64, divide."""
    device, offsets = offsets.device, offsets.cpu()
    lengths = offsets.diff()
    users = torch.argsort(lengths, descending=True, stable=True)
    rank = torch.empty_like(users)
    rank[users] = torch.arange(len(users))
    steps = int(offsets[-1])
    times = torch.arange(steps) - torch.repeat_interleave(offsets[:-1], lengths, output_size=steps)
    sizes = torch.bincount(times)
    place = (sizes.cumsum(0) - sizes)[times]
    place += torch.repeat_interleave(rank, lengths, output_size=steps)
    order = torch.empty_like(place)
    order[place] = torch.arange(steps)
    on_device = (tensor.to(device) for tensor in (order, place))
    return Packing(users.to(device), sizes.tolist(), *on_device)


def gru(layer: nn.GRU, inputs: Tensor, rows: Tensor, sizes: list[int]) -> Tensor:
    """Return the (steps, hidden) states of one layer after each step, from a state of zeros.

    Parameters
    ----------
    layer : torch.nn.GRU
        Of one layer, in one direction.
    inputs : (m, inputs) tensor
        The different inputs that there are.
    rows : (steps,) int64 tensor
        Which of them each step has, packed by time.
    sizes : list of int
        Steps at each time.

    Notes
    -----
    On the CPU torch's own backward pass takes time that grows with the square of the length, and
    makes the weights' gradient step by step. Here it is one product over all steps, and what an input
    gives for the gates is computed once, however often it comes.
    """
    if not sizes:
        return inputs.new_zeros(0, layer.hidden_size)
    states: Tensor
    if inputs.device.type == "cpu":
        w_ih, w_hh, b_ih, b_hh = layer.parameters()
        with torch.autocast("cpu", enabled=False):
            table = torch.addmm(b_ih, inputs.to(w_ih.dtype), w_ih.t())
        states = _Gru.apply(table, rows, w_hh, b_hh, sizes)
    else:
        states = _by_torch(layer, inputs[rows], sizes)
    return states


def _by_torch(layer: nn.GRU, x: Tensor, sizes: list[int]) -> Any:
    return layer(nn.utils.rnn.PackedSequence(x, torch.tensor(sizes)))[0].data


@torch.no_grad()
def last_states(layer: nn.GRU, inputs: Tensor, rows: Tensor, packed: Packing) -> Tensor:
    """Return the (n, hidden) states after each user's last step; zeros of a user without any.

    Not differentiable: memory follows the users and the inputs, not the steps.

    Parameters
    ----------
    layer : torch.nn.GRU
    inputs : (m, inputs) tensor
        The different inputs that there are.
    rows : (steps,) int64 tensor
        Which of them each step has, user by user.
    packed : Packing
        Of the steps.
    """
    w_ih, w_hh, b_ih, b_hh = layer.parameters()
    gates = torch.addmm(b_ih, inputs, w_ih.t())
    rows = rows[packed.order]
    h = gates.new_zeros(len(packed.users), layer.hidden_size)
    begin = 0
    for n in packed.sizes:
        x = gates[rows[begin : begin + n]]
        a = torch.addmm(b_hh, h[:n], w_hh.t())
        h[:n] = _step(next(_by_time(x, [n])), a, h[:n])
        begin += n
    last = torch.empty_like(h)
    last[packed.users] = h
    return last


class Gates(NamedTuple):
    """Views of the gates of one time; `both` are r and z."""

    both: Tensor
    r: Tensor
    z: Tensor
    n: Tensor


def _by_time(gates: Tensor, sizes: list[int]) -> Iterator[Gates]:
    """The gates of each time, of (steps, 3 hidden). Views are made for all times at once."""
    size = gates.shape[1] // 3
    columns = (0, 2 * size), (0, size), (size, 2 * size), (2 * size, 3 * size)
    return map(Gates, *(gates[:, slice(*some)].split(sizes) for some in columns))


def _step(x: Gates, a: Tensor, h: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the next state: x, what the input gives for the gates, becomes their values.

    With `a` of the state h: r = sigmoid(x_r + a_r), z = sigmoid(x_z + a_z), n = tanh(x_n + r a_n), and
    the next state is (1 - z) n + z h (Cho et al. 2014, with the reset after the product as in cuDNN).
    """
    split = x.both.shape[1]
    x.both.add_(a[:, :split]).sigmoid_()
    x.n.addcmul_(x.r, a[:, split:]).tanh_()
    return torch.lerp(x.n, h, x.z, out=out)


class _Gru(torch.autograd.Function):
    """The steps from `table`, what each input gives for the gates."""

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, rows: Tensor, w_hh: Tensor, b_hh: Tensor, sizes: list[int]
    ) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            size = w_hh.shape[1]
            gates = table.index_select(0, rows)
            # What the state adds to the third gate, before the reset.
            inner, states = (gates.new_empty(len(rows), size) for _ in range(2))
            a = gates.new_empty(sizes[0], 3 * size)
            transposed = w_hh.t().contiguous()
            h = gates.new_zeros(sizes[0], size)
            times = _by_time(gates, sizes), inner.split(sizes), states.split(sizes)
            for n, now, kept, out in zip(sizes, *times, strict=True):
                torch.addmm(b_hh, h[:n], transposed, out=a[:n])
                kept.copy_(a[:n, 2 * size :])
                h = _step(now, a[:n], h[:n], out)
        ctx.save_for_backward(rows, w_hh, gates, inner, states)
        ctx.sizes, ctx.n_inputs = sizes, len(table)
        return states

    @staticmethod
    @only_once
    def backward(ctx: Any, states_grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, w_hh, gates, inner, states = ctx.saved_tensors
        steps, size = states.shape
        with ExitStack() as stack:
            stack.enter_context(torch.autocast("cpu", enabled=False))
            before, dh, slopes, a_grad = (
                stack.enter_context(scratch(f"gru {role}", shape, gates.dtype, gates.device))
                for role, shape in enumerate([states.shape] * 2 + [gates.shape] * 2)
            )
            _shifted(states, ctx.sizes, out=before)
            _slopes(gates, inner, before, out=slopes)
            dh.copy_(states_grad)
            _a_grad(dh, slopes, gates, w_hh, ctx.sizes, out=a_grad)
            x_grad = slopes
            x_grad[:, : 2 * size] = a_grad[:, : 2 * size]
            x_grad[:, 2 * size :] *= dh
            table_grad = gates.new_zeros(ctx.n_inputs, 3 * size).index_add_(0, rows, x_grad)
            w_grad = a_grad.t() @ before
            return table_grad, None, w_grad, a_grad.new_ones(steps) @ a_grad, None


def _shifted(states: Tensor, sizes: list[int], out: Tensor) -> None:
    """The state before each step."""
    out[: sizes[0]] = 0
    begin = sizes[0]
    for previous, n in pairwise(sizes):
        out[begin : begin + n] = states[begin - previous : begin - previous + n]
        begin += n


def _slopes(gates: Tensor, inner: Tensor, before: Tensor, out: Tensor) -> None:
    """The derivative of each step's state by what enters r, z and n, through sigmoid or tanh."""
    size = inner.shape[1]
    r, z, n = gates.split(size, 1)
    dr, dz, dn = out.split(size, 1)
    torch.mul(n, n, out=dn).neg_().add_(1).mul_(1 - z)
    torch.sub(before, n, out=dz).mul_(z).mul_(1 - z)
    torch.mul(r, 1 - r, out=dr).mul_(inner).mul_(dn)


def _a_grad(
    dh: Tensor, slopes: Tensor, gates: Tensor, w_hh: Tensor, sizes: list[int], out: Tensor
) -> None:
    """The gradient of what the states give for the gates; `dh` becomes the gradient of the states."""
    size = w_hh.shape[1]
    a_grad = out.copy_(slopes)
    a_grad[:, 2 * size :] *= gates[:, :size]
    per_gate = a_grad.view(-1, 3, size)
    views = (t.split(sizes) for t in (per_gate, a_grad, dh, dh[:, None], gates[:, size : 2 * size]))
    times = list(zip(sizes, *views, strict=True))
    for time in range(len(times) - 1, -1, -1):
        n, own, flat, d, d_per_gate, z = times[time]
        own *= d_per_gate
        if time:
            times[time - 1][3][:n].addcmul_(d, z).addmm_(flat, w_hh)
