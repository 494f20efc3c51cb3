"""The report as the text of a file, by the file's ending."""

from __future__ import annotations

import json
from collections.abc import Callable

from prunecvt.report.html import render_html
from prunecvt.report.markdown import render_markdown
from prunecvt.report.schema import Report


def report_json(report: Report) -> str:
    """The report as text: keys sorted."""
    return json.dumps(report.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


RENDERERS: dict[str, Callable[[Report], str]] = {
    ".json": report_json,
    ".html": render_html,
    ".md": render_markdown,
}
