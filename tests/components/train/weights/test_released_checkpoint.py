"""Checkpoints of the released code: whole, wrapped, incomplete, and hostile."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.common.errors import WeightsError
from components.common.files import digest
from components.train.weights.released_checkpoint import load_released

FIXTURE = Path(__file__).parents[3] / "fixtures/reference_native.safetensors"
SIZES = {"heads": 4, "taps": (1, 3, 5, 7)}
BIAS = "image_encoder.backbone.norm.bias"


@pytest.fixture(scope="module")
def fixture():
    return load_file(FIXTURE)


@pytest.fixture
def weights(fixture):
    return {name[8:]: tensor for name, tensor in fixture.items() if name.startswith("weights/")}


@pytest.fixture
def saved(tmp_path):
    """Save content as a checkpoint."""

    def save(content, **options):
        torch.save(content, tmp_path / "reference.pth", **options)
        return tmp_path / "reference.pth"

    return save


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fixture):
    """Bytes of an intact checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "reference.pth"
    torch.save({name[8:]: tensor for name, tensor in fixture.items() if name.startswith("weights/")}, path)
    return path.read_bytes()


def refusal(path, **sizes):
    with pytest.raises(WeightsError) as raised:
        load_released(path, **SIZES | sizes)
    sentence = str(raised.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence and ";" in sentence
    return sentence.removeprefix(f"{path}: ")


def test_the_logits_are_those_of_the_released_network(saved, weights, fixture):
    path = saved(weights)
    released = load_released(path, **SIZES)
    with torch.inference_mode():
        logits = released.network(fixture["input/rgb"], fixture["input/dsm"][:, None])
    torch.testing.assert_close(logits, fixture["output/logits"], atol=2e-5, rtol=0)
    assert released.sha256 == digest(path)
    assert released.notes == ("4 attention heads (given)", "taps 1,3,5,7 (given)")
    assert released.network.config.missing == "zero" and released.network.config.batch_norm == "shared"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"epoch": 3, "model": {f"module.{name}": t for name, t in w.items()}, "optimizer": {"state": {}}},
        lambda w: {"state_dict": {f"model.{name}": t for name, t in w.items()}},
        lambda w: {f"_orig_mod.module.{name}": t for name, t in w.items()},
        lambda w: {name: t.double() if t.is_floating_point() else t for name, t in w.items()},
        lambda w: {name: torch.nn.Parameter(t, t.is_floating_point()) for name, t in w.items()},
    ],
    ids=["loop", "lightning", "wrappers", "float64", "parameters"],
)
def test_what_a_training_loop_puts_around_the_weights_is_removed(saved, weights, wrap):
    found = load_released(saved(wrap(weights)), **SIZES).network.state_dict()
    head = weights["decoder.classifier.1.0.weight"]
    assert torch.equal(found["decoder.classifier.1.weight"], head) and head.dtype == torch.float32


def test_safetensors_give_the_same_network(saved, weights, tmp_path):
    save_file(weights, tmp_path / "reference.safetensors")
    ours, theirs = (load_released(p, **SIZES).network for p in (saved(weights), tmp_path / "reference.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_heads_and_taps_of_an_unknown_size_are_asked_for(saved, weights):
    path = saved(weights)
    assert refusal(path, heads=None, taps=None).endswith(
        "the width 64 and 8 blocks, which no published DINOv2 has, so --heads and --taps cannot be inferred; add "
        "--heads and --taps"
    )
    assert refusal(path, taps=None).endswith("; add --taps")


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"heads": 5}, "--heads is 5; expected a divisor of the backbone's width, 64"),
        ({"heads": 0}, "--heads is 0; expected a divisor of the backbone's width, 64"),
        ({"taps": (1, 3, 5)}, "--taps is 1,3,5; expected four increasing block numbers"),
        ({"taps": (3, 1, 5, 7)}, "--taps is 3,1,5,7; expected four increasing block numbers"),
        ({"taps": (1, 3, 5, 8)}, "--taps is 1,3,5,8; the backbone has the blocks 0 to 7"),
    ],
)
def test_impossible_heads_and_taps_are_refused(saved, weights, sizes, problem):
    assert refusal(saved(weights), **sizes) == problem


CHANGES = {
    "also contains surprise": lambda w: w | {"surprise": torch.zeros(2)},
    f"lacks {BIAS}": lambda w: {name: t for name, t in w.items() if name != BIAS},
    f"has other shapes: {BIAS} [65] instead of [64]": lambda w: w | {BIAS: torch.zeros(65)},
    f"{BIAS} contains NaN or infinite values": lambda w: w | {BIAS: torch.full((64,), torch.nan)},
    f"{BIAS} has the type int64, expected floating-point numbers": lambda w: w | {BIAS: torch.zeros(64, dtype=int)},
    f"{BIAS} is sparse": lambda w: w | {BIAS: torch.zeros(64).to_sparse()},
    f"{BIAS} has the type float8_e4m3fn": lambda w: w | {BIAS: torch.zeros(64).to(torch.float8_e4m3fn)},
    "contains NaN": lambda w: w | {BIAS: torch.full((64,), 1e300, dtype=torch.float64)},  # infinite as float32
    "contains 2 networks (model, ema)": lambda w: {"model": w, "ema": dict(w)},
    "declares 4,009,810,800 bytes of weights, but the file has 9,": lambda w: (
        w | {BIAS: torch.zeros(1).expand(10**9)}
    ),  # four bytes in the file
    "lacks image_encoder.backbone.cls_token": lambda w: {"a": torch.zeros(1)},
    "contains a list": lambda w: [w],
    "has the blocks [0, 1, 2, 4, 5, 6, 7]": lambda w: {n: t for n, t in w.items() if ".blocks.3." not in n},
    "has 1001 blocks, expected at most 1000": lambda w: (
        w | {f"image_encoder.backbone.blocks.{n}.norm1.bias": torch.zeros(64) for n in range(8, 1001)}
    ),
    "expected all numbers from 0": lambda w: {n.replace(".blocks.7.", ".blocks.9999."): t for n, t in w.items()},
    "impossible shapes": lambda w: w | {"image_encoder.backbone.patch_embed.proj.weight": torch.zeros(())},
}


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("problem", CHANGES)
def test_tensors_that_are_not_this_network_are_refused(saved, weights, problem):
    assert problem in refusal(saved(CHANGES[problem](weights)))


class Command:
    """An object whose pickle runs a command."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(saved, weights, tmp_path):
    canary = tmp_path / "canary"
    assert "can run code, so it was not loaded" in refusal(saved(weights | {"run": Command(canary)}))
    assert not canary.exists()


def test_a_bare_pickle_and_the_old_format_are_refused_and_run_nothing(saved, weights, tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "reference.pth"
    path.write_bytes(pickle.dumps(Command(canary)))
    assert refusal(path).startswith("no complete file of torch.save")
    assert refusal(saved(weights, _use_new_zipfile_serialization=False)).startswith("no complete file of torch.save")
    assert not canary.exists()


class Bomb:
    def __reduce__(self):
        return bytearray, (2**40,)


def test_a_pickle_that_makes_a_huge_object_is_refused_before_it_is_opened(saved, weights):
    with pytest.raises(WeightsError, match="contains a bytearray"):
        load_released(saved(weights | {"more": Bomb()}))


def test_objects_that_are_no_tensors_are_refused(saved, weights):
    assert "a pickle with numpy" in refusal(saved(weights | {"best": np.float64(1.0)}))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "reference.pth"))
    assert refusal(tmp_path / "reference.pth")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, whole, share):
    path = tmp_path / "reference.pth"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert refusal(path).startswith("no complete file of torch.save")


def repacked(whole, change, compression=zipfile.ZIP_STORED):
    """The archive with its members changed by `change`, which gets and returns name and bytes."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(made, "w", compression) as new:
        for name in old.namelist():
            for kept, content in change(name, old.read(name)):
                new.writestr(kept, content)
    return made.getvalue()


def cut(name, content):
    """Tensors of half their size."""
    return [(name, content[: len(content) // 2] if "/data/" in name else content)]


def poisoned(name, content):
    """A pickle that names a function, in the place of the table of tensors."""
    return [(name, b"cos\nsystem\n(S'true'\ntR." if name.endswith("data.pkl") else content)]


def without_pickle(name, content):
    return [] if name.endswith("data.pkl") else [(name, content)]


def bomb(name, content):
    """A table of tensors that unpacks to a hundred times its size."""
    return [(name, content + bytes(50_000_000) if name.endswith("data.pkl") else content)]


@pytest.mark.parametrize("change", [cut, poisoned, without_pickle])
def test_a_changed_archive_is_refused(tmp_path, whole, change):
    path = tmp_path / "reference.pth"
    path.write_bytes(repacked(whole, change))
    assert refusal(path)


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path, whole):
    path = tmp_path / "reference.pth"
    path.write_bytes(repacked(whole, bomb, zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 11_000_000
    assert "data.pkl is compressed" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_a_name_twice_is_refused(tmp_path, whole):
    (tmp_path / "reference.pth").write_bytes(repacked(whole, lambda name, content: [(name, content)] * 2))
    assert "a name occurs twice" in refusal(tmp_path / "reference.pth")


def test_a_missing_file_is_named(tmp_path):
    assert refusal(tmp_path / "none.pth") == "file not found; correct the argument CHECKPOINT"
