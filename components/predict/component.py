"""Kubeflow components: `predict` maps raw tiles in the training graph; the others are the prediction graph."""

from kfp import dsl

from components.common.entrypoints.kubeflow import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(
    raw: dsl.Input[dsl.Dataset],
    package: dsl.Input[dsl.Model],
    data: str,
    predict: str,
    trust: str,
    commit: str,
    workspace: str,
    map: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
) -> None:
    """Map the test tiles, or other raw tiles, as one raster."""
    from pathlib import Path

    from components.common.data.config import DataConfig
    from components.common.entrypoints.kubeflow import hand_over, parameters, task
    from components.common.trust.config import TrustConfig
    from components.predict.config import PredictConfig
    from components.predict.publication.page import write_page
    from components.predict.step import run
    from components.predict.tile_request import request_for

    with task(workspace, commit) as folder:
        config, split = parameters(PredictConfig, "predict", predict), parameters(DataConfig, "data", data).split
        if config.tiles == ():
            return
        request = request_for(folder / "raw", split, config.tiles, Path(package.path), folder / "maps")
        run(config, request, parameters(TrustConfig, "trust", trust))
        hand_over(folder / "maps", {request.output.name: map.path})
        write_page(Path(page.path), request.output, request.output.with_suffix(".json"), request.image, request.dsm)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan(
    model: str,
    image: str,
    dsm: str,
    output: str,
    parts: int,
    extras: str,
    allow: str,
    acquired: str,
    params: str,
    trust: str,
    commit: str,
    workspace: str,
) -> list[str]:
    """Find the scenes, and open every file, the model and the bucket; returns the parts, as `SCENE I/N`."""
    form = locals()
    from components.common.entrypoints.kubeflow import task
    from components.predict.publication.scene_tasks import order_of, plan

    with task(workspace, commit) as folder:
        return plan(order_of(form), folder)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict_part(part: str, commit: str, workspace: str) -> str:
    """Map one part of a scene on the workspace, continuing where it was interrupted; returns the part."""
    from components.common.entrypoints.kubeflow import task
    from components.predict.publication.scene_tasks import map_part

    with task(workspace, commit) as folder:
        map_part(part, folder)
        return part


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gather(parts: list[str], commit: str, workspace: str) -> list[str]:
    """Check that every part is mapped; returns the names of the scenes."""
    from components.common.entrypoints.kubeflow import task
    from components.predict.publication.scene_tasks import finished

    with task(workspace, commit) as folder:
        return finished(parts, folder)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish(scene: str, commit: str, workspace: str, item: dsl.Output[dsl.Artifact], page: dsl.Output[dsl.HTML]) -> str:
    """Combine the parts of a scene, describe the map, and copy everything to the output; returns the map's place."""
    from components.common.entrypoints.kubeflow import hand_over, task
    from components.predict.publication.publishing import publish_scene

    with task(workspace, commit) as folder:
        published = publish_scene(scene, folder)
        hand_over(published.folder, {published.item: item.path, published.page: page.path})
        item.metadata |= {"map": published.place}
        return published.place
