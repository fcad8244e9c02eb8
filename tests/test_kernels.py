"""Groups, transposition and first layers of convolutions, by what lies around their kernels."""

from collections.abc import Mapping

import pytest
from test_fused import Shapes, fans_in, layers_in

RESNEXT = {
    "conv1.weight": (64, 3, 7, 7),
    "layer1.0.conv1.weight": (128, 64, 1, 1),
    "layer1.0.conv2.weight": (128, 4, 3, 3),
    "layer1.0.conv3.weight": (256, 128, 1, 1),
    "layer1.1.conv1.weight": (128, 256, 1, 1),
    "layer1.1.conv2.weight": (128, 4, 3, 3),
    "layer1.1.conv3.weight": (256, 128, 1, 1),
}


def test_groups_are_told_by_the_convolution_before() -> None:
    fans = fans_in(RESNEXT)
    assert fans["layer1.0.conv2.weight"] == fans["layer1.1.conv2.weight"] == (4 * 9, 4 * 9)
    assert fans["layer1.0.conv1.weight"] == (64, 128)


def test_groups_are_told_in_whatever_order_the_tensors_are_listed() -> None:
    assert fans_in(dict(reversed(RESNEXT.items()))) == dict(reversed(fans_in(RESNEXT).items()))


def test_the_reason_names_the_groups_and_the_neighbour() -> None:
    layer = layers_in(RESNEXT)["layer1.0.conv2.weight"]
    assert "32 groups of 4" in layer.because
    assert "layer1.0.conv1" in layer.because


def test_a_squeeze_of_as_many_channels_does_not_hide_groups() -> None:
    regnet = {
        "stem.conv.weight": (32, 3, 3, 3),
        "s1.b1.conv1.conv.weight": (24, 32, 1, 1),
        "s1.b1.conv2.conv.weight": (24, 8, 3, 3),
        "s1.b1.se.fc1.weight": (8, 24, 1, 1),
        "s1.b1.se.fc2.weight": (24, 8, 1, 1),
        "s1.b1.conv3.conv.weight": (24, 24, 1, 1),
    }
    assert fans_in(regnet)["s1.b1.conv2.conv.weight"] == (72, 72)


ORDINARY = {
    "vgg": {f"features.{index}.weight": shape for index, shape in ((0, (64, 3, 3, 3)), (3, (128, 64, 3, 3)))},
    "inception": {
        "stem.weight": (192, 3, 3, 3),
        "mixed.branch1.conv1.weight": (384, 192, 3, 3),
        "mixed.branch2.conv1.weight": (64, 192, 1, 1),
        "mixed.branch2.conv2.weight": (96, 64, 3, 3),
        "mixed.branch2.conv3.weight": (96, 96, 3, 3),
    },
    "concatenated": {
        "conv1.weight": (8, 3, 3, 3),
        "conv2.weight": (8, 8, 3, 3),
        "conv3.weight": (8, 16, 3, 3),
    },
    "mel spectrogram": {"conv1.weight": (512, 80, 3), "conv2.weight": (512, 512, 3)},
    "gated in one dimension": {"layers.0.weight": (96, 40, 5), "layers.1.weight": (96, 48, 5)},
    "text": {f"convs.{index}.weight": (100, 300, size) for index, size in enumerate((3, 4, 5))},
    "parallel paths": {
        "stem.conv1.weight": (32, 3, 3, 3),
        "stem.conv2.weight": (64, 32, 3, 3),
        **{f"layer1.0.conv1.paths.{index}.conv.weight": (64, 32, 3, 3) for index in range(2)},
    },
    "a squeeze before two that expand": {
        "features.0.weight": (64, 3, 3, 3),
        "features.3.squeeze.weight": (16, 64, 1, 1),
        "features.3.expand1x1.weight": (64, 16, 1, 1),
        "features.3.expand3x3.weight": (64, 16, 3, 3),
    },
    "discriminators": {
        **{f"d.{index}.convs.0.weight": (32, 1, 5, 1) for index in range(3)},
        **{f"d.{index}.convs.1.weight": (128, 32, 5, 1) for index in range(3)},
    },
    "speech": {
        "feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
        "feature_extractor.conv_layers.1.conv.weight": (512, 512, 3),
        "encoder.layers.0.fc1.weight": (96, 48),
    },
}
"""Networks whose convolutions have no groups."""


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_convolutions_have_one_group(case: str) -> None:
    for layer in layers_in(ORDINARY[case]).values():
        shape = layer.tensor.shape
        if len(shape) > 2:
            assert layer.n_out * shape[1] == layer.n_in * shape[0], layer.name


DEPTHWISE: Mapping[str, tuple[Shapes, str]] = {
    "by its name": ({"block.conv_dw.weight": (8, 1, 3, 3)}, "block.conv_dw.weight"),
    "after a convolution": (
        {"0.weight": (8, 3, 1, 1), "1.weight": (8, 1, 3, 3)},
        "1.weight",
    ),
    "repeated in a network of pictures": (
        {
            "patch_embed.proj.weight": (64, 3, 4, 4),
            **{f"blocks.{index}.mixer.local.weight": (64, 1, 3, 3) for index in range(2)},
        },
        "blocks.1.mixer.local.weight",
    ),
    "behind a table of tokens": (
        {
            "embed_tokens.weight": (100, 8),
            "layers.0.mixer.in_proj.weight": (32, 8),
            "layers.0.mixer.conv1d.weight": (16, 1, 4),
            "layers.1.mixer.conv1d.weight": (16, 1, 4),
        },
        "layers.0.mixer.conv1d.weight",
    ),
}


@pytest.mark.parametrize("case", DEPTHWISE)
def test_a_depthwise_convolution_is_known(case: str) -> None:
    shapes, name = DEPTHWISE[case]
    layer, field = layers_in(shapes)[name], 1
    for size in shapes[name][2:]:
        field *= size
    assert layer.kind.startswith("depthwise_conv")
    assert (layer.n_in, layer.n_out) == (field, field)


def test_positions_of_wav2vec_are_grouped_by_the_configuration_else_by_their_name() -> None:
    shapes = {"encoder.pos_conv_embed.conv.weight": (48, 3, 128)}
    assert fans_in(shapes) == {"encoder.pos_conv_embed.conv.weight": (384, 384)}
    by_config = fans_in(shapes, {"num_conv_pos_embedding_groups": 8})
    assert by_config == {"encoder.pos_conv_embed.conv.weight": (384, 768)}


TRANSPOSED: Mapping[str, Shapes] = {
    "by its bias": {"up.weight": (16, 4, 2, 2), "up.bias": (4,)},
    "by the normalisation after it": {
        "main.0.weight": (16, 4, 4, 4),
        "main.1.weight": (4,),
        "main.1.running_mean": (4,),
    },
    "by its name": {"deconv.weight": (16, 4, 3, 3)},
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_a_transposed_convolution_has_its_inputs_first(case: str) -> None:
    (layer,) = layers_in(TRANSPOSED[case]).values()
    field = layer.tensor.shape[2] * layer.tensor.shape[3]
    assert (layer.kind, layer.n_in, layer.n_out) == ("conv_transpose2d", 16 * field, 4 * field)


def test_a_generators_last_layer_is_transposed_like_those_before() -> None:
    generator = {"main.0.weight": (100, 32, 4, 4), "main.3.weight": (32, 16, 4, 4), "main.6.weight": (16, 3, 4, 4)}
    generator = {**generator, "main.1.weight": (32,), "main.4.weight": (16,)}
    assert {layer.kind for layer in layers_in(generator).values()} == {"conv_transpose2d"}


def test_a_bias_of_the_first_size_is_that_of_an_ordinary_convolution() -> None:
    (layer,) = layers_in({"up.weight": (16, 4, 2, 2), "up.bias": (16,)}).values()
    assert layer.kind == "conv2d"
