"""Addresses of MLflow stores: which kind a URI is, and how messages show it.

Passwords never appear in a message. SQLAlchemy renders the address of a database without its password. All other
addresses, and the texts of errors, are searched for what stands before the last `@`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from components.common.errors import reason

Kind = Literal["server", "database", "other"]

DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
"""Schemes that MLflow passes to SQLAlchemy; a driver can follow after `+`."""

PLUGINS = {"arn": "sagemaker-mlflow", "azureml": "azureml-mlflow"}
"""Schemes that MLflow supports with a plugin -> the package that contains it."""

CREDENTIALS = re.compile(
    r"(?P<begin>^[\w.+-]+://)(?P<user>[^:/][^:?#]*(?=:)|[^:/?#]*)(?P<password>:.*)?@(?P<rest>[^@]*)$", re.DOTALL
)
"""User and password of an address. A password can contain any character, so it ends at the last `@`. A user can be an
e-mail address."""

MISREAD = re.compile(r"[^@]*@(?:[^?]*|[^?]*\?[^=]*)@")
"""Password of a database with an `@`, and what follows; SQLAlchemy ends the password at the first one."""

IPV6 = re.compile(r"^\[.*\]")
"""Host of an address with colons."""

SECRET_OPTION = re.compile(
    r"(\b[^=?&;\s]*(?:pass|pwd|token|secret|key|sig|odbc_connect)[^=?&;\s]*=)([^&;\s]+)", re.IGNORECASE
)
"""An option such as `?password=...` in an address."""

SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Environment variables whose values messages must not contain."""

REGISTRY = "MLFLOW_REGISTRY_URI"
"""Environment variable with the address of a separate registry."""

STARS = "***"
SHORTEST = 3
"""Fewest characters of a piece of a password that is masked in an error; shorter pieces are parts of other words."""


def kind(uri: str) -> Kind:
    """What a URI names: a server, a database, or something that only MLflow can interpret (Databricks, plugins)."""
    scheme = _scheme(uri)
    if scheme in ("http", "https"):
        return "server"
    return "database" if scheme.split("+")[0] in DATABASES else "other"


def plugin(uri: str) -> str | None:
    """Package with the plugin that a URI needs; None if MLflow has no well-known plugin for its scheme."""
    return PLUGINS.get(_scheme(uri))


def misread(uri: str) -> bool:
    """Whether characters of the password are read as a part of the host or path, because they are not encoded."""
    match = CREDENTIALS.match(uri)
    if match is None:
        return False
    if kind(uri) == "database":
        return "/" in match["user"] or MISREAD.match(uri, match.end("user")) is not None
    host = urlsplit(uri).netloc.rpartition("@")[2]
    port = IPV6.sub("", host).partition(":")[2]
    return "/" in match["user"].partition("@")[0] or (port != "" and not port.isdigit())


def shown(uri: str) -> str:
    """A URI for messages, with password and secret options masked."""
    if CREDENTIALS.match(uri) and kind(uri) == "database" and not misread(uri):
        import sqlalchemy

        try:
            uri = sqlalchemy.make_url(uri).render_as_string(hide_password=True)
        except sqlalchemy.exc.ArgumentError:
            uri = _without_credentials(uri)
    else:
        uri = _without_credentials(uri)
    return SECRET_OPTION.sub(rf"\1{STARS}", uri)


def explained(error: BaseException, uri: str, longest: int = 200) -> str:
    """The first line of an error, without the secrets of an address and of the environment."""
    text = (str(error).strip().splitlines() or [""])[0] or reason(error)
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, STARS)
    return SECRET_OPTION.sub(rf"\1{STARS}", text)[:longest].rstrip(" .")


def _scheme(uri: str) -> str:
    return uri.partition(":")[0].lower() if ":" in uri else ""


def _without_credentials(uri: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        user = f"{match['user']}:" if match["password"] else ""  # without a password, the user can be a token
        return f"{match['begin']}{user}{STARS}@{match['rest']}"

    return CREDENTIALS.sub(replaced, uri)


def _secrets(uri: str) -> Iterator[str]:
    """Passwords and tokens, and the pieces into which a library could have split them."""
    given = [os.environ.get(name, "") for name in SECRETS]
    for address in (uri, os.environ.get(REGISTRY, "")):
        if match := CREDENTIALS.match(address):
            user = "" if kind(address) == "database" else match["user"]  # of a server, it can be a token
            given.append(match["password"][1:] if match["password"] else user)
        given += [option[2] for option in SECRET_OPTION.finditer(address)]
    for secret in filter(None, given):
        yield from {secret, unquote(secret), quote(secret, safe="")}
        yield from (piece for piece in re.split(r"[@/?#]", secret) if len(piece) >= SHORTEST and piece != secret)
