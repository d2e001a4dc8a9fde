"""The export step signs as its last action; the signature covers the side files and changes no identity."""

from __future__ import annotations

import pytest

from components.common.errors import TrustError
from components.common.tracking.packages import package_digest, read_record
from components.common.trust.keys import public_key
from components.common.trust.signature_check import check_package
from components.common.trust.signatures import signed_files
from components.export.step import run
from tests.components.common.trust.key_files import write_keys
from tests.components.conftest import export_config


def test_a_package_is_signed_by_a_file_or_the_environment_and_stays_the_same(trained, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MOBANET_SIGNING_KEY", raising=False)
    owner, inputs = write_keys(tmp_path), (trained.weights, trained.evaluation, trained.store)
    without = {"formats": (), "required": ()}
    run(export_config(**without), *inputs, tmp_path / "bare")
    run(export_config(**without, signing_key=owner.private), *inputs, tmp_path / "signed")
    monkeypatch.setenv("MOBANET_SIGNING_KEY", owner.private.read_text())
    run(export_config(**without), *inputs, tmp_path / "by environment")
    names = {path.name for path in (tmp_path / "bare").iterdir()}
    identity = package_digest(read_record(tmp_path / "bare")["sha256"])
    for folder in (tmp_path / "signed", tmp_path / "by environment"):
        assert {path.name for path in folder.iterdir()} == {*names, "model.sig"}
        listed = signed_files(folder / "model.sig", public_key(str(owner.public)), "model.sig")
        assert listed.keys() == names >= {"sbom.cdx.json", "statement.intoto.json", "export.json"}
        assert check_package(folder, owner.trusted()).state == "valid"
        assert package_digest(read_record(folder)["sha256"]) == identity


def test_a_key_that_cannot_be_used_stops_the_step_before_its_work(trained, tmp_path) -> None:
    config = export_config(signing_key=tmp_path / "lost.pem")
    with pytest.raises(TrustError, match=r"lost\.pem: there is no such private key"):
        run(config, trained.weights, trained.evaluation, trained.store, tmp_path / "package")
    assert not (tmp_path / "package").exists()
