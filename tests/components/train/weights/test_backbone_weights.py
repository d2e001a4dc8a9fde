from __future__ import annotations

import pickle

import boto3
import pytest
import timm
import torch
from moto.server import ThreadedMotoServer
from safetensors.torch import save_file

from components.common.errors import WeightsError
from components.train.weights.backbone_weights import load_backbone_weights


@pytest.fixture
def donor(toy_network):
    """Backbone weights that differ from a fresh network's."""
    network = toy_network()
    return {name: torch.randn_like(t) for name, t in network.encoder.backbone.vit.state_dict().items()}


def assert_loaded(network, donor):
    for name, tensor in network.encoder.backbone.vit.state_dict().items():
        assert torch.equal(tensor, donor[name]), name
    assert torch.equal(network.encoder.dsm_patch_embedding.weight, donor["patch_embed.proj.weight"])


def test_none_leaves_the_random_weights(toy_network):
    network = toy_network()
    before = network.encoder.backbone.vit.blocks[0].mlp.fc1.weight.clone()
    assert load_backbone_weights(network, "none").source == "none"
    assert torch.equal(before, network.encoder.backbone.vit.blocks[0].mlp.fc1.weight)


def test_a_file_fills_the_backbone_and_the_dsm_patch_embedding(toy_network, donor, tmp_path):
    save_file(donor, tmp_path / "vit.safetensors")
    torch.save(donor | {"head.weight": torch.zeros(3, 64)}, tmp_path / "vit.pth")
    identities = set()
    for name in ("vit.safetensors", "vit.pth"):
        network = toy_network()
        identities.add(load_backbone_weights(network, str(tmp_path / name)).sha256)
        assert_loaded(network, donor)
    assert len(identities) == 1


def test_a_released_dinov2_file_is_understood(toy_network, tmp_path):
    """Their names: class token with a position of its own, mask token, register_tokens."""
    args = {"embed_dim": 64, "depth": 4, "num_heads": 2, "img_size": 56}
    network = toy_network(backbone="vit_small_patch14_reg4_dinov2", backbone_args=args)
    vit = network.encoder.backbone.vit
    state = {name: torch.randn_like(t) for name, t in vit.state_dict().items()}
    released = dict(state)
    released["register_tokens"] = released.pop("reg_token")
    released["mask_token"] = torch.zeros(1, 64)
    released["pos_embed"] = torch.cat([torch.ones(1, 1, 64), state["pos_embed"]], dim=1)
    torch.save(released, tmp_path / "dinov2.pth")
    load_backbone_weights(network, str(tmp_path / "dinov2.pth"))
    torch.testing.assert_close(vit.cls_token.data, state["cls_token"] + 1)
    assert torch.equal(vit.pos_embed.data, state["pos_embed"])
    assert torch.equal(vit.reg_token.data, state["reg_token"])


SMALL = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "img_size": 64}


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"])
def test_a_released_dinov3_file_is_understood(toy_network, tmp_path, capsys, name):
    """Their names: storage_tokens, LayerScale apart, one bias for queries, keys and values, periods of the angles."""
    network = toy_network(backbone=name, backbone_args=SMALL)
    vit = network.encoder.backbone.vit
    state = {key: torch.randn_like(t) for key, t in vit.state_dict().items()}
    renames = {"reg_token": "storage_tokens", ".gamma_1": ".ls1.gamma", ".gamma_2": ".ls2.gamma"}
    released = {"mask_token": torch.zeros(1, 64), "rope_embed.periods": torch.ones(4)}
    for key, tensor in state.items():
        for ours, theirs in renames.items():
            key = key.replace(ours, theirs)
        released[key] = tensor
    for block in range(4):
        query, value = (released.pop(f"blocks.{block}.attn.{x}_bias", torch.zeros(64)) for x in "qv")
        released[f"blocks.{block}.attn.qkv.bias"] = torch.cat([query, torch.zeros(64), value])
        released[f"blocks.{block}.attn.qkv.bias_mask"] = torch.ones(192)
    torch.save(released, tmp_path / "dinov3.pth")
    load_backbone_weights(network, str(tmp_path / "dinov3.pth"))
    assert_loaded(network, state)
    assert capsys.readouterr().out == ""


SAM = {"backbone": "samvit_base_patch16", "backbone_args": SMALL | {"window_size": 3, "global_attn_indexes": (1, 3)}}
BESIDE = {"neck.0.weight": torch.zeros(256, 64, 1, 1)}


def test_a_released_sam_file_is_understood(toy_network, tmp_path):
    """Their names: image_encoder, lin1 and lin2; a neck, a prompt encoder and a mask decoder are left out."""
    network = toy_network(**SAM)
    state = {key: torch.randn_like(t) for key, t in network.encoder.backbone.vit.state_dict().items()}
    released = {f"image_encoder.{key.replace('mlp.fc', 'mlp.lin')}": t for key, t in (state | BESIDE).items()}
    torch.save(released | {"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, tmp_path / "sam.pth")
    load_backbone_weights(network, str(tmp_path / "sam.pth"))
    assert_loaded(network, state)


@pytest.mark.parametrize(
    "changes", [{"backbone": "vit_small_patch16_dinov3", "backbone_args": SMALL}, SAM], ids=["dinov3", "sam"]
)
def test_a_file_of_timm_fills_every_family(toy_network, tmp_path, changes):
    theirs = timm.create_model(changes["backbone"], num_classes=3, **changes["backbone_args"]).state_dict()
    theirs = {key: torch.randn_like(tensor) for key, tensor in theirs.items()}
    save_file(theirs, tmp_path / "timm.safetensors")
    network = toy_network(**changes)
    load_backbone_weights(network, str(tmp_path / "timm.safetensors"))
    assert_loaded(network, theirs)


def test_weights_of_another_family_are_refused(toy_network, donor, tmp_path):
    save_file(donor, tmp_path / "vit.safetensors")
    with pytest.raises(WeightsError, match="use weights for samvit_base_patch16|does not fit samvit_base_patch16"):
        load_backbone_weights(toy_network(**SAM), str(tmp_path / "vit.safetensors"))


def test_a_missing_and_a_foreign_weight_are_named(toy_network, donor, tmp_path):
    path = tmp_path / "vit.safetensors"
    save_file({name: t for name, t in donor.items() if name != "norm.weight"}, path)
    with pytest.raises(WeightsError, match="lacks norm.weight"):
        load_backbone_weights(toy_network(), str(path))
    save_file(donor | {"neck.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="also contains neck.weight"):
        load_backbone_weights(toy_network(), str(path))


def test_a_missing_and_a_damaged_file_are_refused(toy_network, donor, tmp_path):
    with pytest.raises(WeightsError, match="file not found; correct model.weights"):
        load_backbone_weights(toy_network(), str(tmp_path / "none.pth"))
    for name in ("vit.safetensors", "vit.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(WeightsError, match=f"{name}: damaged or not a plain weight file"):
            load_backbone_weights(toy_network(), str(tmp_path / name))


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


def test_a_pickle_with_code_is_refused_and_not_run(toy_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit.pth").write_bytes(pickle.dumps({"norm.weight": Bomb()}, protocol=2))
    with pytest.raises(WeightsError, match=r"vit\.pth: a pickle with [\w.]*open, which can run code, so it was not"):
        load_backbone_weights(toy_network(), str(tmp_path / "vit.pth"))
    assert not (tmp_path / "exploded").exists()


def test_hub_without_a_hub_says_what_to_do_instead(toy_network, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    network = toy_network(backbone="test_vit", backbone_args={})
    with pytest.raises(WeightsError, match="hub weights of test_vit: download failed .* set model.weights to"):
        load_backbone_weights(network, "hub")


@pytest.fixture
def bucket(monkeypatch):
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="weights")
    yield boto3.client("s3")
    server.stop()


def test_an_s3_uri_is_downloaded(bucket, toy_network, donor, tmp_path):
    save_file(donor, tmp_path / "vit.safetensors")
    bucket.upload_file(str(tmp_path / "vit.safetensors"), "weights", "dinov2/vit.safetensors")
    network = toy_network()
    load_backbone_weights(network, "s3://weights/dinov2/vit.safetensors")
    assert_loaded(network, donor)
    with pytest.raises(WeightsError, match="s3://weights/other.pth: download failed"):
        load_backbone_weights(network, "s3://weights/other.pth")
