"""`mobanet package sign | verify`: the signature of a package, by OpenSSF model-signing."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from components.common.errors import TrustError
from components.common.params import section
from components.common.trust.config import TrustConfig
from pipeline.presets.preset import PARAMS_FILE, named_or_shipped

PACKAGE = Annotated[Path, typer.Argument(metavar="PACKAGE", help="Folder that the export step wrote.")]
PARAMS = Annotated[Path, typer.Option(metavar="FILE", help="Params file; without params.yaml, the shipped defaults.")]


def sign(
    package: PACKAGE = Path("package"),
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Private key; default: export.signing_key, else MOBANET_SIGNING_KEY."),
    ] = None,
    params: PARAMS = PARAMS_FILE,
) -> None:
    """Sign a package: write model.sig, which covers every other file, after the checksums of the package are checked.

    The environment variable MOBANET_SIGNING_KEY holds the text of a key. Sign a package before you register it.
    """
    from components.common.tracking.packages import verify_files, verify_statement
    from components.common.trust.keys import VARIABLE, private_key
    from components.common.trust.signatures import sign as sign_folder
    from components.export.config import ExportConfig

    found = private_key(key or section(named_or_shipped(params), "export", ExportConfig).signing_key)
    if found is None:
        raise TrustError(f"there is no key to sign with; pass --key FILE, or put the text of a key into {VARIABLE}")
    verify_files(package)
    verify_statement(package)
    typer.echo(f"{sign_folder(package, found)}: signed with the key {found.fingerprint[:12]}")


def verify(
    package: Annotated[
        str,
        typer.Argument(metavar="PACKAGE", help="Folder, models:/NAME@ALIAS or models:/NAME/VERSION."),
    ] = "package",
    public_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Public key of whoever signs; default: trust.public_key.")
    ] = None,
    params: PARAMS = PARAMS_FILE,
) -> None:
    """Check that a package consists of its exported files, and that the owner of a key signed exactly these.

    Exit 0: the signature is valid. Exit 2: it is missing or wrong, or a file is not the signed one.
    """
    from components.common.tracking.packages import verify_files, verify_statement
    from components.common.tracking.registered_models import SCHEME, fetch_package
    from components.common.trust.signature_check import check_package

    trusted = public_key or section(named_or_shipped(params), "trust", TrustConfig).public_key
    if trusted is None:
        raise TrustError("there is no public key to check with; pass --public-key FILE, or set trust.public_key")
    with ExitStack() as stack:
        folder, shown = Path(package), package
        if package.startswith(SCHEME):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder, version = fetch_package(package, place, "PACKAGE")
            shown = version.uri
        else:
            verify_files(folder)
        found = check_package(folder, TrustConfig(require_signature=True, public_key=trusted), shown)
        verify_statement(folder)
    typer.echo(f"{shown}: the signature is {found.sentence}")
