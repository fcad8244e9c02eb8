"""Networks of torch alone: its own modules, and classic networks written by hand as tutorials and papers' code do."""

from collections.abc import Callable, Iterator

import torch
from architectures import Architecture
from torch import nn
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm


def networks() -> Iterator[Architecture]:
    """All of them."""
    for name, build in NETWORKS.items():
        yield Architecture(name=name, library="torch", build=build)


class Parts(nn.Module):
    """Modules under the names that they are given; without a forward pass, which nothing here needs."""

    def __init__(self, **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class DoubleConv(Parts):
    """U-Net's block, as in milesial/Pytorch-UNet."""

    def __init__(self, n_in: int, n_out: int) -> None:
        first, second = nn.Conv2d(n_in, n_out, 3, bias=False), nn.Conv2d(n_out, n_out, 3, bias=False)
        norms = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        super().__init__(double_conv=nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU()))


class MaskedConv2d(nn.Conv2d):
    """PixelCNN's convolution, its mask a buffer."""

    def __init__(self, n_in: int, n_out: int, field: int) -> None:
        super().__init__(n_in, n_out, field, padding=field // 2)
        self.register_buffer("mask", torch.ones_like(self.weight))


class GraphConvolution(nn.Module):
    """Thomas Kipf's pygcn: the weight is (inputs, outputs)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))


class Capsules(nn.Module):
    """The digit capsules of gram-ai/capsule-networks: a stack of matrices for each pair of capsules."""

    def __init__(self) -> None:
        super().__init__()
        self.route_weights = nn.Parameter(torch.empty(10, 72, 8, 16))


def lenet() -> nn.Module:
    """LeNet-5, as in torch's tutorials: one channel in."""
    return Parts(
        conv1=nn.Conv2d(1, 6, 5),
        conv2=nn.Conv2d(6, 16, 5),
        fc1=nn.Linear(400, 120),
        fc2=nn.Linear(120, 84),
        fc3=nn.Linear(84, 10),
    )


def mnist_example() -> nn.Module:
    """pytorch/examples' mnist: 32 maps from one channel."""
    return Parts(
        conv1=nn.Conv2d(1, 32, 3), conv2=nn.Conv2d(32, 64, 3), fc1=nn.Linear(9216, 128), fc2=nn.Linear(128, 10)
    )


def alexnet() -> nn.Module:
    """Torchvision's, narrowed."""
    channels = [(3, 16, 11), (16, 48, 5), (48, 96, 3), (96, 64, 3), (64, 64, 3)]
    features = nn.Sequential(*(layer for c in channels for layer in (nn.Conv2d(*c), nn.ReLU())))
    return Parts(
        features=features, classifier=nn.Sequential(nn.Dropout(), nn.Linear(2304, 96), nn.ReLU(), nn.Linear(96, 10))
    )


def grouped_alexnet() -> nn.Module:
    """Krizhevsky's own, its convolutions on two GPUs."""
    return Parts(
        conv1=nn.Conv2d(3, 96, 11),
        conv2=nn.Conv2d(96, 256, 5, groups=2),
        conv3=nn.Conv2d(256, 384, 3),
        conv4=nn.Conv2d(384, 384, 3, groups=2),
        conv5=nn.Conv2d(384, 256, 3, groups=2),
        fc6=nn.Linear(1024, 512),
        fc7=nn.Linear(512, 100),
    )


def vgg() -> nn.Module:
    """With batch normalisation."""
    layers: list[nn.Module] = []
    n_in = 3
    for n_out in (16, 32, 64, 64, 128, 128):
        layers += [nn.Conv2d(n_in, n_out, 3), nn.BatchNorm2d(n_out), nn.ReLU()]
        n_in = n_out
    return Parts(
        features=nn.Sequential(*layers), classifier=nn.Sequential(nn.Linear(6272, 512), nn.ReLU(), nn.Linear(512, 10))
    )


def unet() -> nn.Module:
    """milesial/Pytorch-UNet, narrowed, one channel in."""
    up = {
        f"up{i}": Parts(up=nn.ConvTranspose2d(c, c // 2, 2, stride=2), conv=DoubleConv(c, c // 2))
        for i, c in enumerate((128, 64, 32), 1)
    }
    down = {
        f"down{i}": Parts(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), DoubleConv(c, 2 * c)))
        for i, c in enumerate((16, 32, 64), 1)
    }
    return Parts(inc=DoubleConv(1, 16), **down, **up, outc=Parts(conv=nn.Conv2d(16, 2, 1)))


def unet_upconv() -> nn.Module:
    """mateuszbuda/brain-segmentation-pytorch's names."""
    parts: dict[str, nn.Module] = {}
    for i, (n_in, n_out) in enumerate(((3, 24), (24, 48), (48, 96)), 1):
        parts[f"encoder{i}"] = nn.Sequential(nn.Conv2d(n_in, n_out, 3, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())
    for i, (n_in, n_out) in enumerate(((96, 48), (48, 24)), 1):
        parts[f"upconv{i}"] = nn.ConvTranspose2d(n_in, n_out, 2, stride=2)
        parts[f"decoder{i}"] = nn.Sequential(nn.Conv2d(2 * n_out, n_out, 3), nn.BatchNorm2d(n_out), nn.ReLU())
    return Parts(**parts, conv=nn.Conv2d(24, 1, 1))


def dcgan_generator() -> nn.Module:
    """pytorch/examples' dcgan: transposed convolutions called main.0, main.3, ..."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((100, 128), (128, 64), (64, 32), (32, 16)):
        layers += [nn.ConvTranspose2d(n_in, n_out, 4, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
    return Parts(main=nn.Sequential(*layers, nn.ConvTranspose2d(16, 3, 4, bias=False), nn.Tanh()))


def dcgan_discriminator() -> nn.Module:
    """pytorch/examples' dcgan: convolutions called main.0, main.2, ..."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 4, bias=False), nn.LeakyReLU()]
    for n_in, n_out in ((16, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(n_in, n_out, 4, bias=False), nn.BatchNorm2d(n_out), nn.LeakyReLU()]
    return Parts(main=nn.Sequential(*layers, nn.Conv2d(128, 1, 4, bias=False), nn.Sigmoid()))


def sngan_discriminator() -> nn.Module:
    """Spectral normalisation as torch wrote it before its parametrizations."""
    convolutions = [old_spectral_norm(nn.Conv2d(*c)) for c in ((3, 16, 3), (16, 32, 4), (32, 32, 3), (32, 64, 4))]
    return Parts(model=nn.Sequential(*convolutions), fc=old_spectral_norm(nn.Linear(1024, 1)))


def sngan_discriminator_new() -> nn.Module:
    """Spectral normalisation as a parametrization."""
    convolutions = [spectral_norm(nn.Conv2d(*c)) for c in ((3, 16, 3), (16, 32, 4), (32, 64, 4))]
    return Parts(
        model=nn.Sequential(*convolutions),
        fc=spectral_norm(nn.Linear(1024, 1)),
        embed=spectral_norm(nn.Embedding(10, 64)),
    )


def sngan_generator() -> nn.Module:
    """Both in one: transposed convolutions under spectral normalisation."""
    return Parts(
        linear=nn.Linear(100, 2048),
        deconv1=old_spectral_norm(nn.ConvTranspose2d(128, 64, 4)),
        deconv2=spectral_norm(nn.ConvTranspose2d(64, 32, 4)),
        conv=nn.Conv2d(32, 3, 3),
    )


def resnext() -> nn.Module:
    """Two stages of bottlenecks with 8 groups, in torchvision's names."""
    blocks: dict[str, nn.Module] = {"conv1": nn.Conv2d(3, 24, 7, bias=False), "bn1": nn.BatchNorm2d(24)}
    n_in = 24
    for stage, width in enumerate((32, 64), 1):
        stack = []
        for index in range(3):
            parts: dict[str, nn.Module] = {
                "conv1": nn.Conv2d(n_in, width, 1, bias=False),
                "bn1": nn.BatchNorm2d(width),
                "conv2": nn.Conv2d(width, width, 3, groups=8, bias=False),
                "bn2": nn.BatchNorm2d(width),
                "conv3": nn.Conv2d(width, 2 * width, 1, bias=False),
                "bn3": nn.BatchNorm2d(2 * width),
            }
            if index == 0:
                parts["downsample"] = nn.Sequential(
                    nn.Conv2d(n_in, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
                )
            stack.append(Parts(**parts))
            n_in = 2 * width
        blocks[f"layer{stage}"] = nn.Sequential(*stack)
    return Parts(**blocks, fc=nn.Linear(n_in, 10))


def mobilenet() -> nn.Module:
    """marvis/pytorch-mobilenet: pairs of depthwise and pointwise convolutions in one Sequential."""

    def pair(n_in: int, n_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(n_in, n_in, 3, groups=n_in, bias=False),
            nn.BatchNorm2d(n_in),
            nn.ReLU(),
            nn.Conv2d(n_in, n_out, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        )

    first = nn.Sequential(nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU())
    return Parts(model=nn.Sequential(first, pair(32, 64), pair(64, 128), pair(128, 128)), fc=nn.Linear(128, 10))


def shufflenet() -> nn.Module:
    """Pointwise convolutions in groups, then a depthwise one."""
    units = [
        Parts(
            gconv1=nn.Conv2d(48, 24, 1, groups=3, bias=False),
            bn1=nn.BatchNorm2d(24),
            dwconv=nn.Conv2d(24, 24, 3, groups=24, bias=False),
            bn2=nn.BatchNorm2d(24),
            gconv2=nn.Conv2d(24, 48, 1, groups=3, bias=False),
            bn3=nn.BatchNorm2d(48),
        )
        for _ in range(3)
    ]
    return Parts(
        conv1=nn.Conv2d(3, 48, 3, bias=False),
        bn1=nn.BatchNorm2d(48),
        stage2=nn.Sequential(*units),
        fc=nn.Linear(48, 10),
    )


def inception() -> nn.Module:
    """One block with branches of different sizes side by side."""

    def branch(*sizes: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(*(nn.Conv2d(*size) for size in sizes))

    return Parts(
        stem=nn.Conv2d(1, 32, 7),
        branch1=branch((32, 16, 1)),
        branch2=branch((32, 24, 1), (24, 32, 3)),
        branch3=branch((32, 4, 1), (4, 8, 5)),
        branch4=branch((32, 8, 1)),
        fc=nn.Linear(64, 10),
    )


def audio_classifier() -> nn.Module:
    """torchaudio's M5 tutorial: 1-dimensional, one channel in, as many maps after it as before."""
    return Parts(
        conv1=nn.Conv1d(1, 32, 80),
        bn1=nn.BatchNorm1d(32),
        conv2=nn.Conv1d(32, 32, 3),
        bn2=nn.BatchNorm1d(32),
        conv3=nn.Conv1d(32, 64, 3),
        bn3=nn.BatchNorm1d(64),
        conv4=nn.Conv1d(64, 64, 3),
        bn4=nn.BatchNorm1d(64),
        fc1=nn.Linear(64, 35),
    )


def two_towers() -> nn.Module:
    """Two towers with one channel in each: the second starts after the first one's 16 channels."""
    return Parts(
        left=nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)),
        right=nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.Conv2d(16, 32, 3)),
        fc=nn.Linear(48, 10),
    )


def siamese() -> nn.Module:
    """Koch's, one channel in, distances into one output."""
    conv = nn.Sequential(nn.Conv2d(1, 64, 10), nn.ReLU(), nn.Conv2d(64, 128, 7), nn.ReLU(), nn.Conv2d(128, 128, 4))
    return Parts(conv=conv, linear=nn.Sequential(nn.Linear(1152, 256), nn.Sigmoid()), out=nn.Linear(256, 1))


def vae() -> nn.Module:
    """pytorch/examples' vae."""
    return Parts(
        fc1=nn.Linear(784, 400),
        fc21=nn.Linear(400, 20),
        fc22=nn.Linear(400, 20),
        fc3=nn.Linear(20, 400),
        fc4=nn.Linear(400, 784),
    )


def autoencoder() -> nn.Module:
    """Convolutions into a code, transposed ones out of it, both in Sequentials called encoder and decoder."""
    encoder = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 7))
    decoder = nn.Sequential(
        nn.ConvTranspose2d(64, 32, 7), nn.ReLU(), nn.ConvTranspose2d(32, 16, 3), nn.ReLU(), nn.ConvTranspose2d(16, 1, 3)
    )
    return Parts(encoder=encoder, decoder=decoder)


def pix2pix() -> nn.Module:
    """junyanz/pytorch-CycleGAN-and-pix2pix: the U-Net generator's nested blocks, all called model."""
    block: nn.Module | None = None
    for outer, inner in ((64, 128), (32, 64), (16, 32)):
        down = [nn.LeakyReLU(), nn.Conv2d(outer, inner, 4, bias=False)]
        up = [
            nn.ReLU(),
            nn.ConvTranspose2d(inner if block is None else 2 * inner, outer, 4, bias=False),
            nn.BatchNorm2d(outer),
        ]
        block = Parts(model=nn.Sequential(*down, *([nn.BatchNorm2d(inner), block] if block is not None else []), *up))
    outermost = [nn.Conv2d(3, 16, 4), block, nn.ReLU(), nn.ConvTranspose2d(32, 3, 4), nn.Tanh()]
    return Parts(model=Parts(model=nn.Sequential(*(part for part in outermost if part is not None))))


def cyclegan() -> nn.Module:
    """The same repository's ResNet generator."""

    def block(width: int) -> nn.Module:
        return Parts(
            conv_block=nn.Sequential(
                nn.ReflectionPad2d(1),
                nn.Conv2d(width, width, 3),
                nn.InstanceNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3),
            )
        )

    return Parts(
        model=nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, 16, 7),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            block(64),
            block(64),
            nn.ConvTranspose2d(64, 32, 3),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3),
            nn.ReLU(),
            nn.Conv2d(16, 3, 7),
        )
    )


def pointnet() -> nn.Module:
    """fxia22/pointnet.pytorch: 1-dimensional convolutions of one position."""
    stn = Parts(
        conv1=nn.Conv1d(3, 64, 1),
        conv2=nn.Conv1d(64, 128, 1),
        conv3=nn.Conv1d(128, 256, 1),
        fc1=nn.Linear(256, 128),
        fc2=nn.Linear(128, 64),
        fc3=nn.Linear(64, 9),
        bn1=nn.BatchNorm1d(64),
        bn2=nn.BatchNorm1d(128),
        bn3=nn.BatchNorm1d(256),
    )
    return Parts(
        stn=stn,
        conv1=nn.Conv1d(3, 64, 1),
        conv2=nn.Conv1d(64, 128, 1),
        bn1=nn.BatchNorm1d(64),
        bn2=nn.BatchNorm1d(128),
        fc=nn.Linear(128, 10),
    )


def wavenet() -> nn.Module:
    """Gated dilated convolutions of one channel's quantised samples."""
    parts = {
        name: nn.ModuleList(nn.Conv1d(24, n_out, field) for _ in range(4))
        for name, n_out, field in (("filter_convs", 32, 2), ("gate_convs", 32, 2))
    }
    parts |= {
        name: nn.ModuleList(nn.Conv1d(32, n_out, 1) for _ in range(4))
        for name, n_out in (("residual_convs", 24), ("skip_convs", 48))
    }
    return Parts(
        start_conv=nn.Conv1d(256, 24, 1), **parts, end_conv_1=nn.Conv1d(48, 40, 1), end_conv_2=nn.Conv1d(40, 256, 1)
    )


def tcn() -> nn.Module:
    """locuslab/TCN: each weight-normalised convolution is held twice, by the block and by its Sequential."""

    def block(n_in: int, n_out: int) -> nn.Module:
        first, second = old_weight_norm(nn.Conv1d(n_in, n_out, 3)), old_weight_norm(nn.Conv1d(n_out, n_out, 3))
        parts: dict[str, nn.Module] = {
            "conv1": first,
            "conv2": second,
            "net": nn.Sequential(first, nn.ReLU(), second, nn.ReLU()),
        }
        if n_in != n_out:
            parts["downsample"] = nn.Conv1d(n_in, n_out, 1)
        return Parts(**parts)

    return Parts(tcn=Parts(network=nn.Sequential(block(1, 25), block(25, 25), block(25, 40))), linear=nn.Linear(40, 10))


def hifigan() -> nn.Module:
    """jik876/hifi-gan's generator under weight normalisation, also its transposed convolutions."""
    ups = nn.ModuleList(old_weight_norm(nn.ConvTranspose1d(n_in, n_in // 2, 8)) for n_in in (128, 64))
    resblocks = nn.ModuleList(
        Parts(
            convs1=nn.ModuleList(old_weight_norm(nn.Conv1d(width, width, 3)) for _ in range(3)),
            convs2=nn.ModuleList(old_weight_norm(nn.Conv1d(width, width, 3)) for _ in range(3)),
        )
        for width in (64, 32)
    )
    return Parts(
        conv_pre=old_weight_norm(nn.Conv1d(80, 128, 7)),
        ups=ups,
        resblocks=resblocks,
        conv_post=old_weight_norm(nn.Conv1d(32, 1, 7)),
    )


def weight_normalised() -> nn.Module:
    """The parametrizations of torch 2, with other dimensions kept than the first."""
    return Parts(
        conv=weight_norm(nn.Conv1d(1, 32, 5)),
        grouped=weight_norm(nn.Conv1d(32, 32, 3, groups=4)),
        positions=weight_norm(nn.Conv1d(32, 32, 16, groups=2), dim=2),
        up=weight_norm(nn.ConvTranspose1d(32, 16, 4)),
        fc=weight_norm(nn.Linear(16, 12)),
        whole=weight_norm(nn.Linear(12, 10), dim=None),
        lstm=weight_norm(nn.LSTM(12, 20), name="weight_hh_l0"),
        rotation=orthogonal(nn.Linear(16, 16)),
    )


def seq2seq() -> nn.Module:
    """torch's translation tutorial: GRUs and an attention."""
    attention = Parts(Wa=nn.Linear(40, 40), Ua=nn.Linear(40, 40), Va=nn.Linear(40, 1))
    decoder = Parts(embedding=nn.Embedding(300, 40), attention=attention, gru=nn.GRU(80, 40), out=nn.Linear(40, 300))
    return Parts(encoder=Parts(embedding=nn.Embedding(200, 40), gru=nn.GRU(40, 40)), decoder=decoder)


def tied_language_model() -> nn.Module:
    """pytorch/examples' word_language_model with tied weights."""
    encoder, decoder = nn.Embedding(120, 48), nn.Linear(48, 120)
    decoder.weight = encoder.weight
    return Parts(encoder=encoder, rnn=nn.LSTM(48, 48, 2), decoder=decoder)


def character_transformer() -> nn.Module:
    """Karpathy's minGPT: fused q, k, v as a Linear, a causal mask as a buffer."""
    blocks = [
        Parts(
            ln_1=nn.LayerNorm(48),
            attn=_MinGPTAttention(48),
            ln_2=nn.LayerNorm(48),
            mlp=nn.ModuleDict({"c_fc": nn.Linear(48, 192), "c_proj": nn.Linear(192, 48)}),
        )
        for _ in range(3)
    ]
    inner = {
        "wte": nn.Embedding(65, 48),
        "wpe": nn.Embedding(64, 48),
        "h": nn.ModuleList(blocks),
        "ln_f": nn.LayerNorm(48),
    }
    return Parts(transformer=nn.ModuleDict(inner), lm_head=nn.Linear(48, 65, bias=False))


class _MinGPTAttention(Parts):
    def __init__(self, width: int) -> None:
        super().__init__(c_attn=nn.Linear(width, 3 * width), c_proj=nn.Linear(width, width))
        self.register_buffer("bias", torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64))


def nerf() -> nn.Module:
    """yenchenlin/nerf-pytorch."""
    points = [nn.Linear(63, 64), *(nn.Linear(64 + 63 * (i == 4), 64) for i in range(7))]
    return Parts(
        pts_linears=nn.ModuleList(points),
        views_linears=nn.ModuleList([nn.Linear(91, 32)]),
        feature_linear=nn.Linear(64, 64),
        alpha_linear=nn.Linear(64, 1),
        rgb_linear=nn.Linear(32, 3),
    )


def pixelcnn() -> nn.Module:
    """Masked convolutions; the mask has the weight's shape."""
    return Parts(
        net=nn.Sequential(
            MaskedConv2d(1, 24, 7), nn.BatchNorm2d(24), nn.ReLU(), MaskedConv2d(24, 24, 7), nn.Conv2d(24, 256, 1)
        )
    )


def capsules() -> nn.Module:
    """Primary capsules are convolutions; digit capsules a bare parameter of four dimensions."""
    primary = Parts(capsules=nn.ModuleList(nn.Conv2d(64, 8, 9) for _ in range(4)))
    decoder = nn.Sequential(nn.Linear(160, 512), nn.ReLU(), nn.Linear(512, 784), nn.Sigmoid())
    return Parts(conv1=nn.Conv2d(1, 64, 9), primary_capsules=primary, digit_capsules=Capsules(), decoder=decoder)


def recommender() -> nn.Module:
    """Neural collaborative filtering and DLRM: embeddings under many names."""
    tables = nn.ModuleList(nn.EmbeddingBag(size, 16, mode="sum") for size in (40, 7, 300))
    mlp = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    return Parts(
        embed_user_GMF=nn.Embedding(90, 8),
        embed_item_GMF=nn.Embedding(70, 8),
        user_factors=nn.Embedding(90, 16),
        item_biases=nn.Embedding(70, 1),
        emb_l=tables,
        MLP_layers=mlp,
        predict_layer=nn.Linear(16, 1),
    )


def actor_critic() -> nn.Module:
    """Stable-Baselines3's CnnPolicy and cleanrl's names, and one number of outputs."""
    cnn = nn.Sequential(
        nn.Conv2d(4, 32, 8), nn.ReLU(), nn.Conv2d(32, 64, 4), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten()
    )
    extractor = Parts(cnn=cnn, linear=nn.Sequential(nn.Linear(3136, 512), nn.ReLU()))
    return Parts(
        log_std=nn.Parameter(torch.zeros(6)),
        features_extractor=extractor,
        action_net=nn.Linear(512, 6),
        value_net=nn.Linear(512, 1),
    )


def crnn() -> nn.Module:
    """meijieru/crnn.pytorch: convolutions of one channel, two bidirectional LSTMs."""
    cnn = nn.Sequential()
    n_in = 1
    for i, n_out in enumerate((32, 64, 96, 96)):
        cnn.add_module(f"conv{i}", nn.Conv2d(n_in, n_out, 3))
        cnn.add_module(f"batchnorm{i}", nn.BatchNorm2d(n_out))
        n_in = n_out
    rnn = [
        Parts(rnn=nn.LSTM(n, 64, bidirectional=True), embedding=nn.Linear(128, out)) for n, out in ((96, 64), (64, 37))
    ]
    return Parts(cnn=cnn, rnn=nn.Sequential(*rnn))


def conv3d() -> nn.Module:
    """C3D and a depthwise convolution in three dimensions, and up again."""
    return Parts(
        conv1=nn.Conv3d(1, 16, 3),
        conv2=nn.Conv3d(16, 16, 3, groups=16),
        conv3a=nn.Conv3d(16, 32, (1, 3, 3)),
        conv3b=nn.Conv3d(32, 32, 3, groups=4),
        up=nn.ConvTranspose3d(32, 8, 2),
        deconv=nn.ConvTranspose3d(8, 8, 2, groups=8),
        fc6=nn.Linear(128, 40),
    )


def transposed() -> nn.Module:
    """Transposed convolutions of all dimensions, in groups, under telling names and others."""
    return Parts(
        deconv=nn.ConvTranspose1d(6, 10, 4),
        upconv=nn.ConvTranspose2d(12, 8, 2),
        conv_transpose=nn.ConvTranspose2d(8, 8, 3, groups=4),
        upsample=nn.ConvTranspose2d(8, 8, 4, groups=8, bias=False),
        layer=nn.ConvTranspose2d(16, 24, 3),
        blocks=nn.Sequential(nn.ConvTranspose3d(4, 6, 2)),
    )


def grouped() -> nn.Module:
    """Convolutions in groups, each with a batch normalisation that shows its outputs but not its inputs."""
    return Parts(
        a=nn.Conv1d(12, 18, 3, groups=3),
        a_bn=nn.BatchNorm1d(18),
        b=nn.Conv1d(18, 18, 3, groups=18),
        c=nn.Conv2d(20, 40, 3, groups=5),
        c_bn=nn.BatchNorm2d(40),
        d=nn.Conv2d(40, 80, 3, groups=40),
        e=nn.Conv3d(80, 24, 1, groups=8),
        f=nn.Conv2d(24, 24, 1, groups=2),
    )


def recurrent() -> nn.Module:
    """Every recurrent class of torch, and its cells."""
    return Parts(
        lstm=nn.LSTM(14, 20, 2),
        both=nn.LSTM(14, 20, 2, bidirectional=True),
        projected=nn.LSTM(14, 20, 2, proj_size=12, bidirectional=True),
        gru=nn.GRU(14, 20, 3, bidirectional=True),
        rnn=nn.RNN(14, 20, 2),
        relu=nn.RNN(10, 15, nonlinearity="relu", bias=False),
        lstm_cell=nn.LSTMCell(14, 20),
        gru_cell=nn.GRUCell(14, 20),
        rnn_cell=nn.RNNCell(14, 20),
        square=nn.LSTM(16, 16),
        one=nn.LSTM(1, 32),
    )


def attention() -> nn.Module:
    """torch's attention with equal and with different widths."""
    return Parts(
        equal=nn.MultiheadAttention(48, 4),
        different=nn.MultiheadAttention(48, 4, kdim=40, vdim=36),
        biased=nn.MultiheadAttention(24, 4, add_bias_kv=True, bias=False),
        cross_attn=nn.MultiheadAttention(32, 2, kdim=32, vdim=64),
    )


def bilinear() -> nn.Module:
    """Bilinear maps and what else looks up or multiplies."""
    return Parts(
        bilinear=nn.Bilinear(10, 12, 8),
        score=nn.Bilinear(9, 9, 1, bias=False),
        bag=nn.EmbeddingBag(50, 6),
        table=nn.Embedding(30, 6),
        prelu=nn.PReLU(8),
        lazy=nn.Linear(6, 1),
        norm=nn.GroupNorm(2, 8),
        rms=nn.RMSNorm(8),
        grid=nn.LayerNorm([4, 6]),
    )


def graph_network() -> nn.Module:
    """pygcn, its weights stored input first."""
    return Parts(gc1=GraphConvolution(143, 16), gc2=GraphConvolution(16, 7))


def mixer() -> nn.Module:
    """An MLP-Mixer: one linear map over positions, one over channels."""
    blocks = [
        Parts(
            token_mix=nn.Sequential(nn.LayerNorm(32), nn.Linear(49, 24), nn.GELU(), nn.Linear(24, 49)),
            channel_mix=nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32)),
        )
        for _ in range(2)
    ]
    return Parts(patch_embedding=nn.Conv2d(3, 32, 16), mixer_blocks=nn.ModuleList(blocks), head=nn.Linear(32, 10))


def vit_pytorch() -> nn.Module:
    """lucidrains/vit-pytorch: to_qkv without bias, an embedding of patches that is a Linear."""
    layers = [
        nn.ModuleList(
            [
                Parts(
                    norm=nn.LayerNorm(48),
                    to_qkv=nn.Linear(48, 192, bias=False),
                    to_out=nn.Sequential(nn.Linear(64, 48), nn.Dropout()),
                ),
                Parts(
                    net=nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 96), nn.GELU(), nn.Dropout(), nn.Linear(96, 48))
                ),
            ]
        )
        for _ in range(3)
    ]
    return Parts(
        pos_embedding=nn.Parameter(torch.zeros(1, 65, 48)),
        cls_token=nn.Parameter(torch.zeros(1, 1, 48)),
        to_patch_embedding=nn.Sequential(nn.Identity(), nn.LayerNorm(192), nn.Linear(192, 48), nn.LayerNorm(48)),
        transformer=Parts(layers=nn.ModuleList(layers)),
        mlp_head=nn.Linear(48, 10),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "Transformer": lambda: nn.Transformer(48, 4, 2, 2, 112, batch_first=True),
    "Transformer-no-bias": lambda: nn.Transformer(40, 4, 2, 2, 72, bias=False),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 80), 3, nn.LayerNorm(32)),
    "TransformerDecoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 80), 2),
    "LSTM": lambda: nn.LSTM(10, 24),
    "GRU": lambda: nn.GRU(10, 24, 2),
    "Linear": lambda: nn.Linear(20, 30),
    "Conv2d-mono": lambda: nn.Conv2d(1, 20, 5),
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
    ),
    **{
        build.__name__: build
        for build in (
            lenet,
            mnist_example,
            alexnet,
            grouped_alexnet,
            vgg,
            unet,
            unet_upconv,
            dcgan_generator,
            dcgan_discriminator,
            sngan_discriminator,
            sngan_discriminator_new,
            sngan_generator,
            resnext,
            mobilenet,
            shufflenet,
            inception,
            audio_classifier,
            two_towers,
            siamese,
            vae,
            autoencoder,
            pix2pix,
            cyclegan,
            pointnet,
            wavenet,
            tcn,
            hifigan,
            weight_normalised,
            seq2seq,
            tied_language_model,
            character_transformer,
            nerf,
            pixelcnn,
            capsules,
            recommender,
            actor_critic,
            crnn,
            conv3d,
            transposed,
            grouped,
            recurrent,
            attention,
            bilinear,
            graph_network,
            mixer,
            vit_pytorch,
        )
    },
}
