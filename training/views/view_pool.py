"""Views that are looked at several times before they go, because making them takes longer than learning from them."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from .synthetic_views import ViewBatch, ViewMaker


class ViewPool:
    """Batches drawn from the newest blocks of views; every so many steps a new block comes and the oldest goes.

    Batch ``number`` depends on the number alone, so a resumed run draws what it would have drawn: what is missing of
    the pool is made again.
    """

    def __init__(self, maker: ViewMaker, batch: int, uses: int, blocks: int) -> None:
        """uses: how often a view is drawn in the mean; blocks: how many batches' worth the pool holds."""
        self._maker, self._batch, self._uses = maker, batch, uses
        self._blocks = blocks if uses > 1 else 1
        self._held: OrderedDict[int, ViewBatch] = OrderedDict()

    def batch(self, number: int) -> ViewBatch:
        """Batch ``number``, half of it mirrored."""
        if self._uses == 1:
            return self._maker.batch(number, self._batch)
        newest = number // self._uses + self._blocks - 1
        blocks = [self._block(newest - age) for age in range(self._blocks)]
        rng = np.random.default_rng((self._maker.seed, number, 1))
        chosen = rng.choice(self._blocks * self._batch, self._batch, replace=False)
        block, row = np.divmod(chosen, self._batch)
        drawn = _empty_like(blocks[0])
        for index, views in enumerate(blocks):
            here = block == index
            for name in _ARRAYS:
                getattr(drawn, name)[here] = getattr(views, name)[row[here]]
        return drawn.mirrored(rng.random(self._batch) < 0.5)

    def _block(self, number: int) -> ViewBatch:
        if number not in self._held:
            self._held[number] = self._maker.batch(number, self._batch)
            for old in [held for held in self._held if held <= number - self._blocks]:
                del self._held[old]
        return self._held[number]


_ARRAYS = ("inputs", "targets_m", "contact", "up")


def _empty_like(views: ViewBatch) -> ViewBatch:
    return ViewBatch(*(np.empty_like(getattr(views, name)) for name in _ARRAYS))
