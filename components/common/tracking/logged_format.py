"""The format of logged models: the register step writes it, and whoever loads a model checks it.

Format 1 is an ONNX graph with MLflow's own flavor `onnx`, which MLflow loads without this project. Format 2 is a
package that `components.serve.pyfunc_model` loads.
"""

from __future__ import annotations

from components.common.errors import WeightsError

FORMAT = 2
"""Newest format that this release reads, and the format that it writes."""

FORMAT_KEY, RELEASE_KEY = "mobanet_format", "mobanet_release"
"""Keys of the metadata in a model's file `MLmodel`."""

LOADER = "components.serve.pyfunc_model"
"""Module that MLflow imports to load a model of format 2."""


def require_known_format(model: str, written: object, release: object = None) -> None:
    """Refuse a logged model that a newer release wrote.

    Args:
        model: folder or URI, for the message.
        written: its format, a number or its digits.
        release: the release that logged it; None: unknown.

    Raises:
        WeightsError: the format is missing, or newer than this release.
    """
    if not str(written).isdecimal():
        raise WeightsError(f"{model}: states no format of a logged model ({FORMAT_KEY}); register the model again")
    if int(str(written)) > FORMAT:
        remedy = f"mobanet-pipeline {release}, which logged it, or a later release" if release else "a later release"
        raise WeightsError(
            f"{model}: a logged model of format {written}, and this release reads up to {FORMAT}; install {remedy}"
        )
