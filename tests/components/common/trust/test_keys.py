"""components/common/trust/keys.py: keys of files and of the environment, and what is no usable key."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from components.common.errors import TrustError
from components.common.trust.keys import VARIABLE, as_file, portable, private_key, public_key
from tests.components.common.trust.key_files import write_keys

FORM = Encoding.PEM, PrivateFormat.PKCS8


@pytest.fixture
def owner(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    return write_keys(tmp_path)


def test_both_keys_have_the_fingerprint_that_a_signature_states(owner, caplog) -> None:
    assert private_key(owner.private).fingerprint == hashlib.sha256(owner.public.read_bytes()).hexdigest()
    assert public_key(str(owner.public)).fingerprint == owner.key.fingerprint
    assert not caplog.records


def test_the_environment_holds_the_text_of_a_key_and_a_file_goes_first(owner, tmp_path, monkeypatch) -> None:
    assert private_key(None) is None
    monkeypatch.setenv(VARIABLE, "  \n")
    assert private_key(None) is None
    monkeypatch.setenv(VARIABLE, owner.private.read_text().strip())
    assert private_key(None).fingerprint == owner.key.fingerprint
    other = write_keys(tmp_path, "other")
    assert private_key(other.private).fingerprint == other.key.fingerprint != owner.key.fingerprint


def test_the_text_of_a_public_key_is_as_good_as_its_file(owner) -> None:
    text = portable(str(owner.public))
    assert text == owner.public.read_text() and public_key(text) == public_key(str(owner.public))


def test_a_key_is_read_from_memory_and_no_representation_shows_it(owner) -> None:
    key = owner.key
    with as_file(key) as path:
        assert path.read_bytes() == owner.private.read_bytes() and path.parent.name == "fd"
    assert "PRIVATE" not in repr(key) and "pem" not in repr(key)


def test_a_private_key_that_others_can_read_is_used_with_a_warning(owner, caplog) -> None:
    owner.private.chmod(0o644)
    assert owner.key.fingerprint
    assert f"run `chmod 600 {owner.private}`" in caplog.text


def rsa_pem(private: bool) -> bytes:
    key = rsa.generate_private_key(65537, 1024)
    if private:
        return key.private_bytes(*FORM, NoEncryption())
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def unsupported_curve() -> bytes:
    return ec.generate_private_key(ec.SECP256K1()).private_bytes(*FORM, NoEncryption())


def with_password() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*FORM, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such private key; correct export.signing_key or --key"),
        (b"", "is not a private key as PEM; make one with `openssl ecparam"),
        (b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "is not a private key as PEM"),
        (b"x" * 40_000, "too large for a private key"),
        (lambda: rsa_pem(True), "is not an elliptic key of the curves secp256r1"),
        (unsupported_curve, "is not an elliptic key of the curves secp256r1"),
        (with_password, "is protected by a password, which is not asked for"),
        (lambda: rsa_pem(False), "is a public key, which cannot sign"),
    ],
)
def test_what_is_no_private_key_is_one_sentence_without_its_text(tmp_path, content, sentence) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.touch(0o600)
        file.write_bytes(content if isinstance(content, bytes) else content())
    with pytest.raises(TrustError, match=sentence) as caught:
        private_key(file)
    assert str(file) in str(caught.value) and "BEGIN" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_key_of_the_environment_names_the_variable_and_not_the_key(monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "my secret")
    with pytest.raises(TrustError, match=f"^{VARIABLE} is not a private key") as caught:
        private_key(None)
    assert "my secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such public key; correct trust.public_key"),
        (b"no key", "is not a public key as PEM; write one with `openssl ec -in KEY -pubout`"),
        (unsupported_curve, "is a private key, which must stay secret"),
        (lambda: rsa_pem(False), "is not an elliptic key"),
    ],
)
def test_what_is_no_public_key_is_one_sentence(tmp_path, content, sentence) -> None:
    file = tmp_path / "key.pub.pem"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content())
    with pytest.raises(TrustError, match=sentence):
        public_key(str(file))
    with pytest.raises(TrustError, match="^--public-key is not a public key"):
        public_key("-----BEGIN PUBLIC KEY-----\nAA", "--public-key")
