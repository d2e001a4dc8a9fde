"""components/export/origin/bom.py, package_bom.py: valid CycloneDX 1.6, with the figures and files of the package."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from importlib.metadata import version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from components.common.errors import DataError
from components.common.inference.modelfile import InitialWeights
from components.export.origin.bom import environment_bom
from components.export.origin.package_bom import package_bom
from components.export.origin.software import LOCK, Package, installed_packages, locked_packages

FILES = {"model.safetensors": "a" * 64, "model.onnx": "b" * 64}
SOME = (
    Package("alpha", "1.0", "MIT", ("beta", "absent"), ("1" * 64, "2" * 64)),
    Package("beta", "2.0", "Apache-2.0 AND BSD-3-Clause"),
    Package("gamma", "3.0", "a licence of its own"),
    Package("mobanet-pipeline", "0.1.0", "Apache-2.0", ("alpha",)),
)


@pytest.fixture(scope="module")
def valid():
    validator = JsonStrictValidator(SchemaVersion.V1_6)

    def check(content):
        assert validator.validate_str(json.dumps(content)) is None
        return content

    return check


@pytest.fixture
def evaluation(trained):
    return json.loads(trained.evaluation.read_text())


def test_the_installed_environment_is_a_valid_document(valid) -> None:
    found = valid(environment_bom("mobanet-pipeline", "9.9.9", installed_packages()))
    assert found["specVersion"] == "1.6" and found["metadata"].keys() == {"component"}
    assert found["metadata"]["component"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    components = {component["name"]: component for component in found["components"]}
    assert components["numpy"]["version"] == version("numpy") and "mobanet-pipeline" not in components
    assert components["numpy"]["purl"] == f"pkg:pypi/numpy@{version('numpy')}"
    assert components["mlflow"]["licenses"] == [{"license": {"name": "Apache Software License"}}]
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in found["dependencies"]}
    assert f"numpy=={version('numpy')}" in edges[f"onnxruntime=={version('onnxruntime')}"]
    needed = edges["mobanet-pipeline==9.9.9"]
    assert f"torch=={version('torch')}" in needed and f"pytest=={version('pytest')}" not in needed


def test_checksums_are_those_of_the_lock() -> None:
    known = {(package.name, package.version): package for package in locked_packages()}
    text = LOCK.read_text()
    entry = text[text.index(f"numpy=={version('numpy')}") :]
    entry = entry[: entry.index("\n", entry.rindex("--hash", 0, entry.index("==", 10)))]
    sums = known["numpy", version("numpy")].sha256
    assert sums and all(sha256 in entry for sha256 in sums) and entry.count("sha256:") == len(sums)
    found = next(package for package in installed_packages() if package.name == "numpy")
    assert found.sha256 == sums


def test_a_lock_that_is_missing_empty_or_without_checksums_is_one_sentence(tmp_path) -> None:
    lock = tmp_path / "requirements.lock"
    with pytest.raises(DataError, match="no such file; run this in a clone"):
        locked_packages(lock)
    lock.write_text("# nothing\n")
    with pytest.raises(DataError, match="names no package; run make lock"):
        locked_packages(lock)
    lock.write_text("Some_Thing==1.0 ; python_version < '4'\n")
    with pytest.raises(DataError, match="some-thing has no checksum; run make lock"):
        locked_packages(lock)
    lock.write_text(f"Some_Thing[x]==1.0 ; python_version < '4' \\\n    --hash=sha256:{'c' * 64}\n")
    assert locked_packages(lock) == (Package("some-thing", "1.0", sha256=("c" * 64,)),)


def test_the_order_of_the_packages_and_nothing_else_leaves_the_document_as_it_is() -> None:
    first, again = (environment_bom("app", "1.0", packages) for packages in (SOME, SOME[::-1]))
    assert json.dumps(first) == json.dumps(again)
    other = environment_bom("app", "1.0", (*SOME[1:], replace(SOME[0], version="1.1")))
    assert other["serialNumber"] != first["serialNumber"] and first["serialNumber"].startswith("urn:uuid:")


def test_a_package_is_described_with_licence_checksums_and_needs(valid) -> None:
    found = valid(environment_bom("app", "1.0", SOME))
    alpha, beta, gamma, project = sorted(found["components"], key=lambda component: component["name"])
    assert alpha["licenses"] == [{"license": {"id": "MIT"}}]
    (files,) = alpha["externalReferences"]
    assert files["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}, {"alg": "SHA-256", "content": "2" * 64}]
    assert beta["licenses"] == [{"expression": "Apache-2.0 AND BSD-3-Clause"}] and "externalReferences" not in beta
    assert gamma["licenses"] == [{"license": {"name": "a licence of its own"}}]
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in found["dependencies"]}
    assert edges["alpha==1.0"] == ["beta==2.0"] and edges["mobanet-pipeline==0.1.0"] == ["alpha==1.0"]
    assert edges["app==1.0"] == ["alpha==1.0", "beta==2.0", "gamma==3.0", "mobanet-pipeline==0.1.0"]


def test_the_model_has_its_files_and_every_figure_of_the_evaluation(valid, trained, evaluation) -> None:
    evaluation["intervals"] = {"figures": {"miou/rgb+dsm": [70.25, 85.5], "expected_miou": None}}
    evaluation["warnings"] = ["tile 5_10: the image is blurred"]
    found = valid(package_bom(trained.facts, evaluation, FILES, SOME))
    model = found["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "mobanet-sample")
    assert model["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert {file["name"]: file["hashes"][0]["content"] for file in model["components"]} == FILES
    card = model["modelCard"]
    figures = {(f["type"], f["slice"]): f for f in card["quantitativeAnalysis"]["performanceMetrics"]}
    for truth, conditions in evaluation["scores"].items():
        for condition, scores in conditions.items():
            there = f"sample sample test, {truth} ground truth, {condition}"
            for name in ("miou", "mf1", "oa"):
                assert json.loads(figures[name, there]["value"]) == scores[name]
            for name, of_class in scores["per_class"].items():
                assert json.loads(figures["iou", f"{there}, class {name}"]["value"]) == of_class["iou"]
    headline = figures["miou", "sample sample test, eroded ground truth, rgb+dsm"]
    assert headline["confidenceInterval"] == {"lowerBound": "70.25", "upperBound": "85.5"}
    assert [f["slice"] for f in figures.values() if "confidenceInterval" in f] == [headline["slice"]]
    expected = figures["expected_miou", "sample sample test, eroded ground truth"]
    assert json.loads(expected["value"]) == evaluation["balance"]["expected_miou"]
    assert card["considerations"] == {"technicalLimitations": ["tile 5_10: the image is blurred"]}


def test_figures_that_are_not_defined_are_left_out(valid, trained, evaluation) -> None:
    content = copy.deepcopy(evaluation)
    content["scores"]["eroded"]["rgb"]["miou"], content["balance"] = None, None
    found = valid(package_bom(trained.facts, content, FILES, SOME))
    metrics = found["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    there = "sample sample test, eroded ground truth, rgb"
    assert ("miou", there) not in {(f["type"], f["slice"]) for f in metrics}
    assert "expected_miou" not in {f["type"] for f in metrics}


def test_data_and_initial_weights_are_there_with_their_terms(valid, trained, evaluation) -> None:
    start = InitialWeights("hub", "d" * 64, "Apache-2.0", {})
    facts = replace(trained.facts, initial_weights=start)
    found = valid(package_bom(facts, evaluation, FILES, SOME))
    data, model = found["components"][0], found["metadata"]["component"]
    assert (data["type"], data["name"], data["version"]) == ("data", "sample", facts.data_md5)
    assert data["licenses"][0]["license"]["text"]["content"] == facts.acknowledgement
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    (ancestor,) = model["pedigree"]["ancestors"]
    assert (ancestor["name"], ancestor["licenses"]) == ("hub", model["licenses"])
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in found["dependencies"]}
    assert edges["model"] == ["data", "mobanet-pipeline==0.1.0"]
    random = replace(facts, initial_weights=InitialWeights("none", None, "none needed (random weights)", {}))
    model = valid(package_bom(random, evaluation, FILES, SOME))["metadata"]["component"]
    assert "pedigree" not in model and "licenses" not in model
