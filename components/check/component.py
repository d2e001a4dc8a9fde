"""The door for Kubeflow: checks the raw tiles of the workspace, and says in which shards preprocess takes them."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check(
    raw: dsl.Input[dsl.Dataset],
    data: str,
    check: str,
    commit: str,
    workspace: str,
    shards: int,
    report: dsl.Output[dsl.Artifact],
    findings: dsl.Output[dsl.Metrics],
) -> list[str]:
    """Open every raw tile, look for every known trap, stop on errors; returns the tiles in shards, ids with blanks."""
    from pathlib import Path

    from components.check.config import CheckConfig
    from components.check.step import run
    from components.common.data.config import DataConfig
    from components.common.data.datasets import split
    from components.common.entrypoints.kubeflow import parameters, task

    with task(workspace, commit) as folder:
        config, limits = parameters(DataConfig, "data", data), parameters(CheckConfig, "check", check)
        for severity, count in run(config, limits, folder / "raw", Path(report.path)).report.counts.items():
            findings.log_metric(severity, count)
        tiles = split(config.dataset, config.split).tiles
        return [" ".join(tiles[first::shards]) for first in range(min(shards, len(tiles)))]
