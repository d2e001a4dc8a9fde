"""components/predict/publication/buckets.py against a real S3 server."""

from __future__ import annotations

import boto3
import pytest

from components.common.errors import DataError, TemporaryError
from components.predict.publication import buckets
from tests.e2e.conftest import free_port, s3_server

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with the bucket city, which holds a file and a folder marker."""
    (tmp_path / "city/maps").mkdir(parents=True)
    (tmp_path / "city/maps/a.tif").write_bytes(b"a")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with s3_server(tmp_path, "key", "secret") as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        yield tmp_path


def test_what_is_uploaded_is_listed_and_downloaded(server, tmp_path):
    (tmp_path / "b.html").write_text("b")
    buckets.upload(tmp_path / "b.html", "s3://city/maps/b/b.html", "text/html")
    assert buckets.objects("s3://city/maps/") == ["s3://city/maps/a.tif", "s3://city/maps/b/b.html"]
    assert buckets.objects("s3://city/map") == [], "a prefix is a folder"
    buckets.download("s3://city/maps/b/b.html", tmp_path / "c/c.html")
    assert (tmp_path / "c/c.html").read_text() == "b"
    buckets.require_bucket("s3://city/maps")


def test_a_missing_bucket_and_a_wrong_secret_are_one_sentence(server, monkeypatch):
    for call in (buckets.require_bucket, buckets.objects):
        with pytest.raises(DataError, match=r"^s3://village/x: access failed \(.*NoSuchBucket.*\); check the name and"):
            call("s3://village/x")
    with pytest.raises(DataError, match=r"^s3://village/x: access failed"):
        buckets.upload(server / "city/maps/a.tif", "s3://village/x", "image/tiff")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers the keys
    with pytest.raises(
        DataError, match=r"^s3://city/maps: access failed \(.*\); check the name and the AWS_\* variables$"
    ):
        buckets.require_bucket("s3://city/maps")


def test_a_server_that_does_not_answer_may_answer_later(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TemporaryError, match="s3://city/maps: the server does not answer"):
        buckets.require_bucket("s3://city/maps")
    with pytest.raises(TemporaryError, match="s3://city/a.tif: the server does not answer"):
        buckets.upload(server / "city/maps/a.tif", "s3://city/a.tif", "image/tiff")
