from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest
import torch

from components.common.data.store import Store, Tile, write_manifest, write_tile
from components.common.errors import DataError, ParamsError, StoreError
from components.train import crops as crops_module
from components.train.crops import Crops, batches


@pytest.fixture
def crops(toy_store, train_config):
    store = Store(toy_store)
    return lambda **changes: Crops(store, store.manifest.subset("train"), train_config(**changes))


@pytest.fixture
def store_of(tmp_path, toy_store):
    """A store whose training tiles are given as (height, width), of any number of bands, every pixel another value."""

    def make(*sizes, bands=3, sensors=(("rgb", "dsm"),)):
        manifest = Store(toy_store).manifest
        entries = []
        for number, (height, width) in enumerate(sizes):
            place = np.arange(height * width, dtype=np.float32).reshape(height, width)
            image = np.stack([(place * (3 + band) + number) % 256 for band in range(bands)], -1).astype(np.uint8)
            label = (place % 6).astype(np.uint8)
            write_tile(tmp_path / f"{number}.arrow", Tile(image, place, label, label))
            known = dict(id=str(number), subset="train", file=f"{number}.arrow", height_px=height, width_px=width)
            known["sensors"] = sensors[number % len(sensors)]
            entries.append(dataclasses.replace(manifest.tiles[0], **known))
        names = tuple(f"band {k}" for k in range(bands))
        write_manifest(tmp_path, dataclasses.replace(manifest, bands=names, tiles=tuple(entries)))
        return Store(tmp_path)

    return make


def cut(crops, index, count=1):
    batch = crops.empty(count)
    crops.cut(index, batch)
    return batch


def equal(one, other):
    return all(torch.equal(a.nan_to_num(-9), b.nan_to_num(-9)) for a, b in zip(one.tensors, other.tensors, strict=True))


def joined(parts):
    tensors = zip(*(part.tensors for part in parts), strict=True)
    return crops_module.Batch(*(torch.cat(same) for same in tensors))


def test_a_crop_is_a_function_of_seed_and_index(crops):
    for index in (0, 7, 10**12):
        assert equal(cut(crops(), index), cut(crops(), index))
    assert not equal(cut(crops(), 0), cut(crops(seed=2), 0))
    assert not equal(cut(crops(), 0), cut(crops(), 1))


def test_a_crop_is_the_same_in_any_batch(crops):
    singles = [cut(crops(), index) for index in range(100, 107)]
    assert equal(joined(singles), cut(crops(), 100, 7))


@pytest.mark.parametrize("bands", [1, 3, 4, 6])
def test_a_crop_is_its_place_in_a_tile_with_all_layers_flipped_the_same_way(store_of, train_config, bands):
    store = store_of((80, 120), (100, 70), bands=bands)
    crops = Crops(store, store.manifest.tiles, train_config())
    places, batch = crops.places(0, 40), cut(crops, 0, 40)
    turns = set()
    for i in range(40):
        tile, (top, left) = store[store.manifest.tiles[places.tile[i]]], (places.top[i], places.left[i])
        turn = tuple(slice(None, None, -1 if turned else 1) for turned in (places.down[i], places.across[i]))
        layers = (tile.image_HWC, tile.dsm_HW, tile.label_HW)
        image, dsm, label = (layer[top : top + 64, left : left + 64][turn] for layer in layers)
        assert np.array_equal(batch.image_BCHW[i].movedim(0, -1), image)
        assert np.array_equal(batch.dsm_B1HW[i, 0], dsm)
        assert np.array_equal(batch.label_BHW[i], label)
        turns.add((places.down[i], places.across[i]))
    assert len(turns) == 4


def test_heights_that_were_not_measured_stay_nan(crops, toy_store):
    share = np.mean([np.isnan(Store(toy_store)[e].dsm_HW).mean() for e in Store(toy_store).manifest.subset("train")])
    assert cut(crops(), 0, 64).dsm_B1HW.isnan().float().mean().item() == pytest.approx(share, rel=0.2)


def test_a_crop_says_whether_its_tile_has_an_image(store_of, train_config):
    store = store_of((80, 80), (80, 80), sensors=(("rgb", "dsm"), ("dsm",)))
    crops = Crops(store, store.manifest.tiles, train_config(batch_size=8))
    for workers in (0, 1):
        first = next(batches(crops, train_config(batch_size=8), workers, 1))
        assert first.has_image_B.tolist() == (crops.places(0, 8).tile == 0).tolist()
    assert 0 < cut(crops, 0, 64).has_image_B.sum() < 64


def test_images_lie_channels_last_in_memory(crops):
    assert cut(crops(), 0, 2).image_BCHW.is_contiguous(memory_format=torch.channels_last)


def test_no_flips_when_switched_off(crops):
    places = crops(flips=False).places(0, 1000)
    assert not places.down.any() and not places.across.any()


def chi2(counts, shares):
    """Distance of counts from what the shares let expect, in standard deviations of chi squared."""
    expected = np.asarray(shares) * np.sum(counts)
    freedom = len(expected) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_choices_are_uniform_and_independent(store_of, train_config, seed):
    store = store_of((64, 64), (128, 96), (64 + 255, 64 + 99))
    crops = Crops(store, store.manifest.tiles, train_config(seed=seed))
    places = crops.places(0, 200_000)
    areas = np.array([tile.height_px * tile.width_px for tile in store.manifest.tiles])
    assert abs(chi2(np.bincount(places.tile), areas / areas.sum())) < 5
    big = places.tile == 2
    for starts, room in ((places.top[big], 256), (places.left[big], 100)):
        assert abs(chi2(np.bincount(starts, minlength=room), np.full(room, 1 / room))) < 5
    cells = places.top[big] // 32 * 5 + places.left[big] // 20
    assert abs(chi2(np.bincount(cells, minlength=40), np.full(40, 1 / 40))) < 5
    turns = places.down * 2 + places.across
    assert abs(chi2(np.bincount(turns), np.full(4, 1 / 4))) < 5
    assert abs(chi2(np.bincount(turns[:-1] * 4 + turns[1:]), np.full(16, 1 / 16))) < 5
    assert np.abs(np.corrcoef([places.top[big], places.left[big], places.down[big], places.across[big]])
                  - np.eye(4)).max() < 5 / np.sqrt(big.sum())  # fmt: skip


def test_neighbouring_seeds_share_no_crops(crops):
    one, other = (crops(seed=seed).places(0, 1000) for seed in (1, 2))
    same = (one.tile == other.tile) & (one.top == other.top) & (one.left == other.left)
    assert same.mean() < 0.01


def test_eroded_labels_ignore_boundaries(crops):
    assert (cut(crops(labels="eroded"), 0).label_BHW == 255).any()
    assert not (cut(crops(labels="full"), 0).label_BHW == 255).any()


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("first_step", [1, 4, 9])
def test_batches_go_on_at_any_step_with_any_number_of_workers(crops, train_config, workers, first_step):
    config = train_config(steps=9)
    handed = list(batches(crops(), config, workers, first_step))
    assert len(handed) == 10 - first_step
    for step, batch in enumerate(handed, start=first_step):
        assert equal(batch, cut(crops(), 2 * (step - 1), 2))


@pytest.mark.parametrize(("world_size", "workers"), [(1, 1), (2, 0), (2, 2), (4, 1)])
def test_ranks_together_get_the_batches_of_one(crops, train_config, world_size, workers):
    config = train_config(steps=6, batch_size=8)
    whole = batches(crops(), config, 0, first_step=3)
    ranks = [batches(crops(), config, workers, 3, rank=r, world_size=world_size) for r in range(world_size)]
    for expected, *parts in zip(whole, *ranks, strict=True):
        assert {len(part.label_BHW) for part in parts} == {8 // world_size}
        assert equal(joined(parts), expected)


def test_ranks_that_cannot_share_a_batch_equally_are_refused(crops, train_config):
    with pytest.raises(ParamsError, match=r"train.batch_size is 8; expected a multiple of the 3 ranks"):
        batches(crops(), train_config(batch_size=8), 0, 1, rank=0, world_size=3)


def test_one_crop_per_rank_is_refused_because_batch_norm_needs_two(crops, train_config):
    with pytest.raises(ParamsError, match="train.batch_size is 4; .* at least two crops per rank"):
        batches(crops(), train_config(batch_size=4), 0, 1, rank=0, world_size=4)


def test_a_batch_keeps_its_crops_while_workers_go_on(crops, train_config):
    config = train_config(steps=12)
    stream = batches(crops(), config, 1, 1)
    first = next(stream)
    list(stream)
    assert equal(first, cut(crops(), 0, 2))


def test_a_process_that_is_spawned_gets_the_way_to_the_tiles_and_not_their_pixels(crops):
    sent = pickle.dumps(crops())
    assert len(sent) < 10_000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        image = pool.apply(image_of_crop, (sent, 5))
    assert np.array_equal(image, cut(crops(), 5).image_BCHW)


def image_of_crop(pickled, index):
    return cut(pickle.loads(pickled), index).image_BCHW.numpy()


def test_too_little_shared_memory_is_an_error_before_a_worker_starts(crops, train_config, monkeypatch):
    monkeypatch.setattr(crops_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**26, 2**26, 2**10))
    monkeypatch.setattr(crops_module, "SHARED_MEMORY", crops_module.Path("/"))
    with pytest.raises(ParamsError, match=r"0 MB free, but the batches of runtime.workers need .* set fewer workers"):
        next(batches(crops(), train_config(), 2, 1))


def test_a_tile_smaller_than_a_crop_is_refused(crops):
    with pytest.raises(DataError, match=r"96 x 96 px, smaller than a crop; set train.crop_px to 96 or less"):
        crops(crop_px=97)


def test_a_missing_tile_is_found_before_training_begins(toy_store, train_config, tmp_path):
    copy = shutil.copytree(toy_store, tmp_path / "store")
    store = Store(copy)
    (copy / store.manifest.subset("train")[-1].file).unlink()
    with pytest.raises(StoreError, match="no such tile in the store; run the preprocess step again"):
        Crops(store, store.manifest.subset("train"), train_config())
