"""components/export/step.py: the package is complete, agrees with the network, and is written as one."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from components.common.data.store import read_manifest, write_manifest
from components.common.drift.reference_windows import read_reference
from components.common.errors import DataError, ParamsError, StoreError, WeightsError
from components.common.exported.graph_inputs import GRAPH_KEYS
from components.common.files import digest, write_json
from components.common.inference.modelfile import load_model
from components.common.inference.stored_crops import run_crops
from components.common.params import from_mapping
from components.common.scoring.metrics import as_json
from components.common.tracking.packages import package_digest, read_record, verify_files
from components.export.config import ExportConfig
from components.export.formats import known_formats, onnx_graph
from components.export.parity.format_parity import ParityError
from components.export.step import read_evaluation, run
from model.inputs import normalise
from tests.components.conftest import export_config

SECTION = {"formats": ["onnx"], "required": [], "outputs": ["logits"], "opset": 20, "tolerance": 1e-3}
SECTION |= {"max_changed": 0.01, "max_changed_reduced": 0.2, "signing_key": None}


def identity(package: Path) -> str:
    return package_digest(read_record(package)["sha256"])


def replace_writer(monkeypatch, write) -> None:
    """Let the step write the graph in another way, which takes no time."""
    monkeypatch.setitem(known_formats.FORMATS, "onnx", replace(known_formats.FORMATS["onnx"], writers={"test": write}))


def logits_of(package, image, dsm):
    session = onnxruntime.InferenceSession(str(package / "model.onnx"), providers=["CPUExecutionProvider"])
    metres = dsm * np.float32(10)  # scale_m of the toy model
    return session.run(["logits"], {"image": image, "dsm": metres})[0]


def test_the_package_holds_what_its_record_says(package, trained) -> None:
    record = json.loads((package / "export.json").read_text())
    weights, others = (
        {"model.safetensors", "model.onnx"},
        {"README.md", "evaluation.json", "stac_item.json", "predict_example.py"},
    )
    checks = {"crops.safetensors", "reference.json"}
    sides = {"sbom.cdx.json", "statement.intoto.json"}  # not in the record, because they depend on the machine
    assert {f.name for f in package.iterdir()} == weights | others | checks | sides | {"export.json"}
    assert record["sha256"].keys() == weights | others | checks and record["format"] == 3
    assert record["sha256"] == {name: digest(package / name) for name in record["sha256"]}
    assert record["source_sha256"] == digest(trained.weights)
    graph = record["formats"]["onnx"]
    assert (graph["status"], graph["file"], graph["compared"]) == ("exported", "model.onnx", "logits")
    assert graph["largest_difference"] <= record["parity"]["tolerance"] == 1e-4
    assert graph["changed_share"] <= record["parity"]["max_changed"] / 100 and len(graph["cases"]) > 10
    assert graph["bytes"] == (package / "model.onnx").stat().st_size
    assert graph["latency_ms"] > 0 and record["parity"]["precision"] == "float32"
    assert (package / "evaluation.json").read_bytes() == trained.evaluation.read_bytes()


@pytest.mark.system
def test_exporting_again_elsewhere_gives_the_same_identity_and_another_operator_set_another(
    package, trained, tmp_path, monkeypatch
) -> None:
    known = identity(package)
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained.weights, "weights.safetensors")
    for opset, same in ((20, True), (21, False)):
        config = export_config(opset=opset)
        made = run(config, Path("weights.safetensors"), trained.evaluation, trained.store, Path("again"))
        assert made.package_sha256 == identity(Path("again"))
        assert (made.package_sha256 == known) is same
        verify_files(Path("again"))


def test_another_evaluation_of_the_same_model_is_another_identity(package, trained, tmp_path, monkeypatch) -> None:
    content = json.loads(trained.evaluation.read_text())
    content["balance"] |= {"failure_probability": 0.2, "expected_miou": 50.0}
    evaluation = tmp_path / "evaluation.json"
    write_json(evaluation, content)
    replace_writer(monkeypatch, lambda path, *_: shutil.copy(package / "model.onnx", path))
    run(export_config(), trained.weights, evaluation, trained.store, tmp_path / "package")
    before, after = (json.loads((folder / "export.json").read_text()) for folder in (package, tmp_path / "package"))
    differ = {name for name in before["sha256"] if before["sha256"][name] != after["sha256"][name]}
    assert differ == {"evaluation.json", "README.md", "stac_item.json"}
    assert identity(tmp_path / "package") != identity(package)
    assert "E(0.2)" in (tmp_path / "package" / "README.md").read_text()


def test_the_packaged_model_gives_the_stored_crops(package, trained) -> None:
    found = run_crops(package / "crops.safetensors", *load_model(package / "model.safetensors"))
    assert (found.changed_px, found.total_px) == (0, 3 * 3 * 32 * 32)
    assert found.largest_difference <= 1e-5
    assert run_crops(package / "crops.safetensors", trained.network, trained.facts).changed_px == 0


def test_the_package_has_the_statistics_of_windows_of_the_validation_tiles(package, trained) -> None:
    found = read_reference(package / "reference.json", trained.facts)
    assert found.window_px == 32
    assert found.histograms["band_red"].counts_NB.sum(1).tolist() == [32 * 32] * 2 * 9  # two tiles of 96 px


def test_a_store_with_other_heights_or_without_validation_tiles_is_refused(trained, tmp_path) -> None:
    manifest, config = read_manifest(trained.store), export_config()
    for changes, sentence in (
        ({"heights": replace(manifest.heights, scale_m=20.0)}, "settings of the heights are scale_m 20.0, but"),
        ({"tiles": manifest.subset("test")}, "the store has no validation tile of the split sample; add one"),
        (
            {"tiles": tuple(replace(tile, sensors=("rgb",)) for tile in manifest.tiles)},
            "no validation tile of the split sample with all sensors of the model; add one",
        ),
    ):
        write_manifest(tmp_path / "store", replace(manifest, **changes))
        with pytest.raises(StoreError, match=sentence):
            run(config, trained.weights, trained.evaluation, tmp_path / "store", tmp_path / "package")
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("samples", [1, 3])
def test_onnx_answers_as_the_trained_network_does(package, trained, samples) -> None:
    rng = np.random.default_rng(samples)
    image = rng.integers(0, 256, (samples, 3, 32, 32)).astype(np.float32)
    dsm = rng.uniform(-0.5, 2, (samples, 1, 32, 32)).astype(np.float32)
    facts = trained.facts
    inputs = normalise(torch.from_numpy(image), torch.from_numpy(dsm), facts.image_mean, facts.image_std)
    with torch.inference_mode():
        expected = trained.network(*inputs).numpy()
    assert expected.std() > 0.01  # else anything would agree
    np.testing.assert_allclose(logits_of(package, image, dsm), expected, atol=1e-4)


def test_an_input_of_nan_is_a_missing_sensor(package, trained) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 3, 32, 32)).astype(np.float32)
    dsm = rng.uniform(-0.5, 2, (1, 1, 32, 32)).astype(np.float32)
    facts = trained.facts
    rgb, heights = normalise(torch.from_numpy(image), torch.from_numpy(dsm), facts.image_mean, facts.image_std)
    with torch.inference_mode():
        image_only, dsm_only = trained.network(rgb, None).numpy(), trained.network(None, heights).numpy()
    np.testing.assert_allclose(logits_of(package, image, np.full_like(dsm, np.nan)), image_only, atol=1e-4)
    np.testing.assert_allclose(logits_of(package, np.full_like(image, np.nan), dsm), dsm_only, atol=1e-4)


def test_the_packaged_weights_are_the_trained_ones_without_auxiliary_heads(package, trained) -> None:
    network, facts = load_model(package / "model.safetensors")
    trained_weights = trained.network.state_dict()
    assert {n for n in trained_weights if not n.startswith("aux.")} == set(network.state_dict()) < set(trained_weights)
    rgb, dsm = torch.randn(1, 3, 32, 32), torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(rgb, dsm), trained.network(rgb, dsm))
    assert facts.classes == trained.facts.classes and facts.data_md5 == trained.facts.data_md5


def test_both_files_carry_every_fact(package) -> None:
    with safe_open(package / "model.safetensors", "pt") as file:
        in_safetensors = json.loads(file.metadata()["mobanet"])
    in_onnx = {p.key: json.loads(p.value) for p in onnx.load(package / "model.onnx").metadata_props}
    more = {name: in_onnx.pop(name) for name in GRAPH_KEYS}
    assert in_onnx == in_safetensors
    assert more["dsm_values"] == "metres above ground" and more["outputs"] == ["logits"] and more["opset"] == 20
    asked_for = {"classes", "bands", "heights", "image_mean", "image_std", "window_px", "git_commit", "data_md5"}
    assert asked_for | {"tool_version"} <= in_onnx.keys()


def test_the_graph_has_the_promised_inputs_and_a_free_batch(package) -> None:
    model = onnx.load(package / "model.onnx")
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": ["N", 3, "H", "W"], "dsm": ["N", 1, "H", "W"], "logits": ["N", 6, "H", "W"]}
    assert (model.opset_import[0].version, model.ir_version) == (20, 9)


def test_the_graph_does_not_tell_where_it_was_made(package) -> None:
    assert not onnx.load(package / "model.onnx").graph.metadata_props  # torch's notes, in an order that changes
    content = (package / "model.onnx").read_bytes()
    assert not re.search(rb"\.py\W|site-packages|stack_trace", content)


def test_packaging_a_package_again_gives_the_same_model(package, trained, tmp_path) -> None:
    network, facts = load_model(package / "model.safetensors")
    from components.common.inference.modelfile import save_model

    save_model(tmp_path / "again.safetensors", network, facts)
    assert digest(tmp_path / "again.safetensors") == digest(package / "model.safetensors")


def test_a_graph_that_differs_is_refused_in_one_line_and_the_old_package_stays(trained, tmp_path, monkeypatch) -> None:
    target = tmp_path / "package"
    target.mkdir()
    (target / "old.txt").write_text("kept")

    def write_another_network(path, network, facts, *_) -> None:
        image, dsm = (
            onnx.helper.make_tensor_value_info(n, 1, ["N", *s]) for n, s in onnx_graph.input_shapes(facts).items()
        )
        logits = onnx.helper.make_tensor_value_info("logits", 1, ["N", 6, 32, 32])
        six = onnx.helper.make_node("Concat", ["image", "image"], ["logits"], axis=1)
        made = onnx.helper.make_graph([six], "wrong", [image, dsm], [logits])
        onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)

    replace_writer(monkeypatch, write_another_network)
    with pytest.raises(ParityError) as caught:
        run(export_config(), trained.weights, trained.evaluation, trained.store, target)
    assert "model.onnx: gives values that are NaN or infinite" in str(caught.value) and "\n" not in str(caught.value)
    assert [f.name for f in target.iterdir()] == ["old.txt"]
    assert [f.name for f in tmp_path.iterdir()] == ["package"]


def test_a_model_with_a_weight_that_is_not_finite_is_refused_before_anything_is_written(trained, tmp_path) -> None:
    weights, target = tmp_path / "best.safetensors", tmp_path / "package"
    with safe_open(trained.weights, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["decoder.classifier.1.weight"][0] = float("inf")
    save_file(tensors, weights, metadata)  # as an earlier version trained it
    with pytest.raises(WeightsError, match="decoder.classifier.1.weight has a NaN or infinite value"):
        run(export_config(), weights, trained.evaluation, trained.store, target)
    assert not target.exists()


def test_an_evaluation_of_another_model_is_refused(trained, tmp_path) -> None:
    content = json.loads(trained.evaluation.read_text())
    content["protocol"]["model"]["sha256"] = "0" * 64
    other = tmp_path / "evaluation.json"
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match="made with another model"):
        read_evaluation(other, trained.weights)


@pytest.mark.parametrize(("content", "message"), [(None, "file not found"), ("{", "damaged"), ("[]", "damaged")])
def test_an_unreadable_evaluation_is_refused(trained, tmp_path, content, message) -> None:
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_evaluation(path, trained.weights)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"formats": ["onnx"], "required": ["pt2"]}, "required contains pt2; expected formats of export.formats only"),
        ({"outputs": ["logits", "logits"]}, "outputs contains logits twice"),
        ({"outputs": []}, "export.outputs"),
        ({"formats": ["tflite"]}, "export.formats"),
    ],
)
def test_formats_that_contradict_each_other_are_refused(wrong, sentence) -> None:
    assert from_mapping(ExportConfig, SECTION, "export").required == ()
    with pytest.raises(ParamsError, match=sentence):
        from_mapping(ExportConfig, SECTION | wrong, "export")


def test_a_format_that_differs_is_left_out_with_the_reason_unless_it_is_required(
    package, trained, tmp_path, monkeypatch, caplog
) -> None:
    def damage(path, *_) -> None:
        graph = onnx.load(package / "model.onnx")
        weight = next(x for x in graph.graph.initializer if "classifier" in x.name)
        values = onnx.numpy_helper.to_array(weight) * np.float32(-1)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(graph, path)

    def fail(path, *_) -> None:
        path.write_bytes(b"part of a file")
        raise RuntimeError("no memory\nfor this")

    replace_writer(monkeypatch, lambda path, *_: shutil.copy(package / "model.onnx", path))
    reduced = replace(known_formats.FORMATS["onnx-int8"], writers={"first": fail, "second": damage})
    monkeypatch.setitem(known_formats.FORMATS, "onnx-int8", reduced)
    config = export_config(formats=("onnx", "onnx-int8"))
    with caplog.at_level("INFO"):
        made = run(config, trained.weights, trained.evaluation, trained.store, tmp_path / "package")
    assert "variant first is not used: model_int8.onnx: cannot be written (no memory)" in caplog.text
    entry = made.formats["onnx-int8"]
    assert (entry["status"], entry["variant"], entry["bytes"]) == ("left out", "second", None)
    assert "more than export.max_changed_reduced 0.2 %" in entry["reason"] and entry["changed_share"] > 0.1
    assert not (tmp_path / "package" / "model_int8.onnx").exists()
    assert json.loads((tmp_path / "package" / "export.json").read_text())["formats"]["onnx-int8"] == entry | {
        "cases": [asdict(case) if not isinstance(case, dict) else case for case in entry["cases"]]
    }
    monkeypatch.setitem(known_formats.FORMATS, "onnx-int8", replace(reduced, writers={"first": fail}))
    with pytest.raises(ParityError, match=r"^model_int8.onnx: cannot be written \(no memory\)$"):
        run(
            replace(config, required=("onnx-int8",)), trained.weights, trained.evaluation, trained.store, tmp_path / "x"
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("wrong", [{"opset": 17}, {"opset": 24}, {"tolerance": 0.0}, {"tolerance": float("nan")}])
def test_a_parameter_out_of_range_names_itself(wrong) -> None:
    with pytest.raises(ParamsError, match=rf"^export\.{next(iter(wrong))} is .*; expected"):
        from_mapping(ExportConfig, SECTION | wrong, "export")


def test_the_record_repeats_the_facts(package) -> None:
    record = json.loads((package / "export.json").read_text())
    _, facts = load_model(package / "model.safetensors")
    assert record["facts"] == json.loads(json.dumps(asdict(facts))) == as_json(facts, digits=17)
