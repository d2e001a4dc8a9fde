"""How much a training computes: passes of crops through a stream of the backbone, forward and backward.

In: the sections `train` and `model` of a job. Out: a count that depends on no machine, so that recipes can be compared
at equal computation. A crop with both sensors passes through two streams. A copy with one sensor passes through one
stream, or through both where the absent sensor is 0. The decoder (once per crop and per copy) and validation are not
counted.
"""

from __future__ import annotations

from components.train.config import ModelParams, TrainConfig


def passes(train: TrainConfig, model: ModelParams) -> int:
    """Passes of crops through a stream of the backbone, in the complete training."""
    streams = len(model.modalities)
    of_crops = train.batch_size * streams
    if streams == 1:
        return train.steps * of_crops
    of_copies = 2 * train.masking.copies(train.batch_size) * (1 if model.missing == "excluded" else streams)
    return round(train.steps * (of_crops + of_copies * mean_share(*train.masking.schedule)))


def mean_share(start: float, rise: float) -> float:
    """Mean of a scheduled share over the training, in shares of its full value, 0..1.

    Args:
        start: part of the training before the share begins, 0..1.
        rise: part of the training in which it grows linearly to its full value, 0..1.
    """
    growing = min(rise, 1 - start)
    return (growing**2 / (2 * rise) if rise else 0.0) + (1 - start - growing)
