import pytest
import torch

from model.encoder import for_bands


@pytest.mark.parametrize("bands", [1, 2, 4, 6])
def test_a_grey_image_gives_the_same_embedding_whatever_the_number_of_bands(bands):
    torch.manual_seed(0)
    three = torch.nn.Conv2d(3, 8, 4, 4)
    grey = torch.randn(2, 1, 16, 16)
    expected = three(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(for_bands(three, bands)(grey.expand(-1, bands, -1, -1)), expected, atol=1e-5, rtol=1e-5)


def test_four_bands_train_a_patch_embedding_of_their_own_and_leave_the_frozen_one_alone(toy_network):
    network = toy_network(image_bands=4).train()
    network(torch.randn(2, 4, 32, 32), torch.randn(2, 1, 32, 32)).sum().backward()
    gradient = network.encoder.image_patch_embedding.weight.grad
    assert all(gradient[:, band].abs().sum() > 0 for band in range(4))
    assert network.encoder.backbone.patch_embedding.weight.grad is None


def test_every_band_is_looked_at(toy_network):
    network = toy_network(image_bands=4)
    image, dsm = torch.randn(1, 4, 32, 32), torch.randn(1, 1, 32, 32)
    for band in range(4):
        other = image.clone()
        other[:, band] += 1
        assert not torch.allclose(network(image, dsm), network(other, dsm))


def test_a_missing_image_of_four_bands_is_filled(toy_network):
    network = toy_network(image_bands=4)
    dsm = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(network(None, dsm), network(torch.zeros(1, 4, 32, 32), dsm))


def test_new_backbone_weights_reach_the_embedding_of_other_bands(toy_network):
    encoder = toy_network(image_bands=4).encoder
    with torch.no_grad():
        encoder.backbone.patch_embedding.weight.fill_(1.0)
    encoder.reset_patch_embeddings()
    weight = encoder.image_patch_embedding.weight
    torch.testing.assert_close(weight, torch.full_like(weight, 0.75))


def test_three_bands_use_the_frozen_embedding(toy_network):
    assert toy_network().encoder.image_patch_embedding is None
