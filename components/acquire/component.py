"""Kubeflow entry point: brings the raw tiles to the workspace; the artifact is their `dataset.json`."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def acquire(data: str, sample: str, commit: str, workspace: str, raw: dsl.Output[dsl.Dataset]) -> str:
    """Bring the raw tiles of one source to the workspace."""
    from components.acquire.step import SampleConfig, run
    from components.common.data.config import DataConfig
    from components.common.entrypoints.kubeflow import hand_over, parameters, task
    from components.common.files import digest

    with task(workspace, commit) as folder:
        config, city = parameters(DataConfig, "data", data), parameters(SampleConfig, "sample", sample)
        tree = run(config, city, folder / "raw")
        hand_over(folder / "raw", {"dataset.json": raw.path})
        raw.metadata |= {"dataset": tree.dataset.name, "source": tree.source, "tiles": len(tree.tiles)}
        return digest(folder / "raw/dataset.json", "md5")
