from __future__ import annotations

import pytest
import yaml

from components.common.data.store import Store
from components.common.errors import ParamsError
from pipeline.ablation.studies import BUILT_IN, jobs, read_study
from tests.pipeline.ablation.conftest import ROOT


def study(*variants, **named):
    listed = {f"variant {number}": changes for number, changes in enumerate(variants)}
    return {"small": {"about": "x", "variants": listed | named}}


@pytest.mark.parametrize("name", ["single", "compute", "parts", "modules", "masking"])
def test_the_built_in_studies_fit_the_params_file(name, toy_store, tmp_path):
    found = jobs(read_study(BUILT_IN, name), ROOT / "params.yaml", (1, 2, 3), Store(toy_store), tmp_path)
    assert len(found) == 3 * len(read_study(BUILT_IN, name).variants)


def test_a_variant_reaches_the_configuration_of_its_training_and_no_other(small):
    first, _, second, _ = small().jobs
    assert (first.train.masking.share, first.model.dgfm) == (1.0, True)
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]["masking"]["share"]
    assert (second.train.masking.share, second.model.dgfm) == (shipped, False)
    assert (first.train.masking.area, first.train.steps) == ((0.1, 0.3), 2)


def test_the_base_of_a_study_is_in_every_variant_unless_it_has_its_own_value(small):
    content = study({}, {"model.cpia": "none"})
    content["small"]["base"] = {"model.cpia": "adapter", "train.masking.share": 0.5}
    first, second = small(seeds=(1,), content=content).jobs
    assert (first.model.cpia, second.model.cpia) == ("adapter", "none")
    assert first.train.masking.share == second.train.masking.share == 0.5


def test_the_studies_of_masks_mean_the_same_whatever_is_shipped(toy_store, tmp_path):
    for name in ("modules", "masking"):
        for job in jobs(read_study(BUILT_IN, name), ROOT / "params.yaml", (1,), Store(toy_store), tmp_path):
            assert (job.model.missing, job.model.batch_norm, job.train.masking.paired) == ("zero", "shared", 0.0)


def test_the_studies_of_copies_mean_the_same_whatever_is_shipped(params, toy_store, tmp_path):
    document = yaml.safe_load(params.read_text())
    document["train"]["masking"] |= {"share": 0.5, "paired": 0.0, "paired_weight": 3.0, "distillation": 1.0}
    document["train"]["masking"]["schedule"] = [0.1, 0.2]
    document["train"]["batch_size"] = 4
    document["model"] |= {"missing": "zero", "batch_norm": "shared"}
    params.write_text(yaml.safe_dump(document))
    for name in ("single", "parts"):
        found = {job.variant: job for job in jobs(read_study(BUILT_IN, name), params, (1,), Store(toy_store), tmp_path)}
        job = found["two copies, weight 2" if name == "single" else "as shipped"]
        masking = job.train.masking
        assert (job.model.missing, job.model.batch_norm) == ("excluded", "per-condition")
        assert (masking.share, masking.paired, masking.paired_weight) == (0.0, 2.0, 2.0)
        assert (masking.distillation, masking.schedule) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(("steps", "equal"), [(200, True), (198, False), (201, True), (203, False)])
def test_a_study_of_equal_computation_refuses_variants_that_differ_by_more_than_1_percent(small, steps, equal):
    content = study({"train.steps": 200}, {"train.steps": steps, "model.dgfm": False})
    content["small"] |= {"base": {"train.masking.paired": 0.0}, "equal_computation": True}
    if equal:
        assert len(small(content=content).jobs) == 4
        return
    low, high = sorted([("variant 0", 800), ("variant 1", 4 * steps)], key=lambda pair: pair[1])
    sentence = f"variants '{low[0]}' and '{high[0]}' of .*params.yaml take {low[1]} and {high[1]} passes of crops"
    with pytest.raises(ParamsError, match=f"^{sentence}"):
        small(content=content)


def test_the_study_of_equal_computation_is_refused_where_its_steps_do_not_fit(params, toy_store, tmp_path):
    with pytest.raises(ParamsError, match="'two copies' and 'masks, twice the steps' of .*; set train.steps of"):
        jobs(read_study(BUILT_IN, "compute"), params, (1,), Store(toy_store), tmp_path)


def test_every_seed_is_a_training_in_a_folder_of_its_own(small):
    found = small(seeds=(3, 5)).jobs
    assert [job.train.seed for job in found] == [3, 5, 3, 5]
    assert len({job.folder for job in found}) == 4


def test_a_training_keeps_its_folder_when_its_variant_gets_another_name(small):
    renamed = study({"train.masking.share": 1.0}, {"model.dgfm": False})
    renamed["small"]["base"] = {"train.masking.paired": 0.0}
    assert [job.folder for job in small(content=renamed).jobs] == [job.folder for job in small().jobs]


@pytest.mark.parametrize("key", ["model.weights", "model.init"])
def test_another_content_of_a_weight_file_is_another_training(small, tmp_path, key):
    file = tmp_path / "vit.safetensors"
    folders = []
    for content in (b"first", b"second", b"first"):
        file.write_bytes(content)
        folders.append(small(content=study({}, {key: str(file)})).jobs[-1].folder)
    assert folders[0] == folders[2] != folders[1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train.masking.shar": 0.0}, "train.masking.shar is unknown"),
        ({"train.masking.share": 2.0}, "train.masking.share is 2.0; expected a number from 0 to 1"),
        ({"model.cpia": "some"}, "model.cpia is 'some'"),
        ({"model.dgfm.x": 1}, "model.dgfm is {'x': 1}"),
        ({"model.backbone": "vit_nonsense"}, "model.backbone is 'vit_nonsense'"),
        ({"train.masking.paired": 1.0}, "train.masking.paired is 1, which makes 1 copies of each sensor"),
        ({"evaluate.stride_px": 8}, "evaluate.stride_px cannot be changed"),
        ({"trian.steps": 8}, "trian.steps cannot be changed"),
        ({"train": 8}, "train cannot be changed"),
        ({"train.seed": 8}, "train.seed cannot be changed; .* set seeds with --seeds"),
    ],
)
def test_what_a_variant_cannot_change_is_one_sentence_before_anything_is_trained(small, changes, sentence):
    with pytest.raises(ParamsError, match=f"^variant 'variant 1' of .*params.yaml: {sentence}"):
        small(content=study({}, changes))


def test_two_variants_that_are_the_same_training_are_refused(small):
    with pytest.raises(ParamsError, match="'variant 0' and 'variant 1' result in the same training"):
        small(content=study({}, {"model.dgfm": True}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"other": {}}, "no study small; choose one of other"),
        ({"small": {"variants": {}}}, "small.about is missing"),
        ({"small": {"about": "x", "variants": {"a": 1, "b": {}}}}, "small.variants.a is 1"),
        (study({}), "small has 1 variants; expected 2 or more"),
    ],
)
def test_a_file_of_another_form_is_one_sentence(small, content, sentence):
    with pytest.raises(ParamsError, match=sentence):
        small(content=content)
