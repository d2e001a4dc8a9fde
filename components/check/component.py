"""The door for Kubeflow: checks the raw tiles of the workspace; the artifact is the report."""

from kfp import dsl

from components.common.task import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check(
    raw: dsl.Input[dsl.Dataset],
    data: str,
    check: str,
    commit: str,
    workspace: str,
    report: dsl.Output[dsl.Artifact],
    findings: dsl.Output[dsl.Metrics],
) -> None:
    """Open every raw tile, look for every known trap, stop on errors."""
    from pathlib import Path

    from components.check.config import CheckConfig
    from components.check.step import run
    from components.common.datasets import DataConfig
    from components.common.task import parameters, task

    with task(workspace, commit) as folder:
        config, limits = parameters(DataConfig, "data", data), parameters(CheckConfig, "check", check)
        for severity, count in run(config, limits, folder / "raw", Path(report.path)).report.counts.items():
            findings.log_metric(severity, count)
