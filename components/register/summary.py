"""The result as Markdown, for the run's page in Kubeflow."""

from __future__ import annotations

from components.common.tracking import server
from components.register.step import HEADS, RegisterResult, gate_rows


def as_markdown(result: RegisterResult) -> str:
    """The outcome, a table of the gates, and the training's MLflow run, as a link if the store has a web page."""
    rows = gate_rows(result.gates, failed="**failed**")
    table = ["| " + " | ".join(row) + " |" for row in (HEADS, ("---",) * len(HEADS), *rows)] if rows else []
    return "\n".join(
        [f"## {result.model_name}", "", f"{result.outcome}.", "", *table, "", f"MLflow run: {_run(result)}", ""]
    )


def _run(result: RegisterResult) -> str:
    if result.run_id is None:
        return "none"
    page = server.run_page(result.run_id)
    return f"[{result.run_id}]({page})" if page else f"`{result.run_id}` in `{server.address()}`"
