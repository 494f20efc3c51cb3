"""Samples that a Python callable or iterable yields, read once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from prunecvt.errors import UsageError
from prunecvt.loading.refusal import one_line
from prunecvt_passes.model import Array, Model
from prunecvt_passes.samples import dimensions, graph_inputs


class Stream:
    """What an iterable yields, kept as far as it was read, so that it can be read again.

    An element is one sample (an array without the batch axis, or a dictionary of such, one per
    input) or a batch (with that axis).
    """

    def __init__(self, source: Iterable[Any] | Callable[[], Any]) -> None:
        self._source = source
        self._rest: Iterator[Any] | None = None
        self._found: list[Any] = []

    def arrays(self, model: Model, count: int) -> dict[str, Array]:
        """The first ``count`` samples, stacked: input -> [samples, ...].

        Raises:
            UsageError: E230, the source fails; E231, an element lacks an input; E232, elements
                are not as the model takes them.
        """
        inputs = graph_inputs(model)
        parts: dict[str, list[Array]] = {value.name: [] for value in inputs}
        total, place = 0, 0
        while total < count and self._read(place + 1):
            rows = [_rows(value, self._found[place], len(inputs) == 1) for value in inputs]
            for value, row in zip(inputs, rows, strict=True):
                parts[value.name].append(row)
            total += len(rows[0]) if rows else count
            place += 1
        if not total:
            raise UsageError("E230", "the source of the data yields nothing", help="yield samples")
        try:
            return {name: np.concatenate(found) for name, found in parts.items()}
        except ValueError as error:
            raise UsageError(
                "E232",
                "the calibration source yields samples of different shapes",
                where=one_line(str(error))[:200],
                help="resize them to one size",
            ) from error

    def _read(self, count: int) -> bool:
        """Reads on until ``count`` elements are kept; False where the source ends before."""
        try:
            if self._rest is None:
                made = self._source() if callable(self._source) else self._source
                self._rest = iter([made] if isinstance(made, (Mapping, np.ndarray)) else made)
            while len(self._found) < count:
                self._found.append(next(self._rest))
        except StopIteration:
            return False
        except Exception as error:  # the user's own code: whatever it raises
            raise UsageError(
                "E230",
                "the source of the data failed",
                where=one_line(f"{type(error).__name__}: {error}")[:200],
                help="run it alone: it has to yield arrays, or dictionaries of arrays",
            ) from error
        return True


def _rows(value: onnx.ValueInfoProto, element: Any, alone: bool) -> Array:
    """One input's part of an element, with a batch axis."""
    if isinstance(element, Mapping):
        if value.name not in element:
            raise UsageError(
                "E231",
                f"the data has nothing for input '{value.name}'",
                where=f"an element has {', '.join(sorted(map(str, element))) or 'nothing'}",
                help="yield dictionaries with one array per input",
            )
        element = element[value.name]
    elif isinstance(element, (tuple, list)) or not alone:
        raise UsageError(
            "E232",
            f"the calibration source yields a {type(element).__name__}",
            help="yield an array, or a dictionary of arrays by input; labels are not read here",
        )
    array = np.asarray(element)
    rank = len(dimensions(value) or ())
    if array.ndim not in (rank, rank - 1):
        raise UsageError(
            "E232",
            f"the calibration source yields shape {list(array.shape)} for '{value.name}'",
            where=f"the model takes rank {rank}",
            help="yield one sample without the batch axis, or a batch",
        )
    return array if array.ndim == rank else array[None]
