"""`mobanet package sign | verify`: the commands of docs/signing.md, and a package that a pod can verify and sign."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest

from components.common.errors import ParamsError
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import check_package
from components.common.trust.signatures import sign
from pipeline.cli import main
from pipeline.form import defaults, section_text, sections
from pipeline.presets.preset import SHIPPED
from tests.components.common.trust.key_files import write_keys, write_text_package
from tests.repo.pages import ROOT, commands_in


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a package, and a home folder for the key."""
    write_text_package(tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MOBANET_SIGNING_KEY", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path


def call(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["mobanet", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_the_commands_of_the_page_make_keys_sign_and_verify(project, monkeypatch, capsys) -> None:
    page = [c.text for c in commands_in((ROOT / "docs/signing.md").read_text()) if not c.needs]
    assert [text.split()[0] for text in page] == ["openssl", "openssl", "mobanet", "mobanet"]
    for text in page[:2]:
        subprocess.run(["bash", "-ec", text], check=True, capture_output=True)
    for text in page[2:]:
        words = [word.replace("~", str(project / "home")) for word in shlex.split(text)]
        assert call(monkeypatch, *words[1:]) == 0
    signed, verified = capsys.readouterr().out.splitlines()
    assert signed.startswith("package/model.sig: signed with the key ")
    assert verified == f"package: the signature is valid: key {signed.split()[-1]}"


def test_a_damaged_package_is_neither_signed_nor_verified(project, monkeypatch, capsys) -> None:
    owner = write_keys(project)
    (project / "package/README.md").write_text("changed after the export")
    for command in (("sign", "--key", owner.private), ("verify", "--public-key", owner.public)):
        assert call(monkeypatch, "package", *map(str, command)) == 2
        assert "README.md: changed since the export" in capsys.readouterr().err
    assert not (project / "package/model.sig").exists()


def test_a_changed_statement_is_named_by_the_signature_first(project, monkeypatch, capsys) -> None:
    owner = write_keys(project)
    statement = project / "package/statement.intoto.json"
    statement.write_text("{}")
    sign(project / "package", owner.key)
    statement.write_text("changed after the signature")
    assert call(monkeypatch, "package", "verify", "--public-key", str(owner.public)) == 2
    assert "statement.intoto.json: changed since it was signed; get" in capsys.readouterr().err


def test_no_key_and_no_public_key_are_one_sentence(project, monkeypatch, capsys) -> None:
    assert call(monkeypatch, "package", "sign") == 2
    assert capsys.readouterr().err.startswith("error: there is no key to sign with; pass --key FILE")
    assert call(monkeypatch, "package", "verify") == 2
    assert capsys.readouterr().err.startswith("error: there is no public key to check with; pass --public-key FILE")


def test_a_graph_carries_the_text_of_the_public_key_and_no_path_of_a_private_one(project) -> None:
    owner, params = write_keys(project), project / "params.yaml"
    params.write_text(SHIPPED.read_text().replace("public_key: null", f"public_key: {owner.public}"))
    given = defaults(params)
    found = json.loads(sections(given.form, given.text)["trust"])
    assert found == {"require_signature": False, "public_key": owner.public.read_text()}
    assert "BEGIN PUBLIC KEY" in section_text(params, "trust") and "\n" not in section_text(params, "trust")
    assert call_check(project, owner, found) == "valid"
    params.write_text(SHIPPED.read_text().replace("signing_key: null", f"signing_key: {owner.private}"))
    with pytest.raises(ParamsError, match="export.signing_key is a file, which the tasks of a pipeline do not have"):
        defaults(params)


def call_check(project, owner, trust) -> str:
    sign(project / "package", owner.key)
    owner.public.unlink()  # a pod does not have it
    return check_package(project / "package", TrustConfig(**trust)).state
