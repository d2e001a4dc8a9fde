"""Kubeflow component of the graph `watch`."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def watch(
    model: str,
    image: str,
    dsm: str,
    crs: str,
    experiment: str,
    params: str,
    commit: str,
    run: str,
    page: dsl.Output[dsl.HTML],
    figures: dsl.Output[dsl.Metrics],
) -> None:
    """Compare scenes with the validation tiles of a model; fails on drift."""
    form = locals()
    import shutil
    import tempfile
    from pathlib import Path

    from components.common.entrypoints.kubeflow import TAG, PipelineRun, task, write_run
    from components.watch.config import order_of
    from components.watch.watching import PAGE, observe, require_none

    with tempfile.TemporaryDirectory() as workspace:
        write_run(Path(workspace), PipelineRun(run, {TAG: run}))
        with task(workspace, commit) as folder:
            config, request = order_of(form, folder)
            content = observe(config, request, "mlflow", experiment)
            for one in content["statistics"]:
                if one["distance"] is not None:
                    figures.log_metric(f"{one['measure']}_{one['name']}", one["distance"])
            shutil.copyfile(folder / PAGE, page.path)
            require_none(content, "the page of this task")
