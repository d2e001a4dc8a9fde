"""The door for Kubeflow: registers a package in MLflow; Kubeflow shows the verdict and where the MLflow run is."""

from kfp import dsl

from components.common.task import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    package: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    training: dsl.Input[dsl.Artifact],
    register: str,
    commit: str,
    workspace: str,
    registration: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Make the package a version in MLflow, and the champion if it passes the gates."""
    from pathlib import Path

    from components.common.task import parameters, task
    from components.register.step import RegisterConfig, run
    from components.register.summary import as_markdown

    with task(workspace, commit):
        config = parameters(RegisterConfig, "register", register)
        inputs = (Path(package.path), Path(evaluation.path), Path(training.path))
        result = run(config, *inputs, Path(registration.path))
        Path(summary.path).write_text(as_markdown(result))
