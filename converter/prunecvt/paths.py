"""Where a run writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prunecvt.errors import UsageError
from prunecvt.loading.load import Loadable
from prunecvt.options import Options
from prunecvt.report.files import RENDERERS
from prunecvt.writing.write import check_targets


@dataclass(frozen=True)
class Paths:
    """Where a run writes; None for what is left out."""

    onnx: Path
    plan: Path | None
    report: Path
    html: Path
    xml: Path | None
    copies: tuple[Path, ...] = ()

    @staticmethod
    def beside(out: Path, options: Options, replayed: Path | None = None) -> Paths:
        """All paths, named after the ONNX file.

        Args:
            out: the ONNX file.
            options: what is written, and where else the report goes.
            replayed: the plan.json that the run reads; where it already lies at its place, it
                stays as it is.

        Raises:
            UsageError: E205 or E206, an output has an ending that it cannot have.
        """
        if out.suffix != ".onnx":
            raise UsageError(
                "E205",
                f"the output '{out}' does not end in .onnx",
                help="name it like out/slim.onnx",
            )
        for copy in options.report:
            if copy.suffix not in RENDERERS:
                raise UsageError(
                    "E206",
                    f"--report {copy} has no known ending",
                    help="use .json, .html or .md",
                )
        plan = out.with_suffix(".plan.json")
        lies_there = replayed is not None and plan.exists() and plan.samefile(replayed)
        return Paths(
            out,
            None if lies_there else plan,
            out.with_suffix(".report.json"),
            out.with_suffix(".report.html"),
            out.with_suffix(".xml") if options.ir else None,
            options.report,
        )

    @property
    def all(self) -> list[Path]:
        """Every file, the ONNX file last."""
        ir = [self.xml.with_suffix(".bin"), self.xml] if self.xml else []
        plan = [self.plan] if self.plan else []
        return [*ir, *plan, *self.reports, self.onnx]

    @property
    def reports(self) -> list[Path]:
        """Every file that the report is written to."""
        return [self.report, self.html, *self.copies]

    def check(self, model: Loadable, options: Options) -> None:
        """Refuses early what could not be written in the end.

        Raises:
            OutputError: E701 to E705.
        """
        inputs = [Path(model)] if isinstance(model, (str, Path)) else []
        check_targets(self.all, inputs=inputs, force=options.force)
