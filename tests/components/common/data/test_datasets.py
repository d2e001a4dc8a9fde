import json
from dataclasses import asdict

import pytest

from components.common.data import datasets
from components.common.errors import ParamsError


@pytest.mark.parametrize(
    ("dataset", "name", "trainval", "test"),
    [
        ("potsdam", "official", 24, 14),
        ("potsdam", "official-minus-7_10", 23, 14),
        ("potsdam", "ssrs", 18, 6),
        ("sample", "sample", 8, 2),
        ("vaihingen", "official", 16, 17),
        ("vaihingen", "ssrs", 12, 4),
    ],
)
def test_splits_are_disjoint_and_as_large_as_published(dataset, name, trainval, test):
    split = datasets.split(dataset, name)
    assert len(split.train) + len(split.val) == trainval
    assert len(split.test) == test
    assert min(len(split.train), len(split.val)) > 0
    assert len(set(split.tiles)) == trainval + test


def test_the_splits_hold_the_published_tiles():
    official = datasets.split("potsdam", "official")
    assert sorted(official.test) == sorted(
        "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13".split()
    )
    reduced = datasets.split("potsdam", "official-minus-7_10")
    assert set(official.tiles) - set(reduced.tiles) == {"7_10"}
    assert official.val == reduced.val
    ssrs = datasets.split("potsdam", "ssrs")
    assert {*ssrs.train, *ssrs.val} == set(
        "6_10 7_10 2_12 3_11 2_10 7_8 5_10 3_12 5_12 7_11 7_9 6_9 7_7 4_12 6_8 6_12 6_7 4_11".split()
    )
    assert set(ssrs.test) == set("4_10 5_11 2_11 3_10 6_11 7_12".split())
    vaihingen = datasets.split("vaihingen", "official")
    assert {*vaihingen.train, *vaihingen.val} == set("1 3 5 7 11 13 15 17 21 23 26 28 30 32 34 37".split())
    assert set(vaihingen.test) == set("2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38".split())
    four = datasets.split("vaihingen", "ssrs")
    assert {*four.train, *four.val} == set("1 3 23 26 7 11 13 28 17 32 34 37".split())
    assert set(four.test) == set("5 21 15 30".split())


def test_a_tile_knows_its_subset_and_a_stranger_is_refused():
    split = datasets.split("sample", "sample")
    assert [split.subset_of(tile) for tile in ("2_10", "4_10", "5_11")] == ["train", "val", "test"]
    with pytest.raises(KeyError):
        split.subset_of("9_9")


def test_an_unknown_split_names_those_there_are():
    with pytest.raises(ParamsError, match=r"data.split is 'x'; vaihingen has the splits official, ssrs"):
        datasets.split("vaihingen", "x")


ISPRS = ("potsdam", "vaihingen", "sample")


@pytest.mark.parametrize("name", ISPRS)
def test_classes_come_in_label_order_and_clutter_is_left_out_of_the_means(name):
    dataset = datasets.dataset(name)
    assert [c.name for c in dataset.classes] == [
        "impervious", "building", "low_vegetation", "tree", "car", "clutter",
    ]  # fmt: skip
    assert dataset.palette.tolist() == [
        [255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0], [255, 0, 0],
    ]  # fmt: skip
    assert [c.name for c in dataset.classes if not c.in_means] == ["clutter"]


def test_file_names_are_those_of_the_benchmark():
    potsdam, vaihingen = datasets.dataset("potsdam"), datasets.dataset("vaihingen")
    assert potsdam.path("image", "2_10") == "2_Ortho_RGB/top_potsdam_2_10_RGB.tif"
    assert potsdam.path("dsm", "2_10") == "1_DSM/dsm_potsdam_02_10.tif"
    assert potsdam.path("eroded", "7_9") == "5_Labels_all_noBoundary/top_potsdam_7_9_label_noBoundary.tif"
    assert vaihingen.path("label", "1") == "gts_for_participants/top_mosaic_09cm_area1.tif"
    assert (potsdam.image.bands, potsdam.gsd_m) == (("red", "green", "blue"), 0.05)
    assert (vaihingen.image.bands, vaihingen.gsd_m) == (("near infrared", "red", "green"), 0.09)


def test_a_variant_is_chosen_by_name_and_an_unknown_one_names_those_there_are():
    chosen = datasets.dataset("potsdam", image="rgbir", dsm="lastools")
    assert chosen.image.bands == ("red", "green", "blue", "near infrared")
    assert (chosen.dsm.unit_m, chosen.dsm.relative_to) == (0.1, "ground")
    assert chosen.path("dsm", "2_10") == "1_DSM_normalisation/dsm_potsdam_02_10_normalized_lastools.jpg"
    with pytest.raises(ParamsError, match=r"data.dsm is 'x'; potsdam has absolute, lastools, ownapproach"):
        datasets.dataset("potsdam", dsm="x")


def test_every_data_set_has_its_acknowledgement():
    assert "Generated" in datasets.dataset("sample").acknowledgement
    assert "DGPF" in datasets.dataset("vaihingen").acknowledgement
    assert "Cramer, 2010" in datasets.dataset("vaihingen").acknowledgement
    assert "ISPRS" in datasets.dataset("potsdam").acknowledgement


def test_an_unknown_data_set_names_those_there_are():
    with pytest.raises(
        ParamsError, match=r"no data set is called 'toulouse'; datasets/ has potsdam, sample, vaihingen"
    ):
        datasets.dataset("toulouse")


OWN = """
gsd_m: 0.2
crs: null
acknowledgement: Ours.
labels: values
classes:
  - {name: other, rgb: [0, 0, 0], in_means: true, value: 7}
  - {name: roof, rgb: [9, 9, 9], in_means: true, value: 1}
class_shares: null
image:
  ours: {files: "images/{tile}.tif", bands: [a, b, c, d], range: [0, 4000], mean: [0, 0, 0, 0], std: [1, 1, 1, 1]}
dsm:
  ours: {files: mosaic.tif, unit_m: 1, relative_to: datum}
label: "labels/{tile}.png"
eroded: null
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A data set of one's own, its YAML changed by `replace`."""

    def make(*replace, split="train: [a]\nval: [b]\ntest: [c]\n"):
        text = OWN
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / "dataset.yaml").write_text(text)
        (tmp_path / "own" / "ours.yaml").write_text(split)
        monkeypatch.setattr(datasets, "FOLDER", tmp_path)
        return datasets.dataset("own")

    return make


def test_a_pattern_without_a_field_is_one_file_for_all_tiles(own):
    dataset = own()
    assert dataset.path("image", "old_town_3") == "images/old_town_3.tif"
    assert {dataset.path("dsm", tile) for tile in ("old_town_3", "b")} == {"mosaic.tif"}
    assert dataset.path("eroded", "a") is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("gsd_m: 0.2", "gsd_m: 0", "gsd_m is 0.0; expected a number of metres above 0"),
        ("gsd_m: 0.2", "gsd_mm: 200", "gsd_mm is unknown"),
        (", value: 1}", "}", "classes has no value for 'roof'; labels are values"),
        ("value: 1", "value: 7", "classes has one value twice"),
        ("name: roof", "name: other", "classes has one name twice"),
        ("labels: values", "labels: colour", "expected colours or values"),
        ("mean: [0, 0, 0, 0]", "mean: [0, 0, 0]", "mean has 3 numbers; expected one per band, 4"),
        ("std: [1, 1, 1, 1]", "std: [1, 1, 1, 0]", "std is"),
        ("range: [0, 4000]", "range: [4000, 0]", "range is"),
        ("images/{tile}.tif", "../images/{tile}.tif", "expected a path pattern without .."),
        ("images/{tile}.tif", "images/{tile.tif", "not a path pattern"),
        ("images/{tile}.tif", "images/{}.tif", "or fields of letters"),
        ("images/{tile}.tif", "images/{tile}_{r}.tif", "or fields of letters"),
        ("unit_m: 1,", "unit_m: -1,", "unit_m is -1.0"),
        ("in_means: true", "in_means: false", "at least one that counts"),
        ("gsd_m: 0.2", "gsd_m: [", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_data_set_is_one_sentence_that_names_the_file_and_the_key(own, old, new, sentence):
    with pytest.raises(ParamsError) as error:
        own((old, new))
    assert sentence in str(error.value)
    assert "dataset.yaml" in str(error.value)
    assert "\n" not in str(error.value)


FULL = (
    ("files: mosaic.tif, unit_m: 1,", "files: mosaic.tif, bands: [2], nodata: [-9999, 0], scale: 0.01, offset: 200,"),
    ("bands: [a, b, c, d]", "bands: {a: 1, b: 2, c: 3, d: 5}, nodata: [0], scale: 0.0001, offset: -1"),
    (
        'label: "labels/{tile}.png"',
        'label: {files: "labels/{tile}.png", nodata: [], ignore: [0, 5], bands: [1]}',
    ),
    ("eroded: null", 'eroded: {files: "eroded/{tile}.png", ignore: [0]}'),
)


def test_every_key_of_a_layer_is_read(own):
    dataset = own(*FULL)
    assert (dataset.image.bands, dataset.image.band_numbers) == (("a", "b", "c", "d"), (1, 2, 3, 5))
    assert (dataset.image.nodata, dataset.image.scale, dataset.image.offset) == ((0,), 0.0001, -1)
    assert (dataset.dsm.bands, dataset.dsm.nodata, dataset.dsm.scale) == ((2,), (-9999, 0), 0.01)
    assert (dataset.dsm.offset, dataset.dsm.unit_m) == (200, None)
    assert (dataset.label.nodata, dataset.label.ignore, dataset.label.bands) == ((), (0, 5), (1,))
    assert (dataset.eroded.files, dataset.eroded.nodata, dataset.eroded.ignore) == ("eroded/{tile}.png", None, (0,))
    assert dataset.path("eroded", "a") == "eroded/a.png"


def test_keys_that_are_not_given_leave_the_layer_to_the_file(own):
    dataset = own(("unit_m: 1, ", ""))
    assert (dataset.image.band_numbers, dataset.image.nodata, dataset.image.scale, dataset.image.offset) == (None,) * 4
    dsm = dataset.dsm
    assert (dsm.unit_m, dsm.nodata, dsm.bands, dsm.scale, dsm.offset) == (None,) * 5
    assert (dataset.label.nodata, dataset.label.ignore, dataset.label.bands) == (None, (), None)


def test_a_data_set_survives_json_with_all_its_keys(own):
    dataset = own(*FULL)
    assert datasets.dataset_from(json.loads(json.dumps(asdict(dataset)))) == dataset


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('"labels/{tile}.png"', '{files: "{tile}.png", ignore: [7]}', ("the value 7 as not labelled", "class other")),
        ('"labels/{tile}.png"', '{files: "{tile}.png", nodata: [1]}', ("the value 1 as not labelled", "class roof")),
        ("eroded: null", 'eroded: {files: "{tile}.png", nodata: [1]}', ("the value 1 as not labelled", "class roof")),
        ("bands: [a, b, c, d]", "bands: {a: 1, b: 2, c: 3, d: 0}", ("bands is", "counted from 1")),
        ("bands: [a, b, c, d]", "bands: [a, b, c, c]", ("expected different names",)),
        ("unit_m: 1,", "bands: [1, 2],", ("bands is [1, 2]; expected 1 band number",)),
        ("unit_m: 1,", "scale: 0,", ("scale is 0.0; expected a number other than 0",)),
        ("unit_m: 1,", "offset: .inf,", ("offset is inf; expected a number",)),
        ('"labels/{tile}.png"', '{files: "{tile}.png", bands: [1, 2]}', ("bands [1, 2]", "write one band number")),
        ('"labels/{tile}.png"', '{files: "{tile}.png", ignore: [[1, 2, 3]]}', ("[1, 2, 3]", "write values")),
        ("eroded: null", 'eroded: {files: "{tile}.png", nodata: [[1, 2, 3]]}', ("[1, 2, 3]", "write values")),
        ('"labels/{tile}.png"', "{ignore: [7]}", ("files is missing",)),
        ('"labels/{tile}.png"', '{files: "{tile}.png", ignored: [3]}', ("ignored is unknown",)),
    ],
)
def test_a_mistake_in_the_keys_of_a_layer_is_one_sentence(own, old, new, parts):
    with pytest.raises(ParamsError) as error:
        own((old, new))
    assert [part in str(error.value) for part in parts] == [True] * len(parts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mark", ["[9, 9, 9]", "9"])
def test_a_colour_to_ignore_that_is_a_class_is_an_error_that_names_both(own, mark):
    colours = (
        ("labels: values", "labels: colours"),
        ('"labels/{tile}.png"', f'{{files: "{{tile}}.png", ignore: [{mark}]}}'),
    )
    with pytest.raises(ParamsError, match="label declares RGB 9, 9, 9 as not labelled, which is also the class roof"):
        own(*colours)


def label_by_colour(bands):
    label = f'{{files: "{{tile}}.png", ignore: [[1, 2, 3], 255], bands: {bands}}}'
    return (("labels: values", "labels: colours"), ('"labels/{tile}.png"', label))


@pytest.mark.parametrize("bands", [[1], [3, 2, 1]])
def test_labels_by_colour_have_three_bands_or_one_with_a_palette(own, bands):
    label = own(*label_by_colour(bands)).label
    assert (label.bands, label.marks("colours")) == (tuple(bands), ((1, 2, 3), (255, 255, 255)))
    for wrong in ([1, 2], [1, 2, 3, 4]):
        with pytest.raises(ParamsError, match="write three band numbers, or one with a palette"):
            own(*label_by_colour(wrong))


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        ("train: [a]\nval: [a]\ntest: []\n", "tile a is listed twice"),
        ("train: [K\u00f6ln]\nval: [Ko\u0308ln]\ntest: []\n", "tile K\u00f6ln is listed twice"),
        ("train: []\nval: []\ntest: [a]\n", "train is empty"),
        ("train: [a]\nval: [b]\n", "split.test is missing"),
        ("train: a\nval: [b]\ntest: [c]\n", "split.train is 'a'"),
        ("- a\n", "not a mapping"),
    ],
)
def test_a_mistake_in_a_split_is_one_sentence_that_names_the_file(own, split, sentence):
    own(split=split)
    with pytest.raises(ParamsError) as error:
        datasets.split("own", "ours")
    assert sentence in str(error.value) and "ours.yaml" in str(error.value)


def test_ids_of_a_split_are_texts_even_where_they_look_like_numbers(own):
    own(split="train: [2_10, 007]\nval: [1e3]\ntest: [yes]\n")
    assert datasets.split("own", "ours").tiles == ("2_10", "007", "1e3", "yes")


def test_ids_of_a_split_are_in_the_unicode_form_of_raw_files(own):
    own(split="train: [Ko\u0308ln]\nval: [F\u00fcrth]\ntest: []\n")
    assert datasets.split("own", "ours").tiles == ("K\u00f6ln", "F\u00fcrth")


def with_classes(*names):
    facts = asdict(datasets.dataset("sample"))
    made = [c | {"name": name} for c, name in zip(facts["classes"], names, strict=False)]
    return datasets.dataset_from(facts | {"classes": made, "class_shares": None})


def test_a_class_may_have_a_name_that_mlflow_rejects():
    assert [c.name for c in with_classes("trees & shrubs", "trees (deciduous)").classes] == [
        "trees & shrubs",
        "trees (deciduous)",
    ]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("road", ""), "name is ''; expected 1 to 100 printable characters"),
        (("road", "a\nb"), "name is 'a\\nb'; expected 1 to 100 printable characters"),
        (("road", "x" * 101), "expected 1 to 100 printable characters"),
    ],
)
def test_a_class_name_that_cannot_be_printed_is_an_error(names, sentence):
    with pytest.raises(ParamsError) as caught:
        with_classes(*names)
    assert sentence in str(caught.value)
