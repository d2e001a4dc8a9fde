"""S3 for maps of a pipeline run: list, download and upload objects, with one sentence for every failure.

Address and keys come from the `AWS_*` variables, as everywhere in boto3. boto3 repeats a failed request itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.common.data.config import S3
from components.common.errors import DataError, TemporaryError, reason
from components.common.files import replacing

TEMPORARY = {"500", "502", "503", "504", "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"}
"""Codes of errors that may not happen again."""

ABSENT = {"404", "NoSuchKey"}
"""Codes of the answer that there is no such object."""


class MissingObjectError(DataError):
    """The server says that there is no such object."""


def objects(uri: str) -> list[str]:
    """URIs of the objects below a prefix, sorted.

    Raises:
        DataError: the bucket cannot be read.
        TemporaryError: the server does not answer.
    """
    bucket, prefix = _split(uri)
    folder = f"{prefix.rstrip('/')}/" if prefix else ""
    with _one_sentence(uri):
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    return [f"{S3}{bucket}/{key}" for key in sorted(keys) if not key.endswith("/")]


def download(uri: str, target: Path) -> None:
    """Download one object.

    Raises:
        MissingObjectError: there is no such object.
        DataError: the object cannot be read.
        TemporaryError: the server does not answer.
    """
    bucket, key = _split(uri)
    with _one_sentence(uri), replacing(target) as draft:
        _client().download_file(bucket, key, str(draft))


def upload(file: Path, uri: str, content_type: str) -> None:
    """Upload one file.

    Raises:
        DataError: the object cannot be written.
        TemporaryError: the server does not answer.
    """
    bucket, key = _split(uri)
    with _one_sentence(uri):
        _client().upload_file(str(file), bucket, key, ExtraArgs={"ContentType": content_type})


def require_bucket(uri: str) -> None:
    """Check that the bucket of a URI exists; whether it can be written is known only at the upload.

    Raises:
        DataError: the bucket does not exist, or the keys are wrong.
        TemporaryError: the server does not answer.
    """
    bucket, _ = _split(uri)
    with _one_sentence(uri):
        _client().list_objects_v2(Bucket=bucket, MaxKeys=1)


def _client() -> Any:
    import boto3

    return boto3.client("s3")


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3).partition("/")
    return bucket, key


@contextmanager
def _one_sentence(uri: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
        code = str(cause.response["Error"].get("Code")) if isinstance(cause, ClientError) else ""
        if isinstance(cause, ConnectionError | HTTPClientError) or code in TEMPORARY:
            raise TemporaryError(f"{uri}: the server does not answer ({reason(cause)}); try again later") from None
        failure = MissingObjectError if code in ABSENT else DataError
        raise failure(f"{uri}: access failed ({reason(cause)}); check the name and the AWS_* variables") from None
