"""Which axis carries on where a Reshape splits labels: heads or channels, groups or members.

Each choice is exact, for the labels are tied across the other axes; they differ in what is removed
as one. So the graph is walked with the innermost axes carrying on, and the labels tell what those
axes are. Where they become rows, columns or summed axes of a product of two activations, the
product is an attention, and the axis that becomes a batch axis of it counts its heads (pruned whole
as by Michel et al., "Are sixteen heads really better than one?", 2019). Where all of them are
pinned, as by a normalisation within groups, whole groups may still be free to go. What the second
walk does not bear out is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from prunecvt_passes.channels import Channels, Labels, Split, SplitKey
from prunecvt_passes.groups import Bools, Ints, components
from prunecvt_passes.units import Units

Walk = Callable[[Mapping[SplitKey, int]], Channels]


@dataclass(frozen=True)
class _Walked:
    """One walk, solved: class of each label, and whether a class is free to go."""

    channels: Channels
    class_of: Ints
    free: Bools

    @staticmethod
    def of(channels: Channels) -> _Walked:
        class_of, total = components(channels)
        free = np.ones(total, bool)
        for pin in channels.pins:
            free[class_of[pin.labels]] = False
        return _Walked(channels, class_of, free)

    def share(self, split: Split) -> float:
        """Share of the labels spread by ``split`` that are free to go."""
        return float(self.free[self.class_of[split.joint]].mean())

    def classes(self, vectors: Iterable[Labels]) -> Bools:
        """Class -> whether it is among the labels in ``vectors``."""
        found = np.zeros(self.free.size, bool)
        for labels in vectors:
            found[self.class_of[labels]] = True
        return found

    def touched(self, splits: Iterable[Split], vectors: Iterable[Labels]) -> set[SplitKey]:
        """Keys of the splits whose labels share a class with ``vectors``."""
        found = self.classes(vectors)
        return {split.key for split in splits if found[self.class_of[split.made]].any()}


def settle(walk: Walk, units: Units) -> Channels:
    """Walks until every split is decided; most graphs are walked once.

    Args:
        walk: walks the graph, with the axes given by split carrying on, else the innermost.
        units: whether an attention loses heads or channels.

    Returns:
        The labels of the last walk.
    """
    channels = walk({})
    if not channels.splits:
        return channels
    inner = _Walked.of(channels)
    shares = {split.key: inner.share(split) for split in channels.splits}
    heads = _heads(inner) if units.attention == "head" else set()
    # outermost first: heads that share keys and values stand outside of those that do not
    left = {
        split.key: list(split.axes[1:])
        for split in channels.splits
        if split.key in heads or shares[split.key] == 0
    }
    # a split of what was split before is only judged once that one is right
    for _ in range(2 * max((len(axes) for axes in left.values()), default=0)):
        now = _Walked.of(walk({key: axes[-1] for key, axes in left.items() if axes}))
        wrong = _wrong(now, left, heads, shares)
        if not wrong:
            return now.channels
        for key in wrong:
            left[key].pop()
    return walk({key: axes[-1] for key, axes in left.items() if axes})


def _heads(walked: _Walked) -> set[SplitKey]:
    """Splits whose labels become rows, columns or summed axes of a product of activations."""
    channels = walked.channels
    matrices = [labels for product in channels.products for labels in product.matrix]
    return walked.touched(channels.splits, matrices)


def _wrong(
    now: _Walked,
    left: Mapping[SplitKey, list[int]],
    heads: set[SplitKey],
    shares: Mapping[SplitKey, float],
) -> set[SplitKey]:
    """Splits that another axis has to carry on in, with all that hang together with them."""
    tried = [s for s in now.channels.splits if left.get(s.key)]
    batches = [labels for product in now.channels.products for labels in product.batch]
    among = now.touched(tried, batches)
    wrong = [
        split
        for split in tried
        if now.share(split) == 0
        or now.share(split) < shares[split.key]
        or (split.key in heads and shares[split.key] > 0 and split.key not in among)
    ]
    return now.touched(tried, [split.made for split in wrong])
