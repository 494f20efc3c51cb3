"""The plan: which channels of which tensors stay, as a document to review and to replay."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from prunecvt_passes.budget import Removal
from prunecvt_passes.errors import UsageError
from prunecvt_passes.groups import Groups
from prunecvt_passes.units import DEFAULT_UNITS, AttentionUnit, GroupedUnit, Units

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class PlannedChannels:
    """Output tensor of a producing node of the input model, its width, and what channels stay."""

    tensor: str
    width: int
    kept: tuple[int, ...]


@dataclass(frozen=True)
class PlannedGroup:
    """A group as it was planned; ``reason`` says why it is whole, "" where it is cut."""

    id: int
    members: tuple[str, ...]
    channels_before: int
    channels_after: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """Channels of every producing node, also those left whole, in the order of the graph.

    ``units`` says what was removed as one; it is part of what the groups mean.
    """

    model_sha256: str
    channels: tuple[PlannedChannels, ...]
    groups: tuple[PlannedGroup, ...]
    units: Units = DEFAULT_UNITS

    def to_json(self) -> str:
        """The document; the same plan always gives the same text."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "model_sha256": self.model_sha256,
            "units": asdict(self.units),
            "channels": [
                {"tensor": c.tensor, "width": c.width, "kept": list(c.kept)} for c in self.channels
            ],
            "groups": [
                {
                    "id": g.id,
                    "members": list(g.members),
                    "channels_before": g.channels_before,
                    "channels_after": g.channels_after,
                    "reason": g.reason,
                }
                for g in self.groups
            ],
        }
        return json.dumps(document, indent=1) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the document."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @staticmethod
    def from_json(text: str, where: str = "plan") -> Plan:
        """Reads the document.

        Raises:
            UsageError: E214, it is no plan of this schema.
        """
        try:
            document = json.loads(text)
            return _parsed(document)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                "E214",
                "the plan cannot be read",
                where=f"{where}: {type(error).__name__}: {error}",
                help="a plan is what 'prunecvt plan' writes",
            ) from error


def _parsed(document: dict[str, Any]) -> Plan:
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {document['schema_version']}, not {SCHEMA_VERSION}")
    return Plan(
        str(document["model_sha256"]),
        tuple(
            PlannedChannels(str(c["tensor"]), _index(c["width"]), tuple(map(_index, c["kept"])))
            for c in document["channels"]
        ),
        tuple(
            PlannedGroup(
                int(g["id"]),
                tuple(g["members"]),
                int(g["channels_before"]),
                int(g["channels_after"]),
                str(g.get("reason", "")),
            )
            for g in document.get("groups", ())
        ),
        _units(document.get("units", {})),
    )


def _units(stated: dict[str, Any]) -> Units:
    """What was removed as one; an older plan does not say, and means the defaults."""
    units = Units(**stated)
    if units.attention not in get_args(AttentionUnit) or units.grouped not in get_args(GroupedUnit):
        raise ValueError(f"units are {stated!r}")
    if not isinstance(units.inexact, bool):
        raise ValueError(f"inexact is {units.inexact!r}")
    return units


def _index(value: object) -> int:
    """A channel number: a plain integer of a size that channels can have."""
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{value!r} is no channel number")
    return value


def write_down(groups: Groups, removal: Removal, model_sha256: str) -> Plan:
    """Returns the plan of a removal."""
    channels = []
    for producer in groups.channels.producers:
        kept = np.arange(producer.width)
        if producer.labels is not None:
            kept = np.flatnonzero(~removal.removed[groups.class_of[producer.labels]])
        channels.append(PlannedChannels(producer.tensor, producer.width, tuple(kept.tolist())))
    planned = [
        PlannedGroup(
            group.id,
            group.members,
            group.size,
            int((~removal.removed[group.classes]).sum()),
            removal.reasons.get(group.id, ""),
        )
        for group in groups.groups
    ]
    return Plan(model_sha256, tuple(channels), tuple(planned), groups.channels.units)


def replay(groups: Groups, plan: Plan) -> Removal:
    """Returns the removal that a plan says, for this model.

    Raises:
        UsageError: E215, the plan does not fit: another tensor, another width, or channels that the
            graph ties to ones that stay.
    """
    removed = np.zeros(groups.total, bool)
    planned = {c.tensor: c for c in plan.channels}
    unknown = planned.keys() - {p.tensor for p in groups.channels.producers}
    if unknown:
        raise _misfit(groups, f"the model makes no channels in '{min(unknown)}'")
    for producer in groups.channels.producers:
        wanted = planned.get(producer.tensor)
        if wanted is not None:
            lost = _lost(groups, wanted, producer.width)
            if producer.labels is not None:
                removed[groups.class_of[producer.labels[lost]]] = True
    for producer in groups.channels.producers:
        wanted = planned.get(producer.tensor)
        kept = np.ones(producer.width, bool)
        if producer.labels is not None:
            kept = ~removed[groups.class_of[producer.labels]]
        if wanted is not None and tuple(np.flatnonzero(kept).tolist()) != wanted.kept:
            raise _misfit(
                groups, f"'{wanted.tensor}' cannot lose just these channels: others go along"
            )
    if (removed & (groups.group_of < 0)).any():
        raise _misfit(groups, "it cuts channels that must stay")
    for tensor, axes in groups.channels.axes.items():
        if any(labels is not None and removed[groups.class_of[labels]].all() for labels in axes):
            raise _misfit(groups, f"it leaves nothing of '{tensor}'")
    whole = {
        group.id: next((g.reason for g in plan.groups if g.id == group.id), "")
        or "kept by the plan"
        for group in groups.groups
        if not removed[group.classes].any()
    }
    return Removal(removed, whole)


def _lost(groups: Groups, wanted: PlannedChannels, width: int) -> Any:
    kept = np.array(wanted.kept, np.int64)
    fits = wanted.width == width and kept.size and np.all(np.diff(kept) > 0)
    if not fits or kept[0] < 0 or kept[-1] >= width:
        raise _misfit(groups, f"'{wanted.tensor}' has {width} channels")
    lost = np.ones(width, bool)
    lost[kept] = False
    return lost


def _misfit(groups: Groups, what: str) -> UsageError:
    return UsageError(
        "E215",
        "the plan does not fit the model",
        where=f"{groups.channels.graph.model.source}: {what}",
        help="make a plan for this model with 'prunecvt plan'",
    )
