"""`mobanet model import`: what the written model says about its inputs, and what the command refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.common.data.store import Heights
from components.common.errors import MobanetError
from components.common.files import digest
from components.common.inference.modelfile import load_model
from pipeline.commands.model_import import import_

ROOT = Path(__file__).parents[3]
FIXTURE = ROOT / "tests/fixtures/reference_native.safetensors"
NOTHING = dict.fromkeys(("dataset", "store", "window", "licence"))


@pytest.fixture(scope="module")
def fixture():
    return load_file(FIXTURE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, fixture):
    path = tmp_path_factory.mktemp("released") / "reference.pth"
    torch.save({name[8:]: tensor for name, tensor in fixture.items() if name.startswith("weights/")}, path)
    return path


@pytest.fixture
def imported(checkpoint, tmp_path):
    """Import the checkpoint and read the model."""

    def run(**options):
        out = tmp_path / "released/model.safetensors"
        given = NOTHING | {"heads": 4, "taps": "1,3,5,7", "params": ROOT / "params.yaml", "force": False} | options
        import_(checkpoint, out, **given)
        return load_model(out)

    return run


def refusal(imported, **options):
    with pytest.raises(MobanetError) as raised:
        imported(**options)
    return str(raised.value)


def test_the_written_model_gives_the_logits_of_the_released_network(imported, fixture):
    network, _ = imported()
    with torch.inference_mode():
        logits = network(fixture["input/rgb"], fixture["input/dsm"][:, None])
    torch.testing.assert_close(logits, fixture["output/logits"], atol=2e-5, rtol=0)


def test_inputs_are_those_of_the_params_and_the_training_is_unknown(imported, checkpoint, tmp_path, caplog):
    caplog.set_level("INFO")
    _, facts = imported(licence="CC-BY-4.0")
    assert facts.classes == ("impervious", "building", "low_vegetation", "tree", "car", "clutter")
    assert (facts.dataset, facts.bands, facts.window_px) == ("sample", ("red", "green", "blue"), 140)  # 128 px padded
    assert facts.heights == Heights("above-ground", 0.0, 10.0, 12.0, None, (-0.5, 2.0), "datum")
    assert (facts.image_mean, facts.image_std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert {facts.source, facts.split, facts.data_md5, facts.git_commit, facts.tool_version} == {"unknown"}
    start = facts.initial_weights
    assert (start.source, start.licence) == ("released checkpoint reference.pth", "CC-BY-4.0")
    assert start.sha256 == digest(checkpoint)
    assert json.loads((tmp_path / "released/run.json").read_text()) == {"mlflow_run_id": None}
    assert "this model will get above-ground heights" in caplog.text


def test_another_data_set_takes_its_bands(imported):
    _, facts = imported(dataset="vaihingen", window=256)
    assert (facts.dataset, facts.gsd_m, facts.window_px) == ("vaihingen", 0.09, 266)
    assert facts.bands == ("near infrared", "red", "green")
    assert "DGPF" in facts.acknowledgement


def test_a_store_describes_the_inputs(imported, toy_store):
    _, facts = imported(store=toy_store, window=56)
    manifest = json.loads((toy_store / "manifest.json").read_text())
    assert list(facts.classes) == manifest["classes"] and facts.heights.method == manifest["heights"]["method"]
    assert facts.window_px == 56


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"taps": "1,x"}, "--taps is '1,x'; expected four block numbers with commas, for example 5,11,17,23"),
        ({"window": 0}, "--window is 0; expected 1 to 16384 pixels"),
        (
            {"dataset": "sample", "store": Path("s")},
            "--store and --dataset are given; a store says its data set",
        ),
        ({"heads": None}, "cannot be inferred; add --heads"),
    ],
)
def test_impossible_options_are_refused_and_write_nothing(imported, tmp_path, options, problem):
    assert problem in refusal(imported, **options)
    assert not (tmp_path / "released").exists()


def test_heights_that_need_training_tiles_need_a_store(imported, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text((ROOT / "params.yaml").read_text().replace("method: above-ground", "method: training-range"))
    assert "add --store" in refusal(imported, params=params)


def test_another_number_of_classes_names_the_data_set(checkpoint, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    heads = ("decoder.classifier.1.0", "aux_head_rgb.conv_out.0", "aux_head_dsm.conv_out.0")
    state |= {f"{head}.weight": state[f"{head}.weight"][:4] for head in heads}
    torch.save(state, tmp_path / "four.pth")
    given = NOTHING | {"heads": 4, "taps": "1,3,5,7", "params": ROOT / "params.yaml", "force": False}
    with pytest.raises(MobanetError, match="has 4 classes, but sample has 6 .*--dataset or --store"):
        import_(tmp_path / "four.pth", tmp_path / "model.safetensors", **given)


def test_an_existing_model_or_run_stays_unless_forced(imported, tmp_path):
    (tmp_path / "released").mkdir()
    run = tmp_path / "released/run.json"
    run.write_text('{"mlflow_run_id": "a"}')
    assert refusal(imported) == f"{run} exists; name a file in another folder with --out, or add --force to replace it"
    assert imported(force=True) and json.loads(run.read_text()) == {"mlflow_run_id": None}
    assert "model.safetensors exists" in refusal(imported)


def test_the_output_is_a_safetensors_file_and_not_the_checkpoint(checkpoint, tmp_path):
    given = NOTHING | {"heads": 4, "taps": "1,3,5,7", "params": ROOT / "params.yaml", "force": True}
    with pytest.raises(MobanetError, match="expected the name of a .safetensors file"):
        import_(checkpoint, tmp_path / "model.pth", **given)
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"")
    with pytest.raises(MobanetError, match="the checkpoint itself"):
        import_(own, own, **given)
