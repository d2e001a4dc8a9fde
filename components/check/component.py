"""The entry point for Kubeflow: checks the raw tiles of the workspace and divides them into shards for preprocess."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check(
    raw: dsl.Input[dsl.Dataset],
    data: str,
    check: str,
    preprocess: str,
    commit: str,
    workspace: str,
    shards: int,
    report: dsl.Output[dsl.Artifact],
    findings: dsl.Output[dsl.Metrics],
) -> list[str]:
    """Read every raw tile and stop at errors; returns the tiles in shards, as ids separated by blanks."""
    import json
    from pathlib import Path

    from components.check.config import CheckConfig
    from components.check.step import run
    from components.common.data.config import DataConfig
    from components.common.data.datasets import split
    from components.common.entrypoints.kubeflow import parameters, task
    from components.common.readers.tiles import reader_settings

    with task(workspace, commit) as folder:
        config, limits = parameters(DataConfig, "data", data), parameters(CheckConfig, "check", check)
        settings = reader_settings({"check": json.loads(check), "preprocess": json.loads(preprocess)})
        result = run(config, limits, settings, folder / "raw", Path(report.path))
        for severity, count in result.report.counts.items():
            findings.log_metric(severity, count)
        tiles = split(config.dataset, config.split).tiles
        return [" ".join(tiles[first::shards]) for first in range(min(shards, len(tiles)))]
