from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from components.check.__main__ import main
from components.check.findings import CODES
from components.check.report import as_document
from components.check.step import run
from components.common.data import datasets
from components.common.data.config import DataConfig
from components.common.data.rawtree import RawTree, write_raw_tree
from components.common.errors import DataError, ParamsError
from components.common.readers.tiles import ReaderSettings
from tests.isprs_package import REAL_POTSDAM_TRAPS
from tests.repo.import_graph import ROOT

SETTINGS = ReaderSettings(8, 0.001)
SPLIT = "official-minus-7_10"
SCHEMA = json.loads((ROOT / "components/check/check.schema.json").read_text())

TRAPS = [
    # what the real package has
    ({"lossy": ("2_11",)}, {("colours-snapped", "2_11")}),
    ({"odd_cars": ("2_11",)}, {("colours-snapped", "2_11")}),
    ({"unknown_px": {"2_11": 3}}, {("colours-unknown", "2_11")}),
    ({"dsm_short": {"2_11": 1}}, {("padded", "2_11")}),
    ({"dsm_short": {"2_11": 20}}, {("grid-mismatch", "2_11")}),
    ({"dsm_nodata": ("2_11",)}, {("dsm-holes", "2_11")}),
    ({"dsm_untagged": ("2_11",)}, {("dsm-holes", "2_11")}),
    ({"dsm_nan": ("2_11",)}, {("dsm-holes", "2_11")}),
    ({"dsm_outliers": ("2_11",)}, {("dsm-outliers", "2_11"), ("dsm-holes", "2_11")}),
    ({"dsm_blank": ("2_11",)}, {("dsm-constant", "2_11")}),
    ({"dsm_coarse": ("2_11",)}, {("grid-mismatch", "2_11")}),
    ({"tiles": ("2_10", "7_10")}, {("wrongly-annotated", "7_10")}),
    # what people do to it
    ({"plain_dsm_ids": True, "padded_ids": True, "capitals": True, "renamed_folders": True}, set()),
    ({"georeference": "world"}, set()),
    ({"georeference": "none"}, {("no-georeference", None)}),
    ({"no_crs": True}, set()),
    ({"wrong_crs": ("2_11",)}, {("crs-differs", "2_11")}),
    ({"twice": ("2_11",)}, {("found-twice", "2_11")}),
    ({"copies": {"2_12": "2_11"}}, {("duplicate", "2_12")}),
    ({"same_place": {"2_12": "2_11"}}, {("off-place", "2_12"), ("overlap-large", "2_11")}),
    (
        {"swapped": ("2_11",)},
        {(code, "2_11") for code in ("image-is-label", "label-foreign", "label-unknown", "eroded-differs")}
        | {("colours-snapped", "2_11")},
    ),
    ({"band_swap": ("2_11",)}, {("bands-swapped", "2_11")}),
    ({"missing": [("2_11", "label")]}, {("file-missing", "2_11")}),
    ({"missing": [("2_11", "dsm")]}, {("unpaired", None)}),
    ({"missing": [("2_11", "image")]}, {("unpaired", None)}),
    ({"truncated": [("2_11", "image")]}, {("unreadable", "2_11")}),
    ({"truncated": [("2_11", "label")]}, {("unreadable", "2_11")}),
    ({"layers": ("irrg", "absolute", "label", "eroded")}, set()),
    ({"layers": ("rgbir", "lastools", "label", "eroded")}, set()),
    ({"dataset": "vaihingen", "tiles": ("1", "2", "3", "4")}, set()),
    ({"dataset": "vaihingen", "tiles": ("1", "2", "3", "4"), "band_swap": ("3",)}, {("bands-swapped", "3")}),
]


@pytest.mark.parametrize(
    ("traps", "found"), TRAPS, ids=lambda value: ",".join(value) if isinstance(value, dict) else ""
)
def test_a_trap_is_found_and_nothing_else(package, codes, traps, found):
    assert codes(package(**traps)) == found


def test_a_clean_split_has_no_finding(package, checked):
    report = checked(package(tiles=datasets.split("potsdam", SPLIT).tiles), split=SPLIT)
    assert report.findings == ()
    assert report.class_shares == pytest.approx(
        datasets.dataset("potsdam").class_shares, abs=0.9
    )  # a tile has 64 blocks


def test_every_trap_of_the_real_package_is_repaired(package, checked):
    report = checked(package(tiles=datasets.split("potsdam", "official").tiles, **REAL_POTSDAM_TRAPS), split="official")
    assert {one.code for one in report.findings if one.severity != "repaired"} == {"wrongly-annotated"}
    assert {one.code for one in report.findings if one.severity == "repaired"} == {
        *("padded", "colours-snapped", "dsm-holes", "dsm-outliers"),
    }


def test_the_document_fits_its_schema(package, checked):
    folder = package(
        tiles=(*datasets.split("potsdam", SPLIT).tiles, "7_10"), truncated=[("2_10", "dsm")], lossy=("2_11",)
    )
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for split in (None, SPLIT):
        validator.validate(json.loads(json.dumps(as_document(checked(folder, split=split)), allow_nan=False)))


def test_the_schema_knows_every_code():
    assert set(SCHEMA["properties"]["findings"]["items"]["properties"]["code"]["enum"]) == set(CODES)


@pytest.fixture
def raw(package, checked):
    """A folder as imported."""

    def raw(**traps):
        folder = package(tiles=datasets.split("potsdam", SPLIT).tiles, **traps)
        tiles = {tile: dict(facts.places) for tile, facts in checked(folder).subject.tiles.items()}
        write_raw_tree(RawTree(folder, "isprs", datasets.dataset("potsdam"), tiles))
        return folder

    return raw


DATA = DataConfig(
    source="isprs", dataset="potsdam", split=SPLIT, image=None, dsm=None, path="x", repo=None, rev=None, crs=None
)


def test_the_stage_writes_the_same_report_with_any_number_of_workers(raw, config, tmp_path):
    folder = raw(lossy=("2_11",))
    result = run(DATA, config(), SETTINGS, folder, tmp_path / "one.json")
    assert result.report.counts == {"error": 0, "warning": 0, "accepted": 0, "repaired": 2}
    run(DATA, config(workers=2), SETTINGS, folder, tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_stage_stops_on_errors_and_leaves_the_report(raw, config, tmp_path):
    folder = raw(missing=[("2_10", "label"), ("2_11", "label")])
    with pytest.raises(DataError) as caught:
        run(DATA, config(), SETTINGS, folder, tmp_path / "report.json")
    sentence = str(caught.value)
    assert "\n" not in sentence
    for words in ("2 errors", "tile 2_10", f"mobanet data check {folder} --split {SPLIT}", "report.json"):
        assert words in sentence
    assert json.loads((tmp_path / "report.json").read_text())["counts"]["error"] == 2


def test_the_stage_refuses_another_data_set(raw, config, tmp_path):
    vaihingen = DataConfig(
        source="isprs", dataset="vaihingen", split="ssrs", image=None, dsm=None, path="x", repo=None, rev=None, crs=None
    )
    with pytest.raises(DataError, match="holds potsdam, but data.dataset is vaihingen"):
        run(vaihingen, config(), SETTINGS, raw(), tmp_path / "report.json")


def test_an_accepted_tile_that_is_not_known_is_named(package, checked):
    folder = package()
    with pytest.raises(ParamsError, match=r"^check.accept names the tile '2_99', which potsdam does not have"):
        checked(folder, accept={"dsm-constant": ["2_10", "2_99"]})
    assert checked(folder, accept={"dsm-constant": ["2_10", "7_13"]}).counts["error"] == 0


def test_a_tile_without_any_file_is_an_error_of_a_chosen_split_only(package, checked):
    folder = package()
    chosen = {one.tile for one in checked(folder, split="ssrs").findings if one.code == "tile-missing"}
    assert chosen == set(datasets.split("potsdam", "ssrs").tiles) - {"2_10", "2_11", "2_12", "3_10", "3_11"}
    assert {one.code for one in checked(folder).findings} == {"split-incomplete"}


def test_the_entry_point_reads_its_sections(raw, tmp_path):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"source": "isprs", "dataset": "potsdam", "split": SPLIT, "path": "x"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    main(tmp_path / "params.yaml", raw(), tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["findings"] == []
