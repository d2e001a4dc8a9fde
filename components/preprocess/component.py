"""Entry points for Kubeflow: one makes some tiles of the store next to other tasks, one completes the store."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess_shard(shard: str, data: str, check: str, preprocess: str, commit: str, workspace: str) -> str:
    """Make the tiles of one shard, resuming where it was interrupted; returns their ids."""
    import json

    from components.common.data.config import DataConfig
    from components.common.entrypoints.kubeflow import parameters, task
    from components.common.readers.tiles import reader_settings
    from components.preprocess.step import PreprocessConfig, run_shard

    with task(workspace, commit) as folder:
        config = parameters(PreprocessConfig, "preprocess", preprocess)
        split = parameters(DataConfig, "data", data).split
        settings = reader_settings({"check": json.loads(check), "preprocess": json.loads(preprocess)})
        run_shard(config, split, folder / "raw", folder / "store", shard.split(), settings.accept)
        return shard


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    raw: dsl.Input[dsl.Dataset],
    shards: list[str],
    data: str,
    check: str,
    preprocess: str,
    data_md5: str,
    commit: str,
    workspace: str,
    store: dsl.Output[dsl.Dataset],
) -> str:
    """Make the store that training reads of the tiles that the shards have finished; returns the data version."""
    import json

    from components.common.data.config import DataConfig
    from components.common.entrypoints.kubeflow import hand_over, parameters, require_version, task
    from components.common.readers.tiles import reader_settings
    from components.preprocess.step import PreprocessConfig, run

    with task(workspace, commit) as folder:
        config = parameters(PreprocessConfig, "preprocess", preprocess)
        split = parameters(DataConfig, "data", data).split
        settings = reader_settings({"check": json.loads(check), "preprocess": json.loads(preprocess)})
        result = run(config, split, folder / "raw", folder / "store", settings.accept)
        require_version(result.data_md5, data_md5)
        hand_over(folder / "store", {"manifest.json": store.path})
        store.metadata |= {"data_md5": result.data_md5, "split": split, "tiles": len(result.manifest.tiles)}
        return result.data_md5
