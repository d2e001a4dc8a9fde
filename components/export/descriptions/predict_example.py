"""Run a model of this package with NumPy and ONNX Runtime only: `python predict_example.py --help`.

    python predict_example.py                                    # zeros, to see that it runs
    python predict_example.py --image image.npy --dsm dsm.npy --out classes.npy

In: `image.npy` `[bands, H, W]`, pixels as image files hold them, and `dsm.npy` `[H, W]`. NaN means "not measured"; a
sensor that is left out is NaN everywhere. What the numbers of the DSM are is in the metadata of the model
(`dsm_values`); this script prints it. Out: the class of every pixel, uint8 `[H, W]`. Everything that the script knows
of the model is in the ONNX file.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent


def facts_of(session: Any) -> dict[str, Any]:
    """The metadata of a model: every value is JSON; those of the file for QGIS are one value."""
    metadata = session.get_modelmeta().custom_metadata_map
    if "mobanet" in metadata:
        found: dict[str, Any] = json.loads(metadata["mobanet"])
        return found
    return {name: json.loads(value) for name, value in metadata.items()}


def classes_of(session: Any, facts: dict[str, Any], image: Any, dsm: Any) -> Any:
    """Class of every pixel of one window, uint8 `[H, W]`; image `[bands, H, W]` and dsm `[1, H, W]`, float32."""
    names = [given.name for given in session.get_inputs()]
    if "channels" in facts:  # the file for QGIS: one input with all bands, divided by 255
        layers = {"image": image, "dsm": dsm}
        used = [name for name in layers if (name == "dsm") in {channel == "dsm" for channel in facts["channels"]}]
        inputs = {names[0]: np.concatenate([layers[name] for name in used])[None] * np.float32(1 / 255)}
    else:
        inputs = {name: {"image": image, "dsm": dsm}[name][None] for name in names}
    answers = dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))
    if "classes" in answers:
        return answers["classes"][0]
    scores = answers.get("logits", answers.get("probabilities"))
    if scores is None:
        raise SystemExit(f"the model gives {', '.join(answers)} only; use a file that gives logits or classes")
    return scores[0].argmax(0).astype(np.uint8)


def predict(session: Any, facts: dict[str, Any], image: Any, dsm: Any) -> Any:
    """Class of every pixel, uint8 `[H, W]`, window by window, side by side; beyond the edges nothing is measured.

    Windows that overlap and are averaged give smoother maps; `mobanet predict` does that.
    """
    side, (height, width) = facts["window_px"], dsm.shape[1:]
    beyond = ((0, 0), (0, -height % side), (0, -width % side))
    image, dsm = (np.pad(layer, beyond, constant_values=np.nan) for layer in (image, dsm))
    classes = np.zeros(dsm.shape[1:], np.uint8)
    for top in range(0, height, side):
        for left in range(0, width, side):
            here = np.s_[..., top : top + side, left : left + side]
            classes[here[1:]] = classes_of(session, facts, image[here], dsm[here])
    return classes[:height, :width]


def array_of(file: str) -> Any:
    """The array in a file, float32."""
    try:
        return np.load(file, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{file}: not a readable .npy file ({error})") from None


def layers_of(facts: dict[str, Any], image_file: str | None, dsm_file: str | None) -> tuple[Any, Any]:
    """Image `[bands, H, W]` and DSM `[1, H, W]`, float32: zeros if no file is given, NaN in place of one of two."""
    bands, side = len(facts["bands"]), facts["window_px"]
    image: Any = None if image_file is None else array_of(image_file)
    dsm: Any = None if dsm_file is None else array_of(dsm_file)
    if image is None and dsm is None:
        return np.zeros((bands, side, side), np.float32), np.zeros((1, side, side), np.float32)
    if image is not None and (image.ndim != 3 or len(image) != bands):
        raise SystemExit(f"{image_file}: an array {list(image.shape)}; expected [{bands}, H, W]: {facts['bands']}")
    if dsm is not None and dsm.ndim != 2:
        raise SystemExit(f"{dsm_file}: an array {list(dsm.shape)}; expected [H, W]")
    if image is not None and dsm is not None and image.shape[1:] != dsm.shape:
        raise SystemExit(f"image {list(image.shape[1:])} and DSM {list(dsm.shape)} differ in size; give both one grid")
    if image is None:
        image = np.full((bands, *dsm.shape), np.nan, np.float32)
    return image, np.full((1, *image.shape[1:]), np.nan, np.float32) if dsm is None else dsm[None]


def main() -> None:
    """Read the command line, predict, print the size of the result and the share of every class."""
    parser = argparse.ArgumentParser(description="Classes of every pixel by a model of this package.")
    parser.add_argument("--model", default=str(HERE / "model.onnx"), help="an .onnx file of the package")
    parser.add_argument("--image", help="image.npy [bands, H, W], pixels as image files hold them")
    parser.add_argument("--dsm", help="dsm.npy [H, W], in what the metadata calls dsm_values")
    parser.add_argument("--out", help="where to write the classes, a .npy file")
    given = parser.parse_args()
    session = onnxruntime.InferenceSession(given.model, providers=["CPUExecutionProvider"])
    facts = facts_of(session)
    print(f"bands {facts['bands']}, values of the DSM: {facts['dsm_values']}", file=sys.stderr)
    classes = predict(session, facts, *layers_of(facts, given.image, given.dsm))
    print(f"classes: {classes.shape[0]} x {classes.shape[1]} px")
    for index, name in enumerate(facts["classes"]):
        print(f"{name}: {100 * float((classes == index).mean()):.2f} %")
    if given.out is not None:
        np.save(given.out, classes)


if __name__ == "__main__":
    main()
