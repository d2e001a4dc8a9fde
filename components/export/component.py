"""Kubeflow component: package a checkpoint; the output artifact is the package."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(
    store: dsl.Input[dsl.Dataset],
    weights: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    export: str,
    data_md5: str,
    model_sha256: str,
    evaluation_sha256: str,
    commit: str,
    workspace: str,
    package: dsl.Output[dsl.Model],
) -> None:
    """Package the model in every selected format, and compare each with the network."""
    from pathlib import Path

    from components.common.entrypoints.kubeflow import parameters, task
    from components.export.config import ExportConfig
    from components.export.step import run

    with task(workspace, commit) as folder:
        config = parameters(ExportConfig, "export", export)
        result = run(config, Path(weights.path), Path(evaluation.path), folder / "store", Path(package.path))
        package.metadata |= {
            "sha256": result.sha256,
            "package_sha256": result.package_sha256,
            "formats": ", ".join(name for name, entry in result.formats.items() if entry["status"] == "exported"),
        }
