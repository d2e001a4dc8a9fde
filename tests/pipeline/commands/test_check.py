from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest
import typer

from components.common.data.datasets import split
from components.common.entrypoints.dvc import exit_code
from pipeline.commands.check import check
from tests.isprs_package import write_package
from tests.repo.import_graph import ROOT

SPLIT = "official-minus-7_10"
LIMITS = {
    "max_dsm_missing_share": 0.5,
    "max_disagreement_share": 0.01,
    "max_class_share_deviation": 1.0,
    "accept": {},
    "workers": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All tiles of a split, without faults."""
    return write_package(tmp_path_factory.mktemp("unpacked"), "potsdam", split("potsdam", SPLIT).tiles, form="folder")[
        0
    ]


@pytest.fixture
def data_check(tmp_path, monkeypatch, capsys):
    """Run the command; returns exit code, stdout, stderr."""
    params = tmp_path / "params.yaml"
    reader = {"max_pad_px": 8, "max_unknown_share": 0.001}
    params.write_text(json.dumps({"check": LIMITS, "preprocess": reader}))
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(check)

    def data_check(*words):
        monkeypatch.setattr(sys, "argv", ["check", *map(str, words), "--params", str(params)])
        try:
            code = exit_code(app)
        except SystemExit as done:
            code = done.code
        return code, *capsys.readouterr()

    return data_check


def test_a_clean_split_ends_with_0(data_check, folder):
    code, out, _ = data_check(folder, "--split", SPLIT)
    assert code == 0
    assert out.splitlines()[-1] == "37 tiles of potsdam: 0 error, 0 warning, 0 accepted, 0 repaired"


def test_the_table_fits_120_columns_and_names_what_is_read(data_check, folder):
    _, out, _ = data_check(folder, "--split", SPLIT)
    table = out.split("share of the labelled")[0].splitlines()
    assert max(len(line) for line in table) <= 120
    assert sum("64 x 64" in line for line in table) == 4 * 37
    assert "32633" in out and "low_vegetation" in out


def test_findings_end_with_1_and_are_grouped_by_code(data_check, tmp_path):
    folder = write_package(tmp_path, "potsdam", ["2_10", "2_11"], form="folder", lossy=("2_10", "2_11"))[0]
    code, out, _ = data_check(folder)
    assert code == 1
    assert "repaired  colours-snapped: colours close to a class's; given to the class (4)" in out
    assert out.index("warning  split-incomplete") < out.index("repaired  colours-snapped")
    assert out.splitlines()[-1] == "2 tiles of potsdam: 0 error, 3 warning, 0 accepted, 4 repaired"


def test_an_accepted_error_is_reported_as_accepted(data_check, tmp_path):
    folder = write_package(tmp_path, "potsdam", ["2_10", "2_11"], form="folder", dsm_blank=("2_11",))[0]
    _, out, _ = data_check(folder)
    assert "error  dsm-constant: one height everywhere (1)" in out
    assert 'to accept it, set check.accept: {dsm-constant: ["2_11"]}' in out
    changed = {"check": LIMITS | {"accept": {"dsm-constant": ["2_11"]}}}
    (tmp_path / "params.yaml").write_text(json.dumps(json.loads((tmp_path / "params.yaml").read_text()) | changed))
    _, out, _ = data_check(folder)
    assert "accepted  dsm-constant: one height everywhere (1)" in out
    assert "to accept it" not in out and out.splitlines()[-1].endswith("0 error, 3 warning, 1 accepted, 0 repaired")


def test_json_stands_alone_on_stdout_and_fits_the_schema(data_check, folder):
    code, out, _ = data_check(folder, "--json")
    schema = json.loads((ROOT / "components/check/check.schema.json").read_text())
    document = json.loads(out)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert code == 1  # of the split with 7_10 and of official, a tile is not there
    assert {one["code"] for one in document["findings"]} == {"split-incomplete"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "no such folder"),
        ((".", "--dataset", "atlantis"), "no data set is called 'atlantis'"),
        (("{folder}", "--split", "mine"), "official-minus-7_10"),
        (("{folder}", "--dataset", "vaihingen"), "holds no file of vaihingen"),
    ],
)
def test_what_cannot_work_ends_with_2_and_one_sentence(data_check, folder, words, said):
    code, out, err = data_check(*(str(folder) if word == "{folder}" else word for word in words))
    assert (code, out) == (2, "")
    assert said in err and len(err.splitlines()) == 1
