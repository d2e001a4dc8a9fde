"""components/export/formats/torch_program.py: plain torch opens the program, and its bytes depend on the model only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.common.inference.modelfile import save_model
from components.export.formats.torch_program import write_pt2
from components.export.parity.format_parity import check_format
from tests.components.conftest import export_config, toy_facts
from tests.components.export.toy_reference import reference_of
from tests.model.toys import distinguishing
from tests.repo.test_house import ROOT

pytestmark = pytest.mark.system

AGAIN = """
import sys
from pathlib import Path
from components.common.inference.modelfile import load_model
from components.export.formats.torch_program import write_pt2
from tests.components.conftest import export_config
write_pt2(Path(sys.argv[2]), *load_model(Path(sys.argv[1])), export_config(outputs=("logits", "classes", "confidence")))
"""

PLAIN = """
import json, sys, torch
extra = {"mobanet": ""}
module = torch.export.load(sys.argv[1], extra_files=extra).module()
fields = json.loads(extra["mobanet"])
answers = module(torch.full((5, 3, 48, 16), 90.0), torch.full((5, 1, 48, 16), float("nan")))
assert not {"components", "model", "safetensors"} & sys.modules.keys()
print(json.dumps({name: [list(x.shape), str(x.dtype)] for name, x in zip(fields["outputs"], answers, strict=True)}))
"""


@pytest.fixture(scope="module")
def model():
    network = distinguishing(aux_heads=False)
    return network, replace(toy_facts(network.config), temperature={"rgb+dsm": 1.3, "rgb": 0.7, "dsm": 2.0})


@pytest.fixture(scope="module")
def program(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    before = {name: module.fused_attn for name, module in model[0].named_modules() if hasattr(module, "fused_attn")}
    write_pt2(path, *model, export_config(outputs=("logits", "classes", "confidence")))
    assert before == {n: module.fused_attn for n, module in model[0].named_modules() if hasattr(module, "fused_attn")}
    return path


def test_the_program_agrees_on_every_case(model, program, tmp_path) -> None:
    found = check_format("pt2", program, reference_of(*model, tmp_path), export_config())
    assert (found.passed, found.reason, found.runtime, found.changed_share) == (True, "", "torch", 0)
    assert found.largest_difference <= 1e-4 and "40 x 48 px" in {case.name for case in found.cases}


def test_another_process_writes_the_same_bytes(model, program, tmp_path) -> None:
    save_model(tmp_path / "model.safetensors", *model)
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AGAIN, tmp_path / "model.safetensors", tmp_path / "again.pt2"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "again.pt2").read_bytes() == program.read_bytes()


def test_plain_torch_opens_it(program, tmp_path) -> None:
    command = [sys.executable, "-I", "-c", PLAIN, program]
    answers = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout)
    assert answers == {
        "logits": [[5, 6, 48, 16], "torch.float32"],
        "classes": [[5, 48, 16], "torch.uint8"],
        "confidence": [[5, 48, 16], "torch.float32"],
    }


@pytest.mark.parametrize("sides", [(36, 32), (32, 33), (8, 32)])
def test_the_program_refuses_sizes_that_are_no_multiples(program, sides) -> None:
    module = torch.export.load(program).module()
    with pytest.raises(RuntimeError, match=r"of the form 8\*|to be >= 16"):
        module(torch.zeros(2, 3, *sides), torch.zeros(2, 1, *sides))


def test_the_program_has_no_pickle_and_does_not_tell_where_it_was_made(program) -> None:
    with zipfile.ZipFile(program) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 0, 0, 0, 0, 0)}
    assert members["archive/data/sample_inputs/model.pt"] == b""
    text = b"".join(content for name, content in members.items() if name.endswith(".json"))
    assert b'"use_pickle": true' not in text
    for word in (b"site-packages", str(ROOT).encode(), b"components.", b"stack_trace", b"nn_module_stack"):
        assert word not in text
