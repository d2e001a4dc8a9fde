"""Sources of weights: what cannot be one is named in one sentence, before it is opened as weights."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.common.errors import ParamsError, WeightsError
from components.common.params import from_mapping
from components.common.yaml_files import read_yaml
from components.train.config import ModelParams
from components.train.weights import weight_files
from components.train.weights.weight_checksums import WeightSources
from components.train.weights.weight_sources import require_file

ROOT = Path(__file__).parents[4]
MODEL = "expected null, a file, models:/NAME@ALIAS or models:/NAME/VERSION"


@pytest.mark.parametrize("section", [ModelParams, WeightSources])
@pytest.mark.parametrize(
    ("weights", "init", "words"),
    [
        ("none", "none", f"model.init is 'none'; {MODEL}"),
        ("hub", "s3://a/b.safetensors", f"model.init is 's3://a/b.safetensors'; {MODEL}"),
        ("models:/a@b", None, "model.weights is 'models:/a@b'; expected none, hub, .*; set model.init to this model"),
    ],
)
def test_a_source_of_the_other_key_is_refused_in_the_parameters(section, weights, init, words):
    shipped = read_yaml(ROOT / "params.yaml")["model"] if section is ModelParams else {}
    with pytest.raises(ParamsError, match=words):
        from_mapping(section, shipped | {"weights": weights, "init": init}, "model")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer .*; run `git lfs pull`"),
        (b"outs:\n- md5: 0\n  path: vit.pth\n", "a DVC pointer .*; run `dvc pull`"),
        (b"<!DOCTYPE html><html>", "a web page instead of the weights; download the file again"),
    ],
)
@pytest.mark.parametrize("name", ["vit.pth", "vit.safetensors"])
def test_a_file_that_stands_for_weights_is_named(tmp_path, content, words, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}: {words}"):
        require_file(tmp_path / name, "model.init")
    with pytest.raises(WeightsError, match=f"{name}: {words}"):
        weight_files.read(str(tmp_path / name))


@pytest.mark.parametrize("name", ["vit.pth", "vit.safetensors"])
def test_a_folder_is_named_as_one(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(WeightsError, match=rf"{name}: a folder; set model\.weights to a file in it"):
        weight_files.read(str(tmp_path / name))


class Command:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("value", "name"), [(Command(), "[a-z]+.system"), (np.ones(2), "numpy._core.multiarray._reconstruct")]
)
def test_a_pickle_with_objects_is_refused_with_their_name_and_without_advice_to_run_it(tmp_path, value, name):
    torch.save({"norm.weight": value}, tmp_path / "vit.pth")
    with pytest.raises(
        WeightsError, match=rf"vit\.pth: a pickle with {name}, which can run code, so it was"
    ) as refused:
        weight_files.read(str(tmp_path / "vit.pth"))
    assert "weights_only" not in str(refused.value) and "\x1b" not in str(refused.value)


@pytest.mark.filterwarnings("ignore")
def test_a_program_and_a_text_are_refused_without_the_advice_of_torch(tmp_path):
    torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / "vit.pth"))
    with pytest.raises(
        WeightsError, match=r"vit\.pth: a TorchScript program, which contains code, so it was not loaded"
    ):
        weight_files.read(str(tmp_path / "vit.pth"))
    (tmp_path / "vit.pth").write_text("import torch")
    with pytest.raises(
        WeightsError, match=r"vit\.pth: damaged or not a plain weight file \(no pickle of torch\.save\)"
    ):
        weight_files.read(str(tmp_path / "vit.pth"))


class Bomb:
    def __reduce__(self):
        return bytearray, (2**40,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_makes_a_huge_object_is_refused_before_it_is_opened(tmp_path, zipped):
    path = tmp_path / "vit.pth"
    torch.save({"more": Bomb()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"vit\.pth: contains a bytearray, which no network has; set model\.weights"):
        weight_files.read(str(path))


def test_a_file_with_a_compressed_pickle_is_refused_before_it_is_opened(tmp_path):
    torch.save({"more": Bomb()}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as old, zipfile.ZipFile(tmp_path / "vit.pth", "w", 8) as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
    with pytest.raises(WeightsError, match=r"vit\.pth: whole/data\.pkl is compressed; set model\.weights"):
        weight_files.read(str(tmp_path / "vit.pth"))
