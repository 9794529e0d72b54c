"""PlacedModel: what a model of weights does when it keeps them on a GPU too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyrec.machine import cuda_device, find_device
from pyrec.models.base import Asked, Recommendations, RecSysModel

if TYPE_CHECKING:
    import scipy.sparse as sp
    import torch

    from pyrec.models.on_device import DeviceWeights

__all__ = ["PlacedModel"]

# A call's blocks follow each other without a pause: the more of them, the better.
_ROWS_AT_ONCE = 65_536


class PlacedModel(RecSysModel):
    """Abstract base class of models whose scores are histories times weights, plus an offset.

    A subclass has `weights` and `offset`, and takes them to the CPU's kernels itself. Nothing here
    loads torch before `to` is called.
    """

    weights: Any
    offset: NDArray[np.float32] | None
    _device: torch.device | None = None
    _there: DeviceWeights | None = None

    def to(self, device: torch.device | str) -> None:
        """Keep the weights on a GPU too, where `recommend`, `scores` and `similar_items` then run.

        Their results are those of the CPU up to rounding in float32. Other `weights`, by `train`,
        `load_model` or by hand, are copied there when they are used; ``"cpu"`` lets go of those there.

        Parameters
        ----------
        device : torch.device or str

        Raises
        ------
        ValueError
            No CUDA device, or one that is not there.
        MemoryError
            The GPU has too little free memory; the model stays where it was.

        Notes
        -----
        Memory of the GPU: 4 bytes a weight, of sparse weights 8 bytes for each that is not 0; and about
        512 MiB for the work, more without compiled kernels. The weights in the CPU's memory stay.
        """
        from pyrec.kernels.gpu import native

        place = find_device(cuda_device(device))
        if not native.is_device(place):
            self._device = self._there = None
            return
        before = self._device, self._there
        self._device, self._there = place, self._there if place == self._device else None
        try:
            if self.weights is not None:
                self._weights_there()
        except BaseException:
            self._device, self._there = before
            raise

    @property
    def device_type(self) -> str:
        return "cpu" if self._device is None else self._device.type

    def _check_precision_there(self, precision: str) -> None:
        if self._device is not None and precision != "fp32":
            raise ValueError(
                f"precision must be fp32 on a GPU, where weights are float32, got {precision!r}"
            )

    @property
    def rows_at_once(self) -> int:
        return _ROWS_AT_ONCE

    def _block_rows(self) -> int:
        from pyrec.models import on_device

        return on_device.block_rows(self.n_items or 0)

    def _scores_there(self, histories: Any) -> NDArray[np.float32]:
        from pyrec.models import on_device

        assert self._device is not None
        score = self._weights_there().scores
        return on_device.scores(histories, self.n_items or 0, self._device, score)

    def _similar_there(self, alone: sp.csr_array, k: int) -> Recommendations:
        """The largest weights of rows: scores of histories of one item, without the offset."""
        from pyrec.models import on_device

        assert self._device is not None
        best = self._weights_there()._replace(offset=None).topk
        n, n_items = alone.shape
        asked = Asked(alone, alone, None, None)
        return on_device.recommend([asked], n, k, n_items, self._device, best)

    def _place(self) -> torch.device | None:
        return self._device

    def _topk_there(self, x: Any, k: int, seen: Any, allow: Any, deny: Any) -> Any:
        return self._weights_there().topk(x, k, seen, allow, deny)

    def _weights_there(self) -> DeviceWeights:
        """The weights on the GPU, copied anew where others have come since."""
        from pyrec.models.on_device import DeviceWeights

        assert self._device is not None
        weights, there = self._weights(), self._there
        if there is None or not there.is_of(weights, self.offset):
            there = self._there = None  # its memory may be what the new ones need
            there = self._there = DeviceWeights.of(weights, self.offset, self._device)
        return there

    def _weights(self) -> Any:
        self._require_trained()
        assert self.weights is not None
        return self.weights
