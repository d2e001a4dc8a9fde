"""components/serve/following.py, served.py: a model follows its alias; nobody notices an exchange."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.common.errors import DataError, ParamsError, TrackingError, WeightsError
from components.common.tracking.packages import package_digest, read_record
from components.common.tracking.registered_models import RegisteredVersion
from components.serve.following import ModelSource
from components.serve.refusals import RequestError
from components.serve.served import Identity
from tests.components.serve.conftest import opener

URI = "models:/mobanet@champion"


class FakeRegistry:
    """Versions whose packages are one folder; an alias; and failures on request."""

    def __init__(self, package: Path) -> None:
        self.package, self.champion, self.fetched = package, "1", []
        self.broken: set[str] = set()  # versions that cannot be fetched
        self.away = False

    def resolve(self, uri, setting="--model"):
        if self.away:
            raise TrackingError("http://mlflow: no answer; check the server")
        return RegisteredVersion("mobanet", uri.rpartition("/")[2] if "@" not in uri else self.champion, {}, None)

    def fetch_package(self, uri, folder, setting="--model"):
        found = self.resolve(uri)
        self.fetched.append(found.version)
        if found.version in self.broken:
            raise TrackingError(f"{uri}: model.safetensors is not the file that was registered")
        return shutil.copytree(self.package, folder, dirs_exist_ok=True), found


class FakeServed:
    """A model that opens at once."""

    def __init__(self, package, registered) -> None:
        self.identity = Identity(*registered, "0" * 64, "1" * 64)
        self.uses, self.retired = 0, False

    def use(self):
        self.uses += not self.retired
        return not self.retired

    def release(self):
        self.uses -= 1

    def retire(self):
        self.retired = True


def wait_for(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    assert condition()


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "package").mkdir()
    return FakeRegistry(tmp_path / "package")


@pytest.fixture
def source(registry):
    opened = ModelSource(URI, FakeServed, 0.01, registry)
    yield opened
    opened.close()


def test_a_new_champion_and_a_rollback_are_served(source, registry):
    for version in ("2", "3", "2"):
        registry.champion = version
        wait_for(lambda version=version: source.identity.version == version)
    assert source.swaps == 3 and registry.fetched == ["1", "2", "3", "2"]


def test_a_request_ends_with_the_model_that_it_began_with(source, registry):
    with source.lease() as served:
        registry.champion = "2"
        wait_for(lambda: source.identity.version == "2")
        assert served.identity.version == "1" and served.retired and served.uses == 1
    assert served.uses == 0


def test_a_version_that_cannot_be_used_leaves_the_current_one(source, registry, caplog):
    registry.broken, registry.champion = {"2"}, "2"
    wait_for(lambda: source.failures > 1)
    assert source.identity.version == "1" and "not the file that was registered" in source.problem
    assert caplog.text.count("not the file that was registered; version 1 stays") == 1
    registry.champion = "3"
    wait_for(lambda: source.identity.version == "3" and source.problem is None)


def test_a_problem_names_the_version_and_no_temporary_folder(registry):
    def damaged(package, registered):
        raise WeightsError(f"{package}: the logits of the stored crops differ")

    with pytest.raises(WeightsError, match="^models:/mobanet/1: the logits of the stored crops differ$"):
        ModelSource(URI, damaged, 1.0, registry)


def test_a_registry_that_does_not_answer_leaves_the_current_model(source, registry):
    registry.away = True
    wait_for(lambda: source.failures > 1)
    with source.lease() as served:
        assert served.identity.version == "1"
    registry.away, registry.champion = False, "2"
    wait_for(lambda: source.identity.version == "2" and source.problem is None)


def test_a_version_by_number_is_not_followed(registry):
    source = ModelSource("models:/mobanet/1", FakeServed, 0.01, registry)
    registry.champion = "2"
    time.sleep(0.05)
    assert source.identity.version == "1" and registry.fetched == ["1"]
    source.close()


def test_after_close_requests_are_refused_and_the_model_is_retired(registry):
    source = ModelSource(URI, FakeServed, 0.01, registry)
    with source.lease() as served:
        source.close()
        assert served.retired
    with pytest.raises(RequestError, match="the service has no model") as error, source.lease():
        pass
    assert error.value.status == 503 and source.identity is None


def test_a_registry_that_hangs_does_not_delay_the_end(registry, monkeypatch):
    """A version that arrives after the end is never served."""
    monkeypatch.setattr("components.serve.following.CLOSING_S", 0.05)
    asked, answer, opened = threading.Event(), threading.Event(), []

    def open_late(package, registered):
        opened.append(FakeServed(package, registered))
        if len(opened) > 1:
            asked.set()
            answer.wait(5)
        return opened[-1]

    source = ModelSource(URI, open_late, 0.01, registry)
    registry.champion = "2"
    assert asked.wait(5)
    source.close()
    answer.set()
    source._thread.join(5)
    assert source.identity is None and all(served.retired for served in opened) and source.swaps == 0


@pytest.mark.parametrize("model", ["models:/mobanet", "models:/a/b/c", "models:/mobanet@"])
def test_an_uri_of_another_form_is_an_error(model, registry):
    with pytest.raises(ParamsError, match="not a model; use models:/NAME@ALIAS"):
        ModelSource(model, FakeServed, 1.0, registry)


def test_the_first_model_must_be_usable(registry):
    registry.broken = {"1"}
    with pytest.raises(TrackingError, match="not the file that was registered"):
        ModelSource(URI, FakeServed, 1.0, registry)


def test_a_model_of_the_registry_has_its_name_and_version(package, registry):
    registry.package = package
    source = ModelSource("models:/mobanet/7", opener, 1.0, registry)
    with source.lease() as served:
        identity, predictor = served.identity, served.predictor
        assert (identity.name, identity.version) == ("mobanet", "7")
        assert identity.package_sha256 == package_digest(read_record(package)["sha256"])
        assert (predictor.identity.name, predictor.identity.version) == ("models:/mobanet/7", "7")
        assert predictor.identity.sha256 == identity.sha256
    source.close()


def test_a_retired_model_closes_after_its_last_use(package):
    served = opener(package, None)
    thread = served._thread
    assert served.use()
    served.retire()
    assert not served.use() and thread.is_alive()
    served.release()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("file", ["model.safetensors", "crops.safetensors", "README.md"])
def test_a_package_with_a_changed_file_is_not_served(package, tmp_path, file):
    copy = shutil.copytree(package, tmp_path / "package")
    (copy / file).write_bytes((copy / file).read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=f"{file}: changed since the export"):
        opener(copy, None)


def test_a_model_that_computes_other_logits_than_at_the_export_is_not_served(package, monkeypatch):
    monkeypatch.setattr(
        "components.common.inference.stored_crops.run_crops",
        lambda *_: SimpleNamespace(largest_difference=float("nan")),
    )
    with pytest.raises(WeightsError, match="the logits of the stored crops differ by nan"):
        opener(package, None)


def test_an_error_while_opening_is_raised_where_the_model_is_wanted(package, monkeypatch):
    def broken(*_):
        raise WeightsError("no such network")

    monkeypatch.setattr("components.serve.served.open_model", broken)
    before = threading.active_count()
    with pytest.raises(WeightsError, match="no such network"):
        opener(package, None)
    wait_for(lambda: threading.active_count() <= before)
