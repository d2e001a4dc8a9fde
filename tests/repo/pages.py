"""Shell commands of README.md and the pages in docs/: every command of a fenced sh or bash block, and what it needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from components.check.findings import CODES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(?:<!-- needs: (?P<needs>[\w ,]+) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
COMMENT = re.compile(r"(^|\s+)# .*$", re.M)


@dataclass(frozen=True)
class Command:
    """One command of a page."""

    page: str  # below the project folder
    text: str  # on one line, without its comment
    needs: str  # what its block is marked to need: cluster, GPU, network; empty: nothing

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def commands_in(text: str, page: str = "") -> list[Command]:
    """The shell commands of a page, in its order."""
    found = []
    for block in FENCE.finditer(text):
        if block["language"] in ("sh", "bash", "console", "shell"):
            lines = COMMENT.sub("", block["body"].replace("\\\n", " ")).splitlines()
            found += [Command(page, " ".join(line.split()), block["needs"] or "") for line in lines if line.strip()]
    return found


def commands() -> list[Command]:
    """The shell commands of all pages."""
    return [c for page in PAGES for c in commands_in(page.read_text(), str(page.relative_to(ROOT)))]


RUN_BY_PAGE = (
    *(
        "make help",
        "make setup",
        "make docs",
        "source .venv/bin/activate",
        "mobanet --help",
        "python -m components.evaluate --help",
        "dvc dag",
        "rio info",
    ),
    *(
        "mobanet data import",
        "mobanet data check",
        "mobanet model info",
        "mobanet model list",
        "mobanet pipeline compile",
    ),
    *("mobanet pipeline run --runner subprocess --dry-run", "mobanet ablate width", "mobanet ablate masking --dry-run"),
)
"""Beginnings of the commands that tests/e2e/test_docs_commands.py runs in seconds, page by page."""

RUN_AFTER_TRAINING = (
    "make repro",
    "make baselines",
    "dvc repro",
    "python -m components.evaluate",
    "mlflow ui",
    "mobanet predict",
)
"""Beginnings of the commands that it runs in a project with a registered model."""

WORD_FOR_WORD = {
    "docs/your_own_data.md": "tests/e2e/test_your_own_data.py",
    "docs/registry.md": "tests/e2e/test_docs_commands.py",
    "docs/data_versions.md": "tests/e2e/test_docs_commands.py",
    "docs/signing.md": "tests/pipeline/commands/test_package.py",
    "docs/import.md": "tests/e2e/test_released_model.py",
}
"""Pages whose commands a test runs in the order of the page."""

ELSEWHERE = {
    "make check": ".ci/run",
    "make test": ".ci/run",
    "make image": ".ci/containers",
    "make release": "tests/pipeline/test_release.py",
    "git tag": "tests/pipeline/test_release.py",
    "mobanet ablate": "tests/pipeline/commands/test_ablate.py",
    "mobanet params": "tests/pipeline/commands/test_params.py",
    "export MLFLOW_TRACKING_URI": "tests/e2e/test_sweep.py",
    "git add dvc.lock reports": "tests/e2e/test_sweep.py",
    "dvc exp run --queue": "tests/e2e/test_sweep.py",
    "dvc exp run --run-all": "tests/e2e/test_sweep.py",
    "dvc exp show": "tests/e2e/test_sweep.py",
    "mobanet bench data": "tests/pipeline/test_bench_data.py",
    "mobanet bench preprocess": "tests/pipeline/bench/test_preprocess.py",
    "mobanet bench evaluate": "tests/pipeline/bench/test_evaluate_bench.py",
    "mobanet bench predict": "tests/pipeline/bench/test_predict_bench.py",
    "mobanet bench train --checkpoints": "tests/pipeline/bench/test_checkpoints.py",
    "mobanet bench serve": "tests/pipeline/bench/test_serving.py",
    "mobanet bench export": "tests/pipeline/bench/test_export_bench.py",
    "mobanet serve": "tests/e2e/test_service.py",
    "mobanet package": "tests/pipeline/commands/test_package.py",
    "mobanet watch": "tests/components/watch/test_sample.py",
    "make services": "tests/e2e/test_make_services.py",
    "mobanet bench curves": "tests/pipeline/bench/test_curves.py",
    "mobanet bench train": "tests/pipeline/bench/test_train.py",
    "mobanet pipeline run --runner subprocess": "tests/pipeline/test_subprocess_run.py",
    "mobanet pipeline run --runner docker": "tests/e2e/test_containers.py",
    "mobanet pipeline run predict --runner subprocess": "tests/e2e/test_prediction_graph.py",
    "mobanet pipeline run predict --runner docker": "tests/e2e/test_prediction_graph.py",
}
"""Beginning of a command -> the test or CI script that runs it, which contains every word of it."""


def findings_table() -> str:
    """The table of docs/findings.md, from the codes of the check."""
    head = "| code | severity | finding | remedy |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{name}` | {code.severity}{' *' * code.acceptable} | {code.about} | {code.remedy} |\n"
        for name, code in CODES.items()
    )


def write_findings() -> None:
    """Write the table of findings into its page."""
    page = ROOT / "docs/findings.md"
    text = page.read_text()
    page.write_text(text[: text.index("| code |")] + findings_table())


if __name__ == "__main__":
    write_findings()
