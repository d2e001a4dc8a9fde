"""A random parameter file ends in one sentence, or its training runs a step; no mistake ends in a traceback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.common.errors import MobanetError, ParamsError
from components.common.params import from_mapping, read_yaml
from components.train import step
from model import MoBaNetConfig
from pipeline.form import SECTIONS, require_sections
from tests.pipeline.random_params import TRAINING, random_params


def cheap(train, model, runtime):
    """The same parameters with one small step: sizes that cost time or memory are limited."""
    crop_px = min(train.crop_px, 64)
    validation = replace(
        train.validation,
        stride_px=crop_px,
        batch_size=min(train.validation.batch_size, 4),
        pictures=0,
    )
    train = replace(
        train, steps=1, warmup_steps=0, batch_size=min(train.batch_size, 2), crop_px=crop_px, validation=validation
    )
    patch_size = model.backbone_args.get("patch_size")
    if isinstance(patch_size, int) and 0 < patch_size < 8:  # thousands of tokens
        model = replace(model, backbone_args=model.backbone_args | {"patch_size": 8})
    if model.backbone == MoBaNetConfig().backbone:  # without the key, the paper's ViT-L
        model = replace(model, backbone="test_vit")
    speed = replace(runtime.speed, compile=False, cuda_graphs=False)
    runtime = replace(runtime, workers=min(runtime.workers, 1), tracking="none", speed=speed)
    return train, replace(model, decoder_channels=min(model.decoder_channels, 16)), runtime


def outcome(seed: int, store: Path, folder: Path, train: bool = True) -> str:
    """`refused`, `stopped`, `trained` or, without a training, `read`; only changes of its sections need a training."""
    text, sections = random_params(seed)
    folder.mkdir()
    path = folder / "params.yaml"
    path.write_text(text)
    try:
        document = read_yaml(path)
        require_sections(document, str(path))
    except ParamsError as error:
        assert str(error).startswith(str(path)) and str(error).isprintable() and len(str(error)) < 600
        assert error.exit_code == 2
        return "refused"
    if sections.isdisjoint(TRAINING) or not train:
        return "read"
    read = (from_mapping(SECTIONS[name], document[name], name) for name in ("train", "model", "runtime"))
    try:
        step.run(*cheap(*read), store, folder / "models", folder / "checkpoints")
    except MobanetError as error:
        assert "\n" not in str(error)
        return "stopped"
    return "trained"


def outcomes(seeds, store: Path, folder: Path, every: int = 1) -> list[str]:
    """The outcome of every file; every n-th one that is accepted is trained."""
    torch.set_num_threads(1)
    found, wrong = [], []
    for seed in seeds:
        try:
            found.append(outcome(seed, store, folder / str(seed), seed % every == 0))
        except Exception as error:  # collected, so that one run shows all of them
            wrong.append(f"file {seed} ends in {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)
    return found


def test_a_hundred_random_files_end_in_a_sentence_or_train_a_step(toy_store, tmp_path):
    found = outcomes(range(100), toy_store, tmp_path, every=5)
    assert found.count("refused") > 30 and found.count("trained") > 2


@pytest.mark.system
def test_five_hundred_random_files_end_in_a_sentence_or_train_a_step(toy_store, tmp_path):
    found = outcomes(range(1000, 1500), toy_store, tmp_path)
    assert found.count("refused") > 150 and found.count("trained") > 25
