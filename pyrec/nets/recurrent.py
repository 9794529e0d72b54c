"""A gated recurrent unit over sequences of different lengths, without padding.

Steps of all users are packed by time: first the first item of each user, longest sequence first, then
the second items, and so on. The users that still have an item are then the first ones of each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyrec.kernels.tensors import _only_once

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


def gru(layer: nn.GRU, x: Tensor, sizes: list[int]) -> Tensor:
    """Return the (steps, hidden) states of one layer after each step, from a state of zeros.

    Parameters
    ----------
    layer : torch.nn.GRU
        Of one layer, in one direction.
    x : (steps, inputs) tensor
        Packed by time.
    sizes : list of int
        Steps at each time.

    Notes
    -----
    On the CPU torch's own backward pass takes time that grows with the square of the length, and
    makes the weights' gradient step by step. Here it is one product over all steps.
    """
    if not sizes:
        return x.new_zeros(0, layer.hidden_size)
    states: Tensor
    if x.device.type == "cpu":
        states = _Gru.apply(x, *layer.parameters(), sizes)
    else:
        states = _by_torch(layer, x, sizes)
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
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        sizes: list[int],
    ) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            size = w_hh.shape[1]
            x = x.to(w_ih.dtype)
            gates = torch.addmm(b_ih, x, w_ih.t())
            # What the state adds to the third gate, before the reset.
            inner, states = (x.new_empty(len(x), size) for _ in range(2))
            a = x.new_empty(sizes[0], 3 * size)
            transposed = w_hh.t().contiguous()
            h = x.new_zeros(sizes[0], size)
            times = zip(
                sizes, _by_time(gates, sizes), inner.split(sizes), states.split(sizes), strict=True
            )
            for n, now, kept, out in times:
                torch.addmm(b_hh, h[:n], transposed, out=a[:n])
                kept.copy_(a[:n, 2 * size :])
                h = _step(now, a[:n], h[:n], out)
        ctx.save_for_backward(x, w_ih, w_hh, gates, inner, states)
        ctx.sizes = sizes
        return states

    @staticmethod
    @_only_once
    def backward(ctx: Any, states_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, inner, states = ctx.saved_tensors
        with torch.autocast("cpu", enabled=False):
            before = _shifted(states, ctx.sizes)
            slopes = _slopes(gates, inner, before)
            dh = states_grad.to(states.dtype).clone(memory_format=torch.contiguous_format)
            a_grad = _a_grad(dh, slopes, gates, w_hh, ctx.sizes)
            x_grad, size = slopes, w_hh.shape[1]
            x_grad[:, : 2 * size] = a_grad[:, : 2 * size]
            x_grad[:, 2 * size :] *= dh
            ones = x.new_ones(len(x))
            return (
                x_grad @ w_ih if ctx.needs_input_grad[0] else None,
                x_grad.t() @ x,
                a_grad.t() @ before,
                ones @ x_grad,
                ones @ a_grad,
                None,
            )


def _shifted(states: Tensor, sizes: list[int]) -> Tensor:
    """The state before each step."""
    before = torch.empty_like(states)
    before[: sizes[0]] = 0
    begin = sizes[0]
    for previous, n in pairwise(sizes):
        before[begin : begin + n] = states[begin - previous : begin - previous + n]
        begin += n
    return before


def _slopes(gates: Tensor, inner: Tensor, before: Tensor) -> Tensor:
    """The derivative of each step's state by what enters r, z and n, through sigmoid or tanh."""
    size = inner.shape[1]
    r, z, n = gates.split(size, 1)
    slopes = torch.empty_like(gates)
    dr, dz, dn = slopes.split(size, 1)
    torch.mul(n, n, out=dn).neg_().add_(1).mul_(1 - z)
    torch.sub(before, n, out=dz).mul_(z).mul_(1 - z)
    torch.mul(r, 1 - r, out=dr).mul_(inner).mul_(dn)
    return slopes


def _a_grad(dh: Tensor, slopes: Tensor, gates: Tensor, w_hh: Tensor, sizes: list[int]) -> Tensor:
    """The gradient of what the states give for the gates; `dh` becomes the gradient of the states."""
    size = w_hh.shape[1]
    a_grad = slopes.clone()
    a_grad[:, 2 * size :] *= gates[:, :size]
    per_gate = a_grad.view(-1, 3, size)
    views = (t.split(sizes) for t in (per_gate, a_grad, dh, dh[:, None], gates[:, size : 2 * size]))
    times = list(zip(sizes, *views, strict=True))
    for time in range(len(times) - 1, -1, -1):
        n, own, flat, d, d_per_gate, z = times[time]
        own *= d_per_gate
        if time:
            times[time - 1][3][:n].addcmul_(d, z).addmm_(flat, w_hh)
    return a_grad
