"""A verdict as Markdown, for the page that Kubeflow shows of a run."""

from __future__ import annotations

from components.common.tracking import store as tracking_store
from components.register.step import RegisterResult

HEADS = ("gate", "candidate", "champion", "must be", "")


def as_markdown(result: RegisterResult) -> str:
    """The outcome, the gates as a table, and the MLflow run of the training: a link where the store has a web page."""
    rows = [(g.name, g.candidate, g.champion, g.limit, "ok" if g.passed else "**failed**") for g in result.gates]
    table = ["| " + " | ".join(row) + " |" for row in (HEADS, ("---",) * len(HEADS), *rows)] if rows else []
    return "\n".join(
        [f"## {result.model_name}", "", f"{result.outcome}.", "", *table, "", f"MLflow run: {_run(result)}", ""]
    )


def _run(result: RegisterResult) -> str:
    if result.run_id is None:
        return "none"
    page = tracking_store.run_page(result.run_id)
    return f"[{result.run_id}]({page})" if page else f"`{result.run_id}` in `{tracking_store.address()}`"
