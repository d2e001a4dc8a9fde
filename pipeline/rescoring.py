"""Score a registered model on the current raw tiles, and register it again with the new scores.

The model gets inputs made by its own facts: its bands, pixel range and heights. So its scores do not depend on the
current section `preprocess`, and they are comparable with those of a model that was trained on the same raw tiles.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.rawtree import RawTree, read_raw_tree
from components.common.errors import DataError
from components.common.inference.modelfile import ModelFacts, load_model
from components.common.params import section
from components.common.predictors.trusted_model import require_trusted
from components.common.readers.tiles import ReaderSettings, reader_settings
from components.common.tracking.packages import MODEL_FILE
from components.common.tracking.registered_models import fetch
from components.common.trust.config import TrustConfig
from components.common.yaml_files import read_yaml
from components.evaluate import step as evaluate
from components.evaluate.config import EvaluateConfig
from components.evaluate.outputs import RECORD
from components.export import step as export
from components.export.config import ExportConfig
from components.predict.inputs.suitability import MOST_TIMES
from components.preprocess import step as preprocess

log = logging.getLogger(__name__)

HEIGHTS = {"datum": "absolute heights", "ground": "heights above the ground"}


@dataclass(frozen=True, slots=True)
class Settings:
    """The sections of params.yaml that rescoring needs."""

    split: str
    reading: ReaderSettings
    preprocess: preprocess.PreprocessConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    trust: TrustConfig

    @classmethod
    def of(cls, params: Path) -> Settings:
        """Read a params file.

        Raises:
            ParamsError: a section is missing or wrong.
        """
        return cls(
            section(params, "data", DataConfig).split,
            reader_settings(read_yaml(params)),
            section(params, "preprocess", preprocess.PreprocessConfig),
            section(params, "evaluate", EvaluateConfig),
            section(params, "export", ExportConfig),
            section(params, "trust", TrustConfig),
        )


def rescore(uri: str, raw: Path, settings: Settings, package: Path) -> ModelFacts:
    """Make a package of a registered model's weights with new scores.

    Args:
        uri: `models:/NAME/VERSION`.
        raw: folder of the acquire step.
        settings: sections of params.yaml.
        package: folder to write.

    Returns:
        The facts of the model.

    Raises:
        DataError: the raw tiles cannot give the inputs of this model.
        TrackingError: the weights cannot be downloaded.
        TrustError: the signature of the version is wrong, or missing although it is required.
        MobanetError: preprocess, evaluate or export fails.
    """
    tree = read_raw_tree(raw)
    with tempfile.TemporaryDirectory(prefix=".rescore-", dir=raw.resolve().parent) as name:
        folder = Path(name)
        weights, _ = fetch(uri, MODEL_FILE, folder, "the version")
        if settings.trust.public_key is not None:  # the new package may be signed, so its weights must have been
            require_trusted(uri, weights, uri, settings.trust)
        _, facts = load_model(weights)
        split = datasets.split(tree.dataset.name, settings.split)
        tiles, store = as_trained(tree, facts, uri), folder / "store"
        log.info("rescore: making the inputs of %s from %s", uri, raw)
        preprocess.make_store(settings.preprocess, split, tiles, store, settings.reading.accept, facts.heights)
        evaluate.run(settings.evaluate, store, weights, folder / "reports", tracked=False)
        export.run(settings.export, weights, folder / "reports" / RECORD, store, package)
    return facts


def as_trained(tree: RawTree, facts: ModelFacts, model: str) -> RawTree:
    """The raw tiles, described so that preprocess makes the image inputs of a model.

    Args:
        tree: the raw tiles.
        facts: facts of the model.
        model: URI of the model, for messages.

    Raises:
        DataError: the tiles have other classes, lack a band, have heights of another kind, or pixels of another size.
    """
    dataset, image = tree.dataset, tree.dataset.image
    classes = tuple(c.name for c in dataset.classes)
    if classes != facts.classes:
        raise DataError(
            f"{tree.folder}: the classes are {', '.join(classes)}, but {model} has {', '.join(facts.classes)}; rescore "
            "it on the data set that it was trained on"
        )
    lacking = [band for band in facts.bands if band not in image.bands]
    if lacking:
        raise DataError(
            f"{tree.folder}: the images have no band {lacking[0]}, which {model} needs; import the image variant with "
            f"{', '.join(facts.bands)} (data.image)"
        )
    if "dsm" in facts.network.modalities and facts.heights.relative_to != dataset.dsm.relative_to:
        given, needed = HEIGHTS[dataset.dsm.relative_to], HEIGHTS[facts.heights.relative_to]
        raise DataError(
            f"{tree.folder}: the DSM has {given}, but {model} needs {needed}; import another DSM variant (data.dsm)"
        )
    if not 1 / MOST_TIMES <= dataset.gsd_m / facts.gsd_m <= MOST_TIMES:
        raise DataError(
            f"{tree.folder}: a pixel is {dataset.gsd_m:g} m wide on the ground, but {model} was trained with "
            f"{facts.gsd_m:g} m; import tiles of about {facts.gsd_m:g} m"
        )
    numbers = image.band_numbers
    if facts.bands != image.bands:
        numbers = tuple((numbers or range(1, len(image.bands) + 1))[image.bands.index(band)] for band in facts.bands)
    image = replace(
        image,
        bands=facts.bands,
        band_numbers=numbers,
        range=facts.image_range,
        mean=facts.image_mean,
        std=facts.image_std,
    )
    return replace(tree, dataset=replace(dataset, image=image))
