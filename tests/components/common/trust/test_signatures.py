"""components/common/trust: what a signature covers, and every way in which a package is not the signed one."""

from __future__ import annotations

import base64
import json
import logging
import shutil

import pytest
from model_signing import hashing, signing, verifying

from components.common.errors import ParamsError, TrustError
from components.common.params import from_mapping
from components.common.tracking.packages import verify_files
from components.common.trust.config import TrustConfig
from components.common.trust.keys import public_key
from components.common.trust.signature_check import NOT_CHECKED, UNCHECKED, SignatureCheck, check_file, check_package
from components.common.trust.signatures import sign, signed_files
from tests.components.common.trust.key_files import write_keys, write_text_package


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("keys"), "stranger")


@pytest.fixture(scope="module")
def signed(owner, tmp_path_factory):
    folder = write_text_package(tmp_path_factory.mktemp("signed") / "package")
    sign(folder, owner.key)
    return folder


@pytest.fixture
def package(signed, tmp_path):
    """A copy that a test may damage; a signature does not depend on the name of the folder."""
    return shutil.copytree(signed, tmp_path / "copy")


def test_a_signature_lists_every_other_file_and_is_no_part_of_the_package(package, owner) -> None:
    listed = signed_files(package / "model.sig", public_key(str(owner.public)), "model.sig")
    assert listed.keys() == {path.name for path in package.iterdir()} - {"model.sig"}
    assert {"sbom.cdx.json", "export.json"} <= listed.keys()
    verify_files(package)
    text = (package / "model.sig").read_text()
    payload = base64.b64decode(json.loads(text)["dsseEnvelope"]["payload"]).decode()
    assert str(package.parent) not in payload and "mobanet-package" in payload


def test_a_valid_signature_names_the_key(package, owner) -> None:
    for required in (True, False):
        found = check_package(package, owner.trusted(required))
        assert (found.state, found.passed) == ("valid", True)
        assert found.sentence == f"valid: key {owner.key.fingerprint[:12]}"


def test_signing_again_replaces_the_signature(package, owner, stranger) -> None:
    sign(package, stranger.key)
    assert check_package(package, stranger.trusted()).state == "valid"
    with pytest.raises(TrustError, match="made with another key"):
        check_package(package, owner.trusted())


def test_model_signing_accepts_this_signature_and_its_own_is_accepted_here(package, owner) -> None:
    config = verifying.Config().use_elliptic_key_verifier(public_key=owner.public)
    config.verify(package, package / "model.sig")
    (package / "model.sig").unlink()
    ignored = hashing.Config().set_ignored_paths(paths=["model.sig"])
    other = signing.Config().use_elliptic_key_signer(private_key=owner.private).set_hashing_config(ignored)
    other.sign(package, package / "model.sig")
    assert check_package(package, owner.trusted()).state == "valid"


def changed_text(folder, edit):
    """Edit the signature as JSON."""
    content = json.loads((folder / "model.sig").read_text())
    edit(content)
    (folder / "model.sig").write_text(json.dumps(content))


def edited_payload(content):
    """List another checksum of a file."""
    envelope = content["dsseEnvelope"]
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"]["resources"][0]["digest"] = "0" * 64
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


def in_shards(folder, owner):
    """Sign parts of files, which cannot be checked one by one here."""
    files = hashing.Config().use_shard_serialization().set_ignored_paths(paths=["model.sig"])
    config = signing.Config().use_elliptic_key_signer(private_key=owner.private).set_hashing_config(files)
    config.sign(folder, folder / "model.sig")


DAMAGE = {
    "changed file": (lambda f, o, s: (f / "model.onnx").write_text("evil"), "model.onnx: changed since it was signed"),
    "changed record": (lambda f, o, s: (f / "export.json").write_text("{}"), "export.json: changed since"),
    "changed side file": (lambda f, o, s: (f / "sbom.cdx.json").write_text("[]"), "sbom.cdx.json: changed since"),
    "extra file": (lambda f, o, s: (f / "evil.py").write_text(""), "evil.py: not signed; remove this file"),
    "extra file of git": (lambda f, o, s: (f / ".gitattributes").write_text(""), ".gitattributes: not signed"),
    "extra link": (lambda f, o, s: (f / "more").symlink_to("/tmp"), "more: not signed"),
    "missing file": (lambda f, o, s: (f / "README.md").unlink(), "README.md: missing, although model.sig lists it"),
    "renamed file": (
        lambda f, o, s: (f / "model.onnx").rename(f / "model.pt2"),
        "model.onnx: missing, although model.sig lists it",
    ),
    "swapped files": (
        lambda f, o, s: shutil.copy(f / "README.md", f / "model.onnx"),
        "model.onnx: changed since it was signed",
    ),
    "other key": (lambda f, o, s: sign(f, s.key), "model.sig: made with another key"),
    "empty signature": (lambda f, o, s: (f / "model.sig").write_text(""), "model.sig: not a readable signature"),
    "no signature at all": (lambda f, o, s: (f / "model.sig").write_text('{"a": []}'), "not a readable signature"),
    "deep signature": (lambda f, o, s: (f / "model.sig").write_text("[" * 100_000), "not a readable signature"),
    "huge signature": (lambda f, o, s: (f / "model.sig").write_text(" " * 5_000_000), "too large for a signature"),
    "edited list": (lambda f, o, s: changed_text(f, edited_payload), "the signature is wrong, because it or its list"),
    "no signatures in it": (
        lambda f, o, s: changed_text(f, lambda c: c["dsseEnvelope"].update(signatures=[])),
        "the signature is wrong",
    ),
    "other type of list": (
        lambda f, o, s: changed_text(f, lambda c: c["dsseEnvelope"].update(payloadType="text/plain")),
        "the signature is wrong",
    ),
    "no key named": (
        lambda f, o, s: changed_text(f, lambda c: c["verificationMaterial"]["publicKey"].update(hint="")),
        "made with another key",
    ),
    "claims the trusted key": (
        lambda f, o, s: (
            sign(f, s.key),
            changed_text(f, lambda c: c["verificationMaterial"]["publicKey"].update(hint=o.key.fingerprint)),
        ),
        "the signature is wrong",
    ),
    "shards": (lambda f, o, s: in_shards(f, o), "does not list the sha256 of whole files"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_not_the_signed_package_is_refused_whether_or_not_a_signature_is_required(
    package, owner, stranger, kind
) -> None:
    damage, sentence = DAMAGE[kind]
    damage(package, owner, stranger)
    for required in (True, False):
        with pytest.raises(TrustError, match=sentence) as caught:
            check_package(package, owner.trusted(required), "models:/city/1")
        assert str(caught.value).startswith("models:/city/1/") and "\n" not in str(caught.value)


def test_the_signature_of_another_package_of_the_same_owner_is_refused(package, owner, tmp_path) -> None:
    other = write_text_package(tmp_path / "other")
    (other / "model.onnx").write_text("an earlier version")
    sign(other, owner.key)
    shutil.copy(other / "model.sig", package / "model.sig")
    with pytest.raises(TrustError, match="model.onnx: changed since it was signed"):
        check_package(package, owner.trusted())


def test_a_package_without_a_signature_is_refused_only_where_one_is_required(package, owner, caplog) -> None:
    (package / "model.sig").unlink()
    with caplog.at_level(logging.INFO):
        assert check_package(package, owner.trusted(required=False)) == SignatureCheck("missing")
    assert "no signature, and none is required" in caplog.text
    with pytest.raises(TrustError, match=r"no signature \(model.sig\), but trust.require_signature is true; sign"):
        check_package(package, owner.trusted())


def test_without_a_public_key_nothing_is_checked_and_the_log_says_so(package, caplog) -> None:
    (package / "model.sig").write_text("damaged")
    with caplog.at_level(logging.INFO):
        assert check_package(package, UNCHECKED) == NOT_CHECKED
    assert "the signature is not checked, because trust.public_key is null" in caplog.text


def test_one_file_is_checked_without_the_others(package, owner) -> None:
    for path in package.iterdir():
        if path.name not in ("model.onnx", "model.sig"):
            path.unlink()
    assert check_file(package / "model.onnx", owner.trusted()).state == "valid"
    (package / "model.onnx.data").write_text("weights that nobody signed")
    with pytest.raises(TrustError, match=r"model\.onnx\.data: not signed"):
        check_file(package / "model.onnx", owner.trusted())
    (package / "README.md").write_text("model.onnx")  # the content of another signed file
    with pytest.raises(TrustError, match=r"README\.md: changed since it was signed"):
        check_file(package / "README.md", owner.trusted())


def test_requiring_a_signature_without_a_key_is_one_sentence() -> None:
    with pytest.raises(ParamsError, match="trust.require_signature is true, but public_key is null; set public_key"):
        from_mapping(TrustConfig, {"require_signature": True, "public_key": None}, "trust")


@pytest.mark.parametrize(
    ("state", "required", "passed"),
    [
        ("valid", True, True),
        ("missing", False, True),
        ("missing", True, False),
        ("invalid", False, False),
        ("not checked", False, True),
    ],
)
def test_what_a_state_means(state, required, passed) -> None:
    assert SignatureCheck(state, required=required).passed == passed
