"""The door for Kubeflow: makes the store on the workspace; gives its manifest and data version on."""

from kfp import dsl

from components.common.task import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    raw: dsl.Input[dsl.Dataset],
    data: str,
    preprocess: str,
    data_md5: str,
    commit: str,
    workspace: str,
    store: dsl.Output[dsl.Dataset],
) -> str:
    """Make the store that training reads, resuming where it was interrupted."""
    from components.common.datasets import DataConfig
    from components.common.task import hand_over, parameters, require_version, task
    from components.preprocess.step import PreprocessConfig, run

    with task(workspace, commit) as folder:
        config, split = (
            parameters(PreprocessConfig, "preprocess", preprocess),
            parameters(DataConfig, "data", data).split,
        )
        result = run(config, split, folder / "raw", folder / "store")
        require_version(result.data_md5, data_md5)
        hand_over(folder / "store", {"manifest.json": store.path})
        store.metadata |= {"data_md5": result.data_md5, "split": split, "tiles": len(result.manifest.tiles)}
        return result.data_md5
