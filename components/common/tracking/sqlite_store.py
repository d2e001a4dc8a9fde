"""MLflow stores in databases: creation by one process at a time, and SQLite stores whose folder was moved.

MLflow records absolute paths of artifacts. After the folder of an SQLite store was moved, `python -m
components.common.tracking.sqlite_store` replaces the old folder by the current one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from components.common.errors import MobanetError, TrackingError, root
from components.common.tracking.addresses import explained, kind, shown

LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Table -> column with the place of artifacts."""

COMMAND = "python -m components.common.tracking.sqlite_store"

CREATION_S = 300.0
"""Longest wait for another process that creates the store, seconds."""


def require_tables(uri: str) -> None:
    """Check that a database can be opened. It is left as it is.

    Raises:
        Exception: any error of SQLAlchemy or of the driver.
    """
    import sqlalchemy

    parsed = sqlalchemy.make_url(uri)
    engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": 5} if parsed.host else {})
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


@contextmanager
def creation(uri: str) -> Iterator[None]:
    """Let only one process at a time create an SQLite store; others wait until it has all tables.

    The lock file exists from before the first table until after the last. So a store with tables and without a lock
    file is complete.
    """
    from filelock import FileLock

    database = _file(uri)
    if database is None or not database.parent.is_dir():
        yield
        return
    lock = database.with_name(f"{database.name}.lock")
    if database.is_file() and database.stat().st_size and not lock.exists():
        yield
        return
    with FileLock(lock, timeout=CREATION_S):
        yield
        lock.unlink(missing_ok=True)


def require_place(uri: str) -> None:
    """Check that the artifacts of an SQLite store are where it has recorded them.

    Raises:
        TrackingError: its folder was moved.
    """
    for old, new in moved(uri):
        raise TrackingError(
            f"the MLflow store {_file(uri)} was moved: its artifacts are in {new}, but it has recorded {old}; run "
            f"`{COMMAND}` there, which corrects the recorded paths"
        )


def moved(uri: str) -> list[tuple[Path, Path]]:
    """Folders that an SQLite store has recorded and that do not exist, each with the folder that has its artifacts."""
    database = _file(uri)
    if database is None or not database.is_file():
        return []
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    try:
        if not sqlalchemy.inspect(engine).has_table("experiments"):
            return []
        with engine.connect() as connection:
            rows = connection.execute(sqlalchemy.text("SELECT artifact_location FROM experiments")).scalars().all()
    finally:
        engine.dispose()
    pairs = (_moved(path, database.resolve().parent) for path in map(_local, rows) if path is not None)
    return list(dict.fromkeys(pair for pair in pairs if pair is not None))


def relocate(uri: str) -> list[tuple[Path, Path]]:
    """Replace the recorded folders of a moved SQLite store. Returns the pairs (old folder, current folder)."""
    import sqlalchemy

    pairs = moved(uri)
    if not pairs:
        return []
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.begin() as connection:
            for old, new in pairs:
                for before, after in ((f"{old}/", f"{new}/"), (f"{old.as_uri()}/", f"{new.as_uri()}/")):
                    for table, column in LOCATIONS.items():
                        statement = sqlalchemy.text(
                            f"UPDATE {table} SET {column} = :after || substr({column}, :rest) "
                            f"WHERE substr({column}, 1, :length) = :before"
                        )
                        given = {"before": before, "after": after, "length": len(before), "rest": len(before) + 1}
                        connection.execute(statement, given)
    finally:
        engine.dispose()
    return pairs


def _moved(recorded: Path, folder: Path) -> tuple[Path, Path] | None:
    """The old and the current root of a recorded path, if it does not exist but its last parts do in `folder`."""
    if recorded.exists():
        return None
    for count in range(len(recorded.parts) - 1, 0, -1):
        tail = recorded.parts[-count:]
        if folder.joinpath(*tail).exists():
            return Path(*recorded.parts[:-count]), folder
    return None


def _local(location: str | None) -> Path | None:
    """Path of a place on this machine; None for a place in a bucket or behind a server."""
    text = location or ""
    if text.startswith("file:///"):
        text = unquote(text.removeprefix("file://"))
    return Path(text) if text.startswith("/") else None


def _file(uri: str) -> Path | None:
    """File of an SQLite store; None for another database or one in memory."""
    if kind(uri) != "database" or not uri.startswith("sqlite"):
        return None
    import sqlalchemy

    name = sqlalchemy.make_url(uri).database
    return Path(name).absolute() if name and name != ":memory:" else None


def main(arguments: Sequence[str]) -> int:
    """Correct the paths of the store that an argument or `MLFLOW_TRACKING_URI` names, else of `mlflow.db` here.

    Raises:
        TrackingError: the database cannot be read or written.
    """
    import mlflow
    import sqlalchemy

    uri = arguments[0] if arguments else mlflow.get_tracking_uri()
    try:
        pairs = relocate(uri)
    except sqlalchemy.exc.SQLAlchemyError as error:
        problem = explained(root(error), uri)
        raise TrackingError(f"{shown(uri)} cannot be corrected ({problem}); check the file and its rights") from None
    for old, new in pairs:
        print(f"{old} -> {new}")
    print(f"{len(pairs)} folders corrected")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MobanetError as error:
        sys.exit(f"error: {error}")
