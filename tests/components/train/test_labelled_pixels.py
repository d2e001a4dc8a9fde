from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

from components.common.data.store import Store, Tile, write_manifest, write_tile
from components.common.errors import StoreError
from components.train.labelled_pixels import require_labelled_pixels
from components.train.step import run


@pytest.fixture
def store(toy_store, tmp_path):
    """A copy of the toy store; in some subsets, pixels of some classes lose their full or eroded label."""

    def make(lost: dict[str, set[int]], layers: tuple[str, ...] = ("full", "eroded")) -> Store:
        source, copy = Store(toy_store), tmp_path / "store"
        copy.mkdir()
        entries = []
        for entry in source.manifest.tiles:
            tile, classes = source[entry], list(lost.get(entry.subset, ()))
            full, eroded = (
                np.where(np.isin(labels, classes), 255, labels).astype(np.uint8) if name in layers else labels
                for name, labels in (("full", tile.label_HW), ("eroded", tile.eroded_HW))
            )
            if entry.subset != "test":
                write_tile(copy / entry.file, Tile(tile.image_HWC, tile.dsm_HW, full, eroded))
            entries.append(replace(entry, class_px=tuple(int((full == k).sum()) for k in range(6))))
        write_manifest(copy, replace(source.manifest, tiles=tuple(entries)))
        return Store(copy)

    return make


ALL = set(range(6))


@pytest.mark.parametrize(
    ("lost", "layers", "labels", "words"),
    [
        ({"train": ALL}, ("full", "eroded"), "full", "no pixel of the training tiles"),
        ({"train": ALL}, ("eroded",), "eroded", "is labelled in the eroded ground truth"),
        ({"val": ALL}, ("full", "eroded"), "full", "no pixel of the validation tiles"),
        ({"val": ALL}, ("eroded",), "full", "has a class that counts in the mean IoU in the eroded ground truth"),
        ({"val": ALL - {5}}, ("full", "eroded"), "full", "so no checkpoint can be selected"),  # only clutter is left
    ],
)
def test_a_subset_without_a_label_to_use_is_an_error_that_names_its_tiles(store, lost, layers, labels, words):
    changed = store(lost, layers)
    with pytest.raises(StoreError) as error:
        require_labelled_pixels(changed, labels)
    sentence = str(error.value)
    assert words in sentence and "\n" not in sentence
    assert ", ".join([tile.id for tile in changed.manifest.subset(next(iter(lost)))][:5]) in sentence


def test_labels_that_are_lost_where_they_are_not_used_change_nothing(store, caplog):
    with caplog.at_level(logging.WARNING):
        require_labelled_pixels(store({"train": ALL}, ("eroded",)), "full")
    assert not caplog.records


@pytest.mark.parametrize(("layers", "labels"), [(("full", "eroded"), "full"), (("eroded",), "eroded")])
def test_a_class_without_a_training_pixel_is_a_warning_that_names_it(store, caplog, layers, labels):
    with caplog.at_level(logging.WARNING):
        require_labelled_pixels(store({"train": {1, 4, 5}}, layers), labels)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split()[1] for message in messages] == ["building", "car"]  # clutter does not count
    assert all(f"no pixel of the training tiles has it in the {labels} ground truth" in m for m in messages)


def test_a_class_that_is_not_scored_is_a_warning_that_names_it(store, caplog):
    with caplog.at_level(logging.WARNING):
        require_labelled_pixels(store({"val": {4, 5}}), "full")
    (message,) = [record.getMessage() for record in caplog.records]  # clutter does not count
    assert message.startswith("class car counts in the mean IoU, but no pixel of the validation tiles has it")


@pytest.mark.parametrize("left", [set(), {5}])
def test_test_tiles_without_a_label_that_counts_are_a_warning_and_are_not_opened(store, caplog, left):
    changed = store({"test": ALL - left})
    with caplog.at_level(logging.WARNING):
        require_labelled_pixels(changed, "full")
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("no pixel of the test tiles (") and changed.manifest.subset("test")[0].id in message
    assert "evaluate will stop" in message


@pytest.mark.parametrize("modalities", [("rgb", "dsm"), ("rgb",)])
def test_a_training_stops_before_its_first_step(store, tmp_path, train_config, model_params, runtime, modalities):
    with pytest.raises(StoreError, match="no pixel of the validation tiles"):
        run(
            train_config(),
            model_params(modalities=modalities),
            runtime(),
            store({"val": ALL}).path,
            tmp_path / "models",
            tmp_path / "checkpoints",
        )
    assert not (tmp_path / "checkpoints").exists()
