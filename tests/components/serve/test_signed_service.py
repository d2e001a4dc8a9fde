"""The service and signatures: only a trusted package is served, and a refused new version leaves the current one."""

from __future__ import annotations

import shutil

import pytest
import torch

from components.common.errors import TrustError
from components.common.trust.signatures import sign
from components.serve.served import Served
from tests.components.common.trust.key_files import write_keys
from tests.components.serve.conftest import PREDICT


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    return write_keys(tmp_path_factory.mktemp("keys"))


def test_only_a_package_that_the_owner_signed_is_served(package, owner, tmp_path) -> None:
    folder, trust, cpu = shutil.copytree(package, tmp_path / "copy"), owner.trusted(), torch.device("cpu")
    with pytest.raises(TrustError, match="no signature"):
        Served(folder, None, PREDICT, cpu, trust)
    sign(folder, owner.key)
    served = Served(folder, None, PREDICT, cpu, trust)
    assert served.identity.sha256
    served.retire()
    sign(folder, write_keys(tmp_path, "stranger").key)
    with pytest.raises(TrustError, match="made with another key"):
        Served(folder, None, PREDICT, cpu, owner.trusted(required=False))
