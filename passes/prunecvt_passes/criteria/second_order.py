"""The criterion ``obs``: Optimal Brain Surgeon by channel."""

from __future__ import annotations

from collections.abc import Sequence

from prunecvt_passes.groups import Group, Groups
from prunecvt_passes.recovery.curve import Curve
from prunecvt_passes.recovery.eliminate import Halved, eliminate
from prunecvt_passes.recovery.observe import Reader


def obs(
    groups: Groups, group: Group, readers: Sequence[Reader]
) -> tuple[Curve, list[Halved]] | None:
    """The order in which channels cost least if the rest is refitted; see ``eliminate``."""
    return eliminate(groups, group, readers)
