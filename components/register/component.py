"""Kubeflow component: registers a package in MLflow or promotes it, and shows the gates and the MLflow run."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    package: dsl.Input[dsl.Model],
    training: dsl.Input[dsl.Artifact],
    register: str,
    trust: str,
    promote: bool,
    commit: str,
    workspace: str,
    registration: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> bool:
    """Register the package in MLflow as the challenger; with `promote`, as the champion if it passes the gates.

    Returns whether promotion is requested and every gate is passed. This is the condition of a second task of this
    component, which checks the gates again, because the champion can have changed in the meantime.
    """
    from dataclasses import replace
    from pathlib import Path

    from components.common.entrypoints.kubeflow import parameters, task
    from components.common.trust.config import TrustConfig
    from components.register.config import RegisterConfig
    from components.register.step import run
    from components.register.summary import as_markdown

    with task(workspace, commit):
        config = parameters(RegisterConfig, "register", register)
        paths = (Path(package.path), Path(training.path), Path(registration.path))
        trusted = parameters(TrustConfig, "trust", trust)
        result = run(replace(config, promote=promote and config.promote), *paths, trusted)
        Path(summary.path).write_text(as_markdown(result))
        return config.promote and result.may_be_promoted
