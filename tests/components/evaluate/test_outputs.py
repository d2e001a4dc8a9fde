"""components/evaluate/outputs.py: writes all files or none, and no files of other steps."""

import pytest

from components.evaluate import outputs, report
from components.evaluate.config import EvaluateConfig
from components.evaluate.step import run

CONFIG = EvaluateConfig(window_px=16, stride_px=16, batch_size=8, failure_probability=0.1, panel_px=64)


def contents(folder) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_earlier_reports_survive_a_failure_to_the_byte(make_store, use_network, by_rule, tmp_path, monkeypatch) -> None:
    store, reports = make_store(), tmp_path / "reports"
    weights = use_network(by_rule(), store)
    run(CONFIG, store, weights, reports)
    before = contents(reports)

    def fail(*arguments) -> str:
        raise RuntimeError("the last file cannot be made")

    monkeypatch.setattr(report, "render", fail)
    use_network(by_rule(uses_dsm=False), store)
    with pytest.raises(RuntimeError):
        run(CONFIG, store, weights, reports)
    assert contents(reports) == before
    assert {path.name for path in reports.iterdir()} == set(outputs.OWNED)


def test_a_second_evaluation_replaces_its_own_files_and_no_others(make_store, use_network, by_rule, tmp_path) -> None:
    reports = tmp_path / "reports"
    store = make_store()
    run(CONFIG, store, use_network(by_rule(), store), reports)
    (reports / "parity.json").write_text("{}")
    store = make_store(test=("5_11",))
    run(CONFIG, store, use_network(by_rule(), store), reports)
    assert (reports / "parity.json").read_text() == "{}"
    assert [path.name for path in (reports / "panels").iterdir()] == ["5_11.png"]


def test_the_same_input_gives_the_same_bytes(make_store, use_network, by_rule, tmp_path) -> None:
    store = make_store()
    weights = use_network(by_rule(), store)
    for name in ("one", "two"):
        run(CONFIG, store, weights, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
