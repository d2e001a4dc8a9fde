"""A signed package in a real MLflow store: the signature travels with it, is a gate, and is checked on the way back."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import torch

from components.common.errors import DataError, TrustError
from components.common.params import section
from components.common.predictors.models import open_model
from components.common.tracking.registered_models import fetch_package, fetch_side_file
from components.common.trust.signature_check import UNCHECKED, check_package
from components.common.trust.signatures import sign
from components.register import decisions
from components.register.config import RegisterConfig
from components.register.history.registry import Registry
from components.register.inspection.verification import verify
from components.register.step import run
from components.register.uploads.readback import signature_of
from pipeline.cli import main
from pipeline.presets.preset import SHIPPED
from tests.components.common.trust.key_files import write_keys
from tests.components.register.variants import sealed, variant

CONFIG = replace(section(SHIPPED, "register", RegisterConfig), model_name="city")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return {name: write_keys(folder, name) for name in ("owner", "stranger")}


@pytest.fixture(scope="module")
def owner(keys):
    return keys["owner"]


@pytest.fixture(scope="module")
def signed(package, owner, tmp_path_factory):
    """A signed package with another side file."""
    folder = variant(package, tmp_path_factory.mktemp("signed") / "package")
    (folder / "sbom.cdx.json").write_text("{}")
    sign(sealed(folder), owner.key)
    return folder


@pytest.fixture(scope="module")
def store(empty_mlflow_store, package, signed, keys, tmp_path_factory) -> Path:
    """A store with three versions: signed by the owner, better and unsigned, better still and signed by a stranger."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_mlflow_store, folder / "mlflow.db")
    (folder / "run.json").write_text('{"mlflow_run_id": null}')
    foreign = variant(package, folder / "foreign", shift=2.0)
    sign(foreign, keys["stranger"].key)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        for made in (signed, variant(package, folder / "bare", shift=1.0), foreign):
            run(replace(CONFIG, promote=made is signed), made, folder / "run.json", folder / "registration.json")
    return folder


@pytest.fixture
def city(store, tmp_path, monkeypatch) -> Path:
    """A copy of the database in the current folder; the artifacts of the versions are shared by all tests."""
    for file in ("mlflow.db", "run.json"):
        shutil.copy(store / file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("components.register.history.alias_changes.GRACE_S", 0.0)
    return tmp_path


def registry() -> Registry:
    return Registry(mlflow.MlflowClient(), "city")


def version(number: str):
    return next(found for found in registry().versions() if found.number == number)


def register(folder: Path, trust=UNCHECKED):
    return run(CONFIG, folder, Path("run.json"), Path("registration.json"), trust)


def gate(gates):
    return next(one for one in gates if one.name == "signature")


def test_side_files_travel_with_the_package_and_verify_where_they_arrive(city, signed, owner, tmp_path) -> None:
    (tmp_path / "copy").mkdir()
    folder, _ = fetch_package("models:/city/1", tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in signed.iterdir()
    }
    assert check_package(folder, owner.trusted()).state == "valid"
    assert fetch_side_file("models:/city/2", "model.sig", tmp_path) is None


def test_register_refuses_a_package_whose_statement_is_about_other_files(city, package, tmp_path) -> None:
    folder = variant(package, tmp_path / "package", shift=3.0)
    shutil.copy(package / "statement.intoto.json", folder)
    with pytest.raises(DataError, match=r"statement\.intoto\.json: about another e[a-z]+\.json than the package has"):
        register(folder)


def test_register_refuses_a_missing_or_wrong_signature_and_uploads_nothing(city, package, keys) -> None:
    with pytest.raises(TrustError, match="no signature"):
        register(package, keys["owner"].trusted())
    foreign = variant(package, city / "foreign", shift=3.0)
    sign(foreign, keys["stranger"].key)
    with pytest.raises(TrustError, match="made with another key"):
        register(foreign, keys["owner"].trusted(required=False))
    assert len(registry().versions()) == 3


def test_a_signed_package_is_promoted_and_the_gate_is_recorded(city, package, owner) -> None:
    better = variant(package, city / "better", shift=4.0)
    sign(better, owner.key)
    result = register(better, owner.trusted())
    assert result.promoted and gate(result.gates).passed
    written = json.loads(Path("registration.json").read_text())["gates"]
    assert gate(result.gates).candidate == f"valid: key {owner.key.fingerprint[:12]}"
    assert [one["limit"] for one in written if one["name"] == "signature"] == ["valid"]
    recorded = registry().history().events[-1].gates
    assert [one["passed"] for one in recorded if one["name"] == "signature"] == [True]


@pytest.mark.parametrize(
    ("number", "required", "candidate", "limit", "passed"),
    [
        ("1", True, "valid: key", "valid", True),
        ("2", True, "missing", "valid", False),
        ("2", False, "missing", "not required", True),
        ("3", False, "invalid: models:/city/3/model.sig: made with another key", "valid", False),
        ("2", None, "not checked: trust.public_key is null", "not required", True),
        ("3", None, "not checked: trust.public_key is null", "not required", True),
    ],
)
def test_the_gate_judges_the_signature_that_the_registry_has(
    city, owner, number, required, candidate, limit, passed
) -> None:
    trust = UNCHECKED if required is None else owner.trusted(required)
    found = gate(decisions.compare(registry(), version(number), registry(), version("1"), CONFIG, trust).gates)
    assert found.candidate.startswith(candidate) and (found.limit, found.passed) == (limit, passed)


@pytest.mark.parametrize(("number", "sentence"), [("2", "no signature"), ("3", "made with another key")])
def test_no_force_promotes_what_predict_and_serve_would_refuse(city, owner, number, sentence) -> None:
    trust = owner.trusted()
    refused = decisions.promote(registry(), version(number), CONFIG, trust, why="better")
    assert not refused.changed and "(signature)" in refused.outcome
    with pytest.raises(TrustError, match=sentence):
        decisions.promote(registry(), version(number), CONFIG, trust, why="now", forced=True)
    assert registry().champion() == "1"
    decisions.promote(registry(), version(number), CONFIG, why="nobody asked for signatures")
    assert registry().champion() == number


def test_rollback_returns_only_to_a_signed_version(city, owner, monkeypatch) -> None:
    with monkeypatch.context() as quick:
        quick.setattr(decisions, "read_back", lambda name, version, trust: None)
        for number in ("2", "3"):
            decisions.promote(registry(), version(number), CONFIG, why="better")
    with pytest.raises(TrustError, match="models:/city/2: no signature"):
        decisions.rollback(registry(), owner.trusted(), why="roofs")
    assert registry().champion() == "3"


def test_an_unsigned_version_gets_the_signature_of_its_package_later(city, package, owner) -> None:
    later = variant(package, city / "later", shift=5.0)
    assert register(later).version == "4"
    assert signature_of("city", "4", owner.trusted()).state == "missing"
    sign(later, owner.key)
    again = register(later, owner.trusted())
    assert (again.version, again.created) == ("4", False)
    assert signature_of("city", "4", owner.trusted()).state == "valid"


def stored(city: Path, number: str, name: str) -> Path:
    """A file of a version in the artifact store."""
    model = mlflow.MlflowClient().get_logged_model(version(number).model_id)
    return Path(model.artifact_location.removeprefix("file://")) / name


def test_verify_has_a_link_for_the_signature(city, owner) -> None:
    links = {number: verify(registry(), version(number), owner.trusted(required=False)) for number in "123"}
    assert links["1"][2].detail.startswith("valid: key") and links["1"][-1].name == "crops"
    assert links["2"][2].detail == "missing" and links["2"][-1].name == "crops"
    assert (links["3"][-1].name, links["3"][-1].passed) == ("signature", False)


def test_files_that_were_exchanged_in_the_store_together_with_their_tag_are_found(city, owner, tmp_path) -> None:
    """Somebody has access to registry and artifact store, but not to the key."""
    names = ("evaluation.json", "export.json")
    before = {name: stored(city, "1", name).read_bytes() for name in names}
    mlflow.MlflowClient().set_model_version_tag("city", "1", "package_sha256", version("2").tags["package_sha256"])
    try:
        for name in names:
            shutil.copy(stored(city, "2", name), stored(city, "1", name))
        (tmp_path / "copy").mkdir()
        fetch_package("models:/city/1", tmp_path / "copy")  # checksums and tag agree
        found = signature_of("city", "1", owner.trusted(required=False))
    finally:
        for name, content in before.items():
            stored(city, "1", name).write_bytes(content)
    assert found.state == "invalid" and "models:/city/1/export.json: changed since it was signed" in found.detail


def test_predict_opens_a_signed_version_and_refuses_others(city, owner) -> None:
    with open_model("models:/city@champion", CPU, trust=owner.trusted()) as predictor:
        assert predictor.identity.name == "models:/city/1"
    for number, sentence in (("2", "models:/city/2: no signature"), ("3", "made with another key")):
        with (
            pytest.raises(TrustError, match=sentence),
            open_model(f"models:/city/{number}", CPU, trust=owner.trusted()),
        ):
            pass
        with open_model(f"models:/city/{number}", CPU) as predictor:
            assert predictor.identity.version == number
    with open_model("models:/city/2", CPU, trust=owner.trusted(required=False)) as predictor:
        assert predictor.identity.version == "2"


def test_predict_checks_a_folder_and_a_single_file_of_it(signed, owner, tmp_path) -> None:
    copy = shutil.copytree(signed, tmp_path / "copy")
    for model in (copy, copy / "model.safetensors"):
        with open_model(str(model), CPU, trust=owner.trusted()):
            pass
    (copy / "README.md").write_text("another card")
    with pytest.raises(TrustError, match=r"README\.md: changed since it was signed"):
        with open_model(str(copy), CPU, trust=owner.trusted()):
            pass
    with open_model(str(copy / "model.safetensors"), CPU, trust=owner.trusted()):
        pass  # the signature proves this file, whatever happened to the card
    shutil.copy(copy / "model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(TrustError, match="no signature"):
        with open_model(str(tmp_path / "alone.safetensors"), CPU, trust=owner.trusted()):
            pass


@pytest.fixture
def command(city, owner, monkeypatch, capsys):
    """Function that calls `mobanet` with a params file that trusts the owner; returns exit code, stdout and stderr."""
    text = SHIPPED.read_text().replace("require_signature: false", "require_signature: true")
    text = text.replace("public_key: null", f"public_key: {owner.public}").replace(
        "model_name: mobanet", "model_name: city"
    )
    (city / "params.yaml").write_text(text)
    monkeypatch.delenv("MOBANET_SIGNING_KEY", raising=False)

    def call(*arguments: str):
        monkeypatch.setattr("sys.argv", ["mobanet", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, *capsys.readouterr()

    return call


def test_package_sign_and_verify_use_file_environment_and_params(command, package, owner, city, monkeypatch) -> None:
    folder = shutil.copytree(package, city / "package")
    assert "no signature" in command("package", "verify")[2]
    code, _, error = command("package", "sign")
    assert code == 2 and "there is no key to sign with; pass --key FILE, or put" in error
    monkeypatch.setenv("MOBANET_SIGNING_KEY", owner.private.read_text())
    code, out, _ = command("package", "sign", folder)
    assert (code, out.split(": ")[1]) == (0, f"signed with the key {owner.key.fingerprint[:12]}\n")
    code, out, _ = command("package", "verify")
    assert (code, out) == (0, f"package: the signature is valid: key {owner.key.fingerprint[:12]}\n")
    assert command("package", "verify", "models:/city/1")[0] == 0
    assert command("package", "verify", "models:/city/2")[0] == 2
    (folder / "README.md").write_text("changed")
    assert command("package", "sign", folder)[0] == 2  # no signature for what was not exported


def test_registry_commands_ask_for_the_signature(command, city) -> None:
    code, out, _ = command("registry", "compare", "2", "1", "--json")
    (found,) = [one for one in json.loads(out)["gates"] if one["name"] == "signature"]
    assert (code, found["passed"], found["candidate"]) == (1, False, "missing")
    code, out, _ = command("registry", "promote", "2")
    assert code == 1 and "(signature)" in out
    code, _, error = command("registry", "promote", "2", "--force", "--because", "test")
    assert code == 2 and "no signature" in error
    assert command("registry", "verify", "1")[0] == 0
    code, out, _ = command("registry", "verify", "3")
    assert code == 1 and "the first broken link is signature" in out
