"""Other ways to slide the same network over the same pixels: the released loop, torchgeo's samplers, MONAI's inferer.

In: a network and a raster. Out: a map of classes. torchgeo and MONAI are no dependencies of this project; without them
their way is not measured. Letters: B batch, C bands, K classes, H W pixels of a raster or a window.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from rasterio import Affine
from torch import Tensor
from torch.utils.data import DataLoader

from components.common.inference.modelfile import ModelFacts
from model import MoBaNet
from model.inputs import normalise
from model.speed import fuse_attention
from pipeline.bench.released_recipe import ReferenceNetwork

Classes = npt.NDArray[np.uint8]

RELEASED_STRIDE_PX = 32
"""Step between windows of the released protocol."""


@dataclass(frozen=True, slots=True)
class Raster:
    """Pixels of a raster in memory."""

    image_HWC: npt.NDArray[np.uint8]
    dsm_HW: npt.NDArray[np.float32]  # scaled as in training, NaN = not measured

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.dsm_HW.shape[0], self.dsm_HW.shape[1]


@dataclass(frozen=True, slots=True)
class Sliding:
    """A network, and how it slides over a raster."""

    network: MoBaNet  # on its device, in evaluation mode
    facts: ModelFacts
    device: torch.device
    window_px: int
    stride_px: int
    batch_size: int  # windows per forward pass; the released loop has one

    def inputs(self, image_BHWC: Tensor, dsm_BHW: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised image `[B, C, H, W]` and DSM `[B, 1, H, W]` on the device."""
        image_BCHW, dsm_B1HW = image_BHWC.to(self.device).movedim(-1, 1), dsm_BHW.to(self.device).unsqueeze(1)
        return normalise(image_BCHW, dsm_B1HW, self.facts.image_mean, self.facts.image_std)


def released(sliding: Sliding, raster: Raster) -> Classes:
    """The released loop: one window at a time, one pass of the backbone per stream, plain sums of logits."""
    network = reference(sliding)
    (height, width), side = raster.size, sliding.window_px
    total_KHW = torch.zeros(len(sliding.facts.classes), height, width, device=sliding.device)
    image_HWC, dsm_HW = torch.from_numpy(raster.image_HWC), torch.from_numpy(raster.dsm_HW)
    with torch.inference_mode():
        for top in starts(height, side, sliding.stride_px):
            for left in starts(width, side, sliding.stride_px):
                here = slice(top, top + side), slice(left, left + side)
                inputs = sliding.inputs(image_HWC[None, *here], dsm_HW[None, *here])
                total_KHW[:, *here] += network(*inputs)[0]
        return _classes(total_KHW)


def reference(sliding: Sliding) -> MoBaNet:
    """The network of the released code with the same weights, or the network itself if it has other modules."""
    config = replace(sliding.network.config, missing="zero")  # as released
    if config.modalities != ("rgb", "dsm") or config.cpia != "residual" or not config.dgfm or config.image_bands != 3:
        return sliding.network
    network = ReferenceNetwork(config).to(sliding.device).eval()
    network.load_state_dict(sliding.network.state_dict())
    fuse_attention(network.encoder.backbone, False)
    return network


def starts(size_px: int, window_px: int, stride_px: int) -> list[int]:
    """First pixels of the windows along one side; the last window ends at the edge."""
    last = max(0, size_px - window_px)
    return [*range(0, last, stride_px), last]


def monai(sliding: Sliding, raster: Raster) -> Classes:
    """MONAI's `SlidingWindowInferer` with a Gaussian importance map, over the complete raster in memory."""
    from monai.inferers import SlidingWindowInferer

    def predict(both_BCHW: Tensor) -> Tensor:
        return sliding.network(both_BCHW[:, :-1], both_BCHW[:, -1:])

    inferer = SlidingWindowInferer(
        roi_size=sliding.window_px,
        sw_batch_size=sliding.batch_size,
        overlap=1 - sliding.stride_px / sliding.window_px,
        mode="gaussian",
    )
    with torch.inference_mode():
        inputs = sliding.inputs(torch.from_numpy(raster.image_HWC)[None], torch.from_numpy(raster.dsm_HW)[None])
        (total_KHW,) = inferer(torch.cat(inputs, dim=1), predict)
        return _classes(total_KHW)


def torchgeo(sliding: Sliding, raster: Raster) -> Classes:
    """`GridGeoSampler` of torchgeo over a GeoTIFF, and maps of classes that are pasted next to each other."""
    with tempfile.TemporaryDirectory(prefix="mobanet-bench-") as folder:
        stitched_HW = np.zeros(raster.size, np.uint8)
        for left, top, classes_HW in _chips(sliding, raster, Path(folder)):
            part = stitched_HW[top : top + sliding.window_px, left : left + sliding.window_px]
            part[:] = classes_HW[: part.shape[0], : part.shape[1]]
        return stitched_HW


def _chips(sliding: Sliding, raster: Raster, folder: Path) -> Iterator[tuple[int, int, Classes]]:
    """Column and row of a window, and its classes `[H, W]`."""
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    height, width = raster.size
    bands_CHW = np.concatenate([raster.image_HWC.transpose(2, 0, 1).astype(np.float32), raster.dsm_HW[None]])
    size = {"height": height, "width": width, "count": len(bands_CHW), "dtype": "float32", "tiled": True}
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 0, 0, -1, height)}  # coordinates are pixels
    with rasterio.open(folder / "scene.tif", "w", "GTiff", **size, **place) as file:
        file.write(bands_CHW)
    dataset = RasterDataset(folder)
    sampler = GridGeoSampler(dataset, sliding.window_px, sliding.stride_px)
    loader: Any = DataLoader(dataset, sliding.batch_size, sampler=sampler, collate_fn=stack_samples)
    with torch.inference_mode():
        queries = iter(sampler)
        for batch in loader:
            both_BCHW = batch["image"]
            inputs = sliding.inputs(both_BCHW[:, :-1].movedim(1, -1), both_BCHW[:, -1])
            for logits_KHW in sliding.network(*inputs):
                x, y, *_ = next(queries)
                yield round(x.start), round(height - y.stop), _classes(logits_KHW)


def _classes(scores_KHW: Tensor) -> Classes:
    found: Classes = scores_KHW.max(0).indices.to(torch.uint8).cpu().numpy()
    return found


RELEASED = "released loop"
RIVALS = {RELEASED: released, "MONAI SlidingWindowInferer": monai, "torchgeo GridGeoSampler": torchgeo}
"""Way -> its function."""

PACKAGES = {"MONAI SlidingWindowInferer": "monai", "torchgeo GridGeoSampler": "torchgeo"}


def missing(way: str) -> str | None:
    """The package that a way needs and that is not installed; None: it can run."""
    package = PACKAGES.get(way)
    return package if package and find_spec(package) is None else None
