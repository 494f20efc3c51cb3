"""The criteria by name: in which file each lies, and what it needs.

Nothing heavy is imported here, so that the command line can list them: a criterion's file is
imported when it is asked for. There the function is called as the criterion, ``-`` written ``_``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prunecvt_passes.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from prunecvt_passes.criteria.evidence import Evidence
    from prunecvt_passes.groups import Group, Groups
    from prunecvt_passes.recovery.curve import Curve
    from prunecvt_passes.recovery.eliminate import Halved
    from prunecvt_passes.recovery.observe import Reader

    Scorer = Callable[[Evidence], npt.NDArray[np.float64]]
    Eliminator = Callable[[Groups, Group, Sequence[Reader]], tuple[Curve, list[Halved]] | None]

Loss = Literal["own", "drawn"]


@dataclass(frozen=True)
class Criterion:
    """A name of ``CRITERIA`` or ``auto``; ``seed`` is for ``random``."""

    name: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Entry:
    """Where a criterion lies and what it needs.

    Attributes:
        family: the file of this folder.
        sees: the measure (of ``measures.py``) that it reads of what readers see on unlabelled data;
            "" where it needs none.
        cumulative: it is an order in which channels go, with the error after each of them, from the
            second moments of what readers see on unlabelled data. Its function eliminates one
            group's channels; that of any other criterion scores every class.
        joint: its function scores every class by the error with all lower ones of the group gone.
        loss: its gradients by gates are what it reads (``own`` or ``drawn``: see ``prunecvt``'s
            torch bridge, which makes them on unlabelled data); "" where it needs none.
    """

    family: str
    sees: str = ""
    cumulative: bool = False
    joint: bool = False
    loss: Loss | Literal[""] = ""

    @property
    def needs_data(self) -> bool:
        """Whether it needs unlabelled data; the others need nothing but the model."""
        return self.cumulative or bool(self.sees or self.loss)


OBS = "obs"
# Measured best of those without data, BatchNormalization kept or folded, in both scopes: see
# benchmarks/README.md. It needs nothing that a model could lack.
AUTO = "share"
CRITERIA: dict[str, Entry] = {
    "apoz": Entry("activations", sees="idle"),
    "bn": Entry("scale"),
    "fisher": Entry("gradients", joint=True, loss="drawn"),
    "fpgm": Entry("median"),
    "hrank": Entry("rank", sees="maps"),
    "l1": Entry("norms"),
    "l2": Entry("norms"),
    "lamp": Entry("lamp"),
    "lasso": Entry("reconstruction", cumulative=True),
    "mean-activation": Entry("activations", sees="magnitude"),
    "obs": Entry("second_order", cumulative=True),
    "product": Entry("norms"),
    "random": Entry("baseline"),
    "share": Entry("share"),
    "taylor": Entry("gradients", loss="own"),
    "thinet": Entry("reconstruction", cumulative=True),
    "wanda": Entry("activations", sees="square"),
}
DATA_FREE = tuple(name for name, entry in CRITERIA.items() if not entry.needs_data)


def resolved(name: str, data: bool) -> str:
    """The criterion that ``auto`` stands for, with data or without; another name as it is."""
    if name != "auto":
        return name
    return OBS if data else AUTO


def check_name(name: str) -> None:
    """Refuses what is neither a criterion nor ``auto``.

    Raises:
        UsageError: E210.
    """
    if name != "auto" and name not in CRITERIA:
        known = ", ".join(["auto", *CRITERIA])
        raise UsageError("E210", f"no criterion is called '{name}'", help=f"known are {known}")


def scorer(name: str) -> Scorer:
    """The function of a criterion that is not cumulative."""
    found: Scorer = _function(name)
    return found


def eliminator(name: str) -> Eliminator:
    """The function of a cumulative criterion."""
    found: Eliminator = _function(name)
    return found


def _function(name: str) -> Any:
    module = importlib.import_module(f"prunecvt_passes.criteria.{CRITERIA[name].family}")
    return getattr(module, name.replace("-", "_"))
