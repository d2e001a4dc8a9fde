"""components/common/tracking/addresses.py: passwords do not appear in messages, whatever characters they have."""

from __future__ import annotations

import traceback

import pytest

from components.common.errors import TrackingError
from components.common.tracking.addresses import explained, kind, misread, shown
from components.common.tracking.server import connect


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://mlflow:5000", "server"),
        ("sqlite:///mlflow.db", "database"),
        ("postgresql+psycopg://u@h/db", "database"),
        ("mssql+pyodbc:///?odbc_connect=x", "database"),
        *(
            (uri, "other")
            for uri in ("databricks", "databricks://p", "arn:aws:sagemaker:x", "azureml://x", "uc:http://x")
        ),
        *((uri, "other") for uri in ("file:///mlruns", "/mlruns", "mlruns", "pigeon://x")),
    ],
)
def test_the_scheme_of_an_address_decides_who_interprets_it(uri, expected) -> None:
    assert kind(uri) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://user:secret@h:5000", "http://user:***@h:5000"),
        ("http://secret-token@h:5000", "http://***@h:5000"),
        ("https://ada@example.org:secret@h:5000", "https://ada@example.org:***@h:5000"),
        ("https://team/ada:secret@h:5000", "https://team/ada:***@h:5000"),
        ("http://secret@token@h:5000", "http://***@h:5000"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("postgresql://ada@server:secret@h/db", "postgresql://ada%40server:***@h/db"),
        ("postgresql://team/ada:secret@h/db", "postgresql://team/ada:***@h/db"),
        ("postgresql://user:sec%40ret@h/db", "postgresql://user:***@h/db"),
        ("postgresql://user:sec?r#e/t@h/db", "postgresql://user:***@h/db"),
        (
            "postgresql://user@h/db?password=secret&sslmode=require",
            "postgresql://user@h/db?password=***&sslmode=require",
        ),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=***"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_password(uri, expected) -> None:
    assert shown(uri) == expected


CHARACTERS = [*"?#/@:&= %+", "@/", "?@", "//", "%40"]


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql", "mysql+pymysql", "carrier-pigeon"])
@pytest.mark.parametrize("character", CHARACTERS)
def test_no_character_brings_a_password_into_a_message(scheme, character, monkeypatch) -> None:
    first, last = f"hidden{character}", f"{character}covert"
    uri = f"{scheme}://user:{first}{last}@127.0.0.1:9/db"
    assert shown(uri).startswith(f"{scheme}://user:***@127.0.0.1:9/db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError) as caught:
        connect()
    told = str(caught.value) + "".join(traceback.format_exception(caught.value))
    assert "hidden" not in told and "covert" not in told


@pytest.mark.parametrize(
    "uri",
    ["postgresql://u:p@ss/w@h/db", "postgresql://u:p@ss@h/db", "http://u:p#s@h", "http://u:p/s@h", "http://a@b:p/s@h"],
)
def test_a_password_that_ends_too_early_for_the_library_is_noticed(uri, monkeypatch) -> None:
    assert misread(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match="write these characters as %40, %2F, %3F and %23 in MLFLOW_TRACKING_URI"):
        connect()


@pytest.mark.parametrize(
    "uri",
    [
        *("http://h:5000/base@2", "http://u:p@s@h", "http://a@b:p@h", "http://u:p@[::1]:5000"),
        *("postgresql://u:p@h/db?options=a@b", "postgresql://u:p#/?@h/db", "postgresql://a@b:p@h/db"),
    ],
)
def test_an_address_that_the_library_reads_correctly_is_not_refused(uri) -> None:
    assert not misread(uri)


def test_the_text_of_an_error_is_masked_with_the_secrets_of_address_and_environment(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "my-token")
    error = ValueError("no host in http://u:sec@h, tried sec and my-token\nsecond line")
    assert explained(error, "http://u:sec@h") == "no host in http://u:***@h, tried *** and ***"
