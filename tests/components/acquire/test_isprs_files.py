from __future__ import annotations

import json
import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio

from components.acquire import intake, journal
from components.acquire.isprs_files import collect
from components.acquire.journal import JOURNAL
from components.acquire.look import look
from components.common.data import datasets
from components.common.data.rawtree import RECORD, read_raw_tree
from components.common.errors import DataError
from tests.isprs_package import PALETTE, place, raster, scene, world_file, write_package, zipped

POTSDAM, VAIHINGEN = datasets.dataset("potsdam"), datasets.dataset("vaihingen")
KINDS = ("image", "dsm", "label", "eroded")


def importing(sources, out, dataset=POTSDAM, exact=False):
    return collect(sources, dataset, out, exact=exact)


def files(folder: Path) -> dict[str, bytes]:
    """Content of every file, the journal's left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def pixels(folder: Path, kind: str, tile: str, dataset=POTSDAM) -> np.ndarray:
    with rasterio.open(folder / dataset.path(kind, tile)) as file:
        return file.read()


def changes(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_ino for path in folder.rglob("*.*") if path.is_file() and path.name != RECORD}


@pytest.mark.parametrize("form", ["zip", "zips", "folder"])
@pytest.mark.parametrize(
    "traps",
    [
        {},
        {"plain_dsm_ids": True, "padded_ids": True, "capitals": True},
        {"renamed_folders": True, "deflated_outside": True, "georeference": "apart"},
        {"georeference": "world"},
        {"no_crs": True, "twice": ("2_10",)},
    ],
)
def test_any_arrangement_gives_one_tree_with_georeference(tmp_path, form, traps) -> None:
    sources = write_package(tmp_path / "given", "potsdam", ["2_10", "3_11"], side_px=32, form=form, **traps)
    before = files(tmp_path / "given")
    out = tmp_path / "out"
    tree = importing(sources, out)
    assert tree == read_raw_tree(out)
    assert {(tile, kind) for tile, places in tree.tiles.items() for kind in places} == {
        (tile, kind) for tile in ("2_10", "3_11") for kind in KINDS
    }
    rasters = {POTSDAM.path(k, t) for k in KINDS for t in ("2_10", "3_11")}
    worlds = {path.replace(".tif", ".tfw") for path in rasters} if "georeference" in traps else set()
    assert files(out).keys() == rasters | worlds | {RECORD}
    for tile in tree.tiles:
        for kind, layer in zip(KINDS, ("rgb", "absolute", "label", "eroded"), strict=True):
            with rasterio.open(tree.file(tile, kind)) as file:
                assert np.array_equal(file.read(), scene("potsdam", tile, 32)[layer])
                assert file.transform.almost_equals(place("potsdam", tile, 32))
                assert (file.crs is None) == bool(worlds or "no_crs" in traps)
    assert files(tmp_path / "given") == before


@pytest.mark.parametrize("form", ["zip", "folder"])
@pytest.mark.parametrize("renamed", [False, True])
def test_an_image_and_its_label_of_one_name_come_to_their_places(tmp_path, caplog, form, renamed) -> None:
    sources = write_package(
        tmp_path, "vaihingen", ["1", "38"], form=form, renamed_folders=renamed, georeference="apart"
    )
    importing(sources, tmp_path / "out", VAIHINGEN)
    for tile in ("1", "38"):
        for kind, layer in (("image", "irrg"), ("label", "label"), ("eroded", "eroded")):
            assert np.array_equal(pixels(tmp_path / "out", kind, tile, VAIHINGEN), scene("vaihingen", tile, 64)[layer])
            with rasterio.open(tmp_path / "out" / VAIHINGEN.path(kind, tile)) as file:
                assert file.transform.almost_equals(place("vaihingen", tile, 64))
    assert "its pixels do" not in caplog.text


def test_pixels_overrule_the_name_of_a_folder_and_it_is_said(tmp_path, caplog) -> None:
    sources = write_package(tmp_path, "vaihingen", ["1"], form="folder", swapped=["1"])
    importing(sources, tmp_path / "out", VAIHINGEN)
    assert np.array_equal(pixels(tmp_path / "out", "label", "1", VAIHINGEN), scene("vaihingen", "1", 64)["label"])
    assert "its folders do not suggest a label but its pixels do; used as the label" in caplog.text


def test_where_neither_folder_nor_pixels_tell_nothing_is_guessed(tmp_path, caplog) -> None:
    (tmp_path / "a").mkdir()
    half = np.where(np.arange(32) % 3 < 2, 255, 140).astype(np.uint8)
    content = raster(np.broadcast_to(half, (3, 32, 32)))
    (tmp_path / "a" / "top_mosaic_09cm_area1.tif").write_bytes(content)
    with pytest.raises(DataError, match="none of the files of vaihingen could be read"):
        importing([tmp_path / "a"], tmp_path / "out", VAIHINGEN)
    assert "can be an image or a label" in caplog.text
    (tmp_path / "a").rename(tmp_path / "label")
    assert importing([tmp_path / "label"], tmp_path / "out", VAIHINGEN).tiles["1"].keys() == {"label"}


def test_world_files_get_the_suffix_that_belongs_to_the_format_of_their_raster(tmp_path) -> None:
    dataset = datasets.dataset("potsdam", "rgbir", "lastools")
    layers = ("rgb", "rgbir", "lastools", "absolute", "label")
    sources = write_package(tmp_path / "p", "potsdam", ["2_10"], layers=layers, georeference="apart")
    tree = importing(sources, tmp_path / "out", dataset)
    names = {path.rpartition("/")[2] for path in files(tmp_path / "out")}
    jpeg = "dsm_potsdam_02_10_normalized_lastools"
    rgbir, label = "top_potsdam_2_10_RGBIR", "top_potsdam_2_10_label"
    assert names == {
        f"{jpeg}.jpg",
        f"{jpeg}.jgw",
        *(f"{n}{s}" for n in (rgbir, label) for s in (".tif", ".tfw")),
        RECORD,
    }
    assert tree.tiles["2_10"].keys() == {"image", "dsm", "label"}
    with rasterio.open(tree.file("2_10", "dsm")) as file:
        assert file.transform.almost_equals(place("potsdam", "2_10", 64))


@pytest.mark.parametrize("georeference", ["tiff", "world", "apart", "none"])
def test_rasters_are_linked_and_never_changed(tmp_path, georeference) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10"], form="folder", georeference=georeference)
    importing(sources, tmp_path / "out")
    for name in ("top_potsdam_2_10_RGB.tif", "dsm_potsdam_02_10.tif", "top_potsdam_2_10_label.tif"):
        given = next(path for source in sources for path in source.rglob(name))
        assert next((tmp_path / "out").rglob(name)).samefile(given)


def test_pixel_is_point_keys_and_a_world_file_together_are_brought(tmp_path) -> None:
    """The world file already names the centre of the pixel, so the key must not shift it (case c45)."""
    here, layers = place("vaihingen", "1", 64), scene("vaihingen", "1", 64)
    folder = tmp_path / "given" / "dsm"
    folder.mkdir(parents=True)
    (folder / "dsm_09cm_matching_area1.tif").write_bytes(
        raster(layers["absolute"], crs="EPSG:32632", tags={"AREA_OR_POINT": "Point"})
    )
    (folder / "dsm_09cm_matching_area1.tfw").write_bytes(world_file(here))
    tree = importing([tmp_path / "given"], tmp_path / "out", VAIHINGEN)
    assert tree.tiles == {"1": {"dsm": VAIHINGEN.path("dsm", "1")}}
    dsm = tree.file("1", "dsm")
    assert dsm.read_bytes() == (folder / "dsm_09cm_matching_area1.tif").read_bytes()
    assert dsm.with_suffix(".tfw").read_bytes() == world_file(here)
    with rasterio.open(dsm) as file:
        assert file.transform.almost_equals(here) and file.crs.to_epsg() == 32632


def test_other_sidecars_come_under_the_name_of_their_raster(tmp_path) -> None:
    layers = scene("potsdam", "2_10", 16)
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "TOP_POTSDAM_02_10_RGB.TIFF").write_bytes(raster(layers["rgb"]))
    (folder / "TOP_POTSDAM_02_10_RGB.TIFF.msk").write_bytes(raster(np.full((1, 16, 16), 255, np.uint8)))
    (folder / "Top_Potsdam_02_10_rgb.PRJ").write_text("PROJCS[]")
    tree = importing([folder], tmp_path / "out")
    image = tree.file("2_10", "image")
    assert {path.name for path in image.parent.iterdir()} == {image.name, f"{image.name}.msk", f"{image.stem}.prj"}


def test_the_world_file_of_the_better_of_two_rasters_is_the_one_that_stays(tmp_path) -> None:
    right, wrong = place("potsdam", "2_10", 64), place("potsdam", "3_11", 64)
    heights, holes = scene("potsdam", "2_10", 64)["absolute"], scene("potsdam", "2_10", 64)["absolute"]
    holes[:, :9] = np.nan
    for name, pixels_BHW, where in (("a", holes, wrong), ("b", heights, right), ("c", holes, wrong)):
        (tmp_path / "given" / name).mkdir(parents=True)
        (tmp_path / "given" / name / "dsm_potsdam_02_10.tif").write_bytes(raster(pixels_BHW))
        (tmp_path / "given" / name / "dsm_potsdam_02_10.tfw").write_bytes(world_file(where))
    for exact in (False, True):
        out = tmp_path / f"out{exact}"
        for _ in range(2):
            tree = importing([tmp_path / "given"], out, exact=exact)
            with rasterio.open(tree.file("2_10", "dsm")) as file:
                assert np.array_equal(file.read(), heights) and file.transform.almost_equals(right)


def test_a_world_file_that_was_lost_or_changed_comes_back(tmp_path) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10"], georeference="apart")
    tree = importing(sources, tmp_path / "out")
    whole = files(tmp_path / "out")
    tree.file("2_10", "dsm").with_suffix(".tfw").unlink()
    tree.file("2_10", "image").with_suffix(".tfw").write_text("1\n" * 6)
    importing(sources, tmp_path / "out")
    assert files(tmp_path / "out") == whole


def test_where_links_are_impossible_files_are_copied(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    sources = write_package(tmp_path, "potsdam", ["2_10"], form="folder")
    tree = importing(sources, tmp_path / "out")
    assert tree.file("2_10", "image").read_bytes() == next(sources[0].rglob("*_RGB.tif")).read_bytes()


def test_a_second_run_changes_nothing(tmp_path, caplog) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10", "2_11"], twice=["2_10"], georeference="apart")
    importing(sources, tmp_path / "out")
    before = changes(tmp_path / "out")
    caplog.clear()
    tree = importing(sources, tmp_path / "out")
    assert changes(tmp_path / "out") == before
    assert tree == read_raw_tree(tmp_path / "out") and len(tree.tiles) == 2
    assert "keeping" not in caplog.text


def test_a_source_that_is_named_twice_is_read_once(tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    sources = write_package(tmp_path, "potsdam", ["2_10"])
    importing(sources * 2, tmp_path / "out")
    assert "keeping" not in caplog.text


def test_a_file_that_was_lost_or_damaged_comes_back(tmp_path) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10"], twice=["2_10"])
    tree = importing(sources, tmp_path / "out")
    whole = files(tmp_path / "out")
    tree.file("2_10", "dsm").unlink()
    image = tree.file("2_10", "image")
    image.write_bytes(image.read_bytes()[:-100])
    label = tree.file("2_10", "label")
    label.write_bytes(raster(scene("potsdam", "2_11", 64)["label"]))  # another picture, without a georeference
    importing(sources, tmp_path / "out")
    assert files(tmp_path / "out") == whole


def test_further_sources_add_to_the_tree(tmp_path) -> None:
    first = write_package(tmp_path / "1", "potsdam", ["2_10"], layers=("rgb", "label"))
    second = write_package(tmp_path / "2", "potsdam", ["2_10", "2_11"], layers=("absolute",))
    importing(first, tmp_path / "out")
    tree = importing(second, tmp_path / "out")
    assert {tile: set(kinds) for tile, kinds in tree.tiles.items()} == {
        "2_10": {"image", "label", "dsm"},
        "2_11": {"dsm"},
    }


def test_a_better_file_replaces_a_worse_one_and_never_the_other_way_round(tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    good = write_package(tmp_path / "1", "potsdam", ["2_10"])
    worse = write_package(tmp_path / "2", "potsdam", ["2_10"], georeference="none", dsm_nan=["2_10"])
    unreadable = write_package(tmp_path / "3", "potsdam", ["2_10"], truncated=[("2_10", kind) for kind in KINDS[:3]])
    importing(worse, tmp_path / "out")
    importing(good, tmp_path / "out")
    best = files(tmp_path / "out")
    assert "only this one has a position" in caplog.text
    assert "4,096 measured pixels against 4,032" in caplog.text
    for sources in (worse, unreadable, worse + good, unreadable + worse):
        importing(sources, tmp_path / "out")
        assert files(tmp_path / "out") == best
    for number, sources in enumerate((worse + good, good + worse + unreadable, unreadable + worse + good)):
        importing(sources, tmp_path / f"fresh{number}")
        assert files(tmp_path / f"fresh{number}") == best


def test_a_damaged_file_is_named_and_the_others_come(tmp_path, caplog) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10", "2_11"], truncated=[("2_10", "dsm")])
    tree = importing(sources, tmp_path / "out")
    assert "left out: Potsdam.zip/Potsdam/1_DSM.zip/1_DSM/dsm_potsdam_02_10.tif: not a readable TIFF" in caplog.text
    assert set(tree.tiles["2_10"]) == {"image", "label", "eroded"} and set(tree.tiles["2_11"]) == set(KINDS)


def test_world_files_that_come_later_are_brought_to_the_rasters_that_are_there(tmp_path) -> None:
    data, worlds = write_package(tmp_path, "vaihingen", ["1"], georeference="apart")
    importing([data], tmp_path / "out", VAIHINGEN)
    tree = importing([worlds], tmp_path / "out", VAIHINGEN)
    for kind in KINDS:
        with rasterio.open(tree.file("1", kind)) as file:
            assert file.transform.almost_equals(place("vaihingen", "1", 64))
    before = changes(tmp_path / "out")
    importing([data], tmp_path / "out", VAIHINGEN)
    assert changes(tmp_path / "out") == before


def test_world_files_that_fit_nothing_leave_the_tree_as_it_was(tmp_path) -> None:
    importing(write_package(tmp_path / "p", "potsdam", ["2_10"]), tmp_path / "out")
    before = files(tmp_path / "out")
    _, worlds = write_package(tmp_path / "q", "potsdam", ["2_11"], georeference="apart")
    with pytest.raises(DataError, match="holds no file of potsdam"):
        importing([worlds], tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_another_data_set_is_not_mixed_in(tmp_path) -> None:
    importing(write_package(tmp_path / "p", "potsdam", ["2_10"]), tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match="holds the data set potsdam; choose another folder"):
        importing(write_package(tmp_path / "v", "vaihingen", ["1"]), tmp_path / "out", VAIHINGEN)
    assert files(tmp_path / "out") == before


def test_a_source_without_any_file_of_the_data_set_says_what_it_looked_for(tmp_path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "holiday.tif").write_bytes(b"1")
    (tmp_path / "given" / "dsm_potsdam_02_10.tfw").write_bytes(b"1")
    with pytest.raises(DataError, match=r"holds no file of potsdam; .*top_potsdam_2_10_RGB\.tif, dsm_potsdam_02_10"):
        importing([tmp_path / "given"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hostile_source_stops_the_import_before_anything_is_written(tmp_path) -> None:
    sources = write_package(tmp_path / "p", "potsdam", ["2_10"])
    (tmp_path / "evil.zip").write_bytes(zipped({"in.zip": zipped({"../../top_potsdam_2_11_RGB.tif": b"1"})}))
    with pytest.raises(DataError, match="outside"):
        importing([*sources, tmp_path / "evil.zip"], tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.tif"))


def test_more_than_the_disk_holds_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**4))
    with pytest.raises(DataError, match=r"0\.0 GB unpacked, 0\.0 GB are free; make room"):
        importing(write_package(tmp_path, "potsdam", ["2_10"]), tmp_path / "out")
    assert not [path for path in files(tmp_path / "out") if path.endswith(".tif")]


def test_a_mutated_source_is_imported_or_refused_and_every_file_that_comes_is_whole(tmp_path) -> None:
    layers = ("rgb", "lastools", "label")
    (source,) = write_package(
        tmp_path, "potsdam", ["2_10"], side_px=16, form="folder", georeference="world", layers=layers
    )
    given = {path: path.read_bytes() for path in source.rglob("*.*") if path.is_file()}
    rng, outcomes = random.Random(11), set()
    for number in range(100):
        for path, content in given.items():
            changed = bytearray(content)
            for _ in range(rng.choice((1, 2, 8))):
                changed[rng.randrange(min(len(changed), 400))] = rng.randrange(256)
            path.unlink()  # not written over: an earlier tree may share it
            path.write_bytes(changed[: rng.choice((len(changed), len(changed), rng.randrange(len(changed))))])
        try:
            out = tmp_path / str(number)
            tree = importing([source], out, datasets.dataset("potsdam", "rgb", "lastools"))
            for place, kind in ((tree.file("2_10", kind), kind) for kind in tree.tiles["2_10"]):
                look(place, place.suffix, kind)
            outcomes.add(len(tree.tiles["2_10"]))
        except DataError as error:
            assert "\n" not in str(error)
            outcomes.add(0)
    assert {0, 1, 2} <= outcomes


def killed_while(target, name: str, call: int, *arguments) -> None:
    """Run `collect` in a process of its own that gets SIGKILL in the given call of a function."""
    pid = os.fork()
    if pid == 0:
        try:
            whole, calls = getattr(target, name), iter(range(call))

            def counted(*args, **kwargs):
                if next(calls, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return whole(*args, **kwargs)

            setattr(target, name, counted)
            importing(*arguments)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (intake, "look"),
        (intake, "digest"),
        (journal.Journal, "add"),
        (os, "fsync"),
        (os, "replace"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_a_killed_import_leaves_no_half_file_and_goes_on(tmp_path, target, name, exact) -> None:
    sources = write_package(tmp_path, "potsdam", ["2_10", "2_11"], georeference="apart")
    importing(sources, tmp_path / "whole")
    whole, out = files(tmp_path / "whole"), tmp_path / "out"
    for call in (0, 2, 4):
        killed_while(target, name, call, sources, out, POTSDAM, exact)
        done = {path: content for path, content in files(out).items() if not path.endswith(".part")}
        assert done.items() < whole.items() and RECORD not in done
    kept = changes(out)
    tree = importing(sources, out, exact=exact)
    assert files(out) == whole
    in_journal = {json.loads(line).get("place") for line in (out / JOURNAL).read_text().splitlines()}
    assert in_journal - {None} == whole.keys() - {RECORD} and len(tree.tiles) == 2
    assert len(kept.items() & changes(out).items()) >= 2  # the journal and at least the first file


def test_an_exact_tree_holds_its_source_alone(tmp_path) -> None:
    out = tmp_path / "out"
    (out / "old").mkdir(parents=True)
    (out / "old" / "top_potsdam_2_10_RGB.tif").write_bytes(b"1")
    importing(write_package(tmp_path / "1", "potsdam", ["2_10", "2_11"]), out, exact=True)
    assert not (out / "old").exists()
    second = write_package(tmp_path / "2", "potsdam", ["2_11"], georeference="none", dsm_nan=["2_11"])
    tree = importing(second, out, exact=True)
    assert set(tree.tiles) == {"2_11"}
    assert files(out).keys() == {POTSDAM.path(kind, "2_11") for kind in KINDS} | {RECORD}
    assert np.isnan(pixels(out, "dsm", "2_11")).any()  # worse, but what the source holds now
    before = changes(out)
    importing(second, out, exact=True)
    assert changes(out) == before


def test_an_exact_tree_of_another_data_set_keeps_nothing(tmp_path) -> None:
    out = tmp_path / "out"
    importing(write_package(tmp_path / "1", "potsdam", ["2_10"]), out, exact=True)
    importing(write_package(tmp_path / "2", "vaihingen", ["1"]), out, VAIHINGEN, exact=True)
    assert files(out).keys() == {VAIHINGEN.path(kind, "1") for kind in KINDS} | {RECORD}


def test_going_back_to_an_earlier_source_brings_its_files_again(tmp_path) -> None:
    one, two = (write_package(tmp_path / str(n), "potsdam", ["2_10"], unknown_px={"2_10": n}) for n in (1, 2))
    shutil.move(two[0], tmp_path / "Other.zip")
    for sources, count in (([tmp_path / "Other.zip"], 2), (one, 1), ([tmp_path / "Other.zip"], 2), (one, 1)):
        importing(sources, tmp_path / "out", exact=True)
        label = np.moveaxis(pixels(tmp_path / "out", "label", "2_10"), 0, -1)
        assert (~(label[:, :, None] == PALETTE).all(-1).any(-1)).sum() == count
