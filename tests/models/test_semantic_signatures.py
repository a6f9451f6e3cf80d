"""What makes each semantic architecture the one its paper describes, and its published sizes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from segbench.layers.losses.presence import class_presence
from segbench.layers.pyramid_pooling import PyramidPooling
from segbench.layers.unpool import bed_of_nails, max_pool_with_places, max_unpool, nearest
from segbench.models.deeplab_v2 import SummedPyramid
from segbench.models.dilation import CONTEXT8, ContextModule, FrontEnd
from segbench.models.encnet import Encoding
from segbench.models.icnet import SummedPooling
from segbench.models.ocrnet import gather_regions
from segbench.models.registry import create_model

COUNTS = [
    ("segnet", 11, 29_449_355),
    ("segnet", 21, 29_455_125),
    ("segnet_basic", 11, 1_416_587),
    ("deconvnet", 21, 251_805_653),
    ("enet", 19, 351_660),
    ("enet", 20, 351_804),
    ("enet", 12, 350_652),
    ("enet", 11, 350_508),
    ("erfnet", 20, 2_066_836),
    ("erfnet", 19, 2_066_642),
    ("fast_scnn", 19, 1_138_051),
    ("fc_densenet56", 11, 1_376_795),
    ("fc_densenet67", 11, 3_463_243),
    ("fc_densenet103", 11, 9_322_091),
    ("dilation8", 21, 141_149_720),
    ("dilation8", 11, 134_313_443),
    ("dilation10", 19, 134_373_043),
    ("deeplab_v1", 21, 42_543_189),
    ("deeplab_v2_resnet101", 21, 44_048_532),
    ("deeplab_v2_resnet101", 182, 55_919_384),
    ("deeplab_v3_resnet50", 21, 42_004_074),
    ("deeplab_v3_resnet101", 21, 60_996_202),
    ("pspnet_resnet50", 19, 49_080_038),
    ("pspnet_resnet101", 19, 68_072_166),
    ("icnet", 19, 6_699_987),
    ("icnet_resnet50", 19, 47_827_833),
    ("encnet_resnet50", 19, 35_891_961),
    ("encnet_resnet101", 150, 55_052_162),
    ("hrnet_w18", 19, 9_640_849),
    ("hrnet_w48", 19, 65_858_659),
    ("ocrnet_hrnet_w18", 19, 12_080_036),
    ("ocrnet_hrnet_w48", 19, 70_371_446),
    ("decouplednet", 21, 427_078_678),
]
MACS = [
    ("enet", 19, (512, 1024), 4.04),
    ("erfnet", 19, (512, 1024), 26.61),
    ("fast_scnn", 19, (1024, 2048), 6.71),
    ("fc_densenet103", 11, (352, 480), 67.59),
    ("deeplab_v2_resnet101", 21, (513, 513), 188.89),
    ("deeplab_v3_resnet50", 21, (520, 520), 178.72),
    ("deeplab_v3_resnet101", 21, (520, 520), 258.74),
    ("icnet_resnet50", 19, (1024, 2048), 121.97),
    ("encnet_resnet50", 19, (512, 1024), 281.38),
    ("hrnet_w18", 19, (1024, 2048), 147.40),
    ("hrnet_w48", 19, (1024, 2048), 747.51),
    ("ocrnet_hrnet_w48", 19, (1024, 2048), 1297.88),
]


def on_meta(name: str, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, num_classes)


def number_of(model: nn.Module, kind: type) -> int:
    return sum(type(module) is kind for module in model.modules())


@pytest.mark.parametrize(("name", "num_classes", "expected"), COUNTS)
def test_published_parameter_count(name, num_classes, expected):
    model = on_meta(name, num_classes)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(("name", "num_classes", "size", "expected"), MACS)
def test_published_multiply_adds(name, num_classes, size, expected):
    model = on_meta(name, num_classes).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, *size, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(expected, rel=0.005)


def test_segnet_has_no_transposed_convolution():
    model = on_meta("segnet", 11)
    assert number_of(model, nn.ConvTranspose2d) == 0
    assert number_of(model, nn.Conv2d) == 26
    assert number_of(model, nn.BatchNorm2d) == 25


def test_deconvnet_mirrors_vgg_with_transposed_convolutions():
    model = on_meta("deconvnet", 21)
    assert number_of(model, nn.ConvTranspose2d) == 14
    assert number_of(model, nn.Conv2d) == 16
    assert number_of(model, nn.BatchNorm2d) == 29


def test_unpooling_puts_maxima_back_where_they_were():
    features = torch.randn(2, 5, 9, 7)
    pooled, places, size = max_pool_with_places(features)
    assert size == (9, 7)
    theirs = functional.max_unpool2d(*functional.max_pool2d(features, 2, return_indices=True), 2,
                                     output_size=(9, 7))  # fmt: skip
    ours = max_unpool(pooled, places, size)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours[ours != 0], features[ours != 0])
    fewer = max_unpool(pooled[:, :3], places, size)
    assert torch.equal(fewer, theirs[:, :3])


def test_the_other_ways_up():
    small = torch.arange(4.0).reshape(1, 1, 2, 2) + 1
    nails = bed_of_nails(small, (4, 5))
    assert nails.sum() == small.sum()
    assert torch.equal(nails[0, 0, ::2, :4:2], small[0, 0])
    assert torch.equal(nearest(small, (4, 4))[0, 0, :2, :2], torch.ones(2, 2))


def test_deeplab_v2_sums_its_branches_and_v3_concatenates_them():
    features = torch.randn(1, 8, 9, 9)
    pyramid = SummedPyramid(8, 3, rates=(1, 2, 4))
    expected = sum(branch(features) for branch in pyramid.branches)
    assert torch.allclose(pyramid(features), expected)
    assert [b.dilation[0] for b in on_meta("deeplab_v2_resnet101", 21).head.branches] == [
        *(6, 12, 18, 24)
    ]
    head = on_meta("deeplab_v3_resnet50", 21).head
    assert head[0].project[0][0].in_channels == 5 * 256


def test_deeplab_v1_large_field_of_view():
    fc6 = on_meta("deeplab_v1_vgg16", 21).head[0][0]
    assert (fc6.kernel_size, fc6.dilation, fc6.out_channels) == ((3, 3), (12, 12), 1024)


def test_pyramid_pooling_reads_grids_of_1_2_3_and_6_cells():
    pyramid = PyramidPooling(8).eval()
    assert pyramid.bins == (1, 2, 3, 6)
    assert pyramid.out_channels == 16
    features = torch.randn(1, 8, 6, 6)
    out = pyramid(features)
    assert torch.equal(out[:, :8], features)
    mean = pyramid.project[0](features.mean((2, 3), keepdim=True))
    assert torch.allclose(out[:, 8:10], mean.expand(-1, -1, 6, 6), atol=1e-6)
    finest = pyramid.project[3](features)
    assert torch.allclose(out[:, 14:16], finest, atol=1e-6)


def test_enet_and_erfnet_keep_their_marks():
    enet = on_meta("enet", 19)
    assert all(m.bias is None for m in enet.modules() if isinstance(m, nn.Conv2d))
    kernels = {m.kernel_size for m in enet.modules() if type(m) is nn.Conv2d}
    assert {(5, 1), (1, 5)} <= kernels
    erfnet = on_meta("erfnet", 19)
    factored = [m for m in erfnet.modules() if type(m) is nn.Conv2d and 1 in m.kernel_size]
    assert {m.kernel_size for m in factored} == {(3, 1), (1, 3), (1, 1)}
    assert {max(m.dilation) for m in factored} == {1, 2, 4, 8, 16}


def test_fc_densenet_enlarges_only_what_the_last_block_made():
    model = on_meta("fc_densenet103", 11)
    assert [m.in_channels for m in model.enlarge] == [240, 192, 160, 112, 80]
    assert model.classifier.in_channels == 256
    convolutions = number_of(model, nn.Conv2d) + number_of(model, nn.ConvTranspose2d)
    assert convolutions == 103


def test_context_module_starts_as_the_identity():
    module = ContextModule(4, dilations=CONTEXT8)
    scores = torch.rand(1, 4, 40, 40)
    assert torch.allclose(module(scores), scores, atol=0.1)
    wide = ContextModule(4, dilations=CONTEXT8, widths=(2, 2, 4, 8, 16, 32, 32))
    assert torch.allclose(wide(scores), scores, atol=0.5)


def test_basic_context_module_sees_67_by_67_scores():
    module = ContextModule(2, dilations=CONTEXT8)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0.01)
    scores = torch.ones(1, 2, 101, 101, requires_grad=True)
    module(scores)[0, 0, 50, 50].backward()
    seen = scores.grad[0, 0] != 0
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 67


def test_dilation_front_end_has_no_padding():
    with torch.device("meta"):
        front = FrontEnd(3, fc_channels=8)
    for k in (1, 5):
        side = 8 * k + 372
        assert front(torch.empty(1, 3, side, side, device="meta")).shape[-2:] == (k, k)


def test_icnet_sums_its_pyramid():
    features = torch.randn(1, 4, 12, 18)
    pooled = SummedPooling()(features)
    assert pooled.shape == features.shape
    constant = torch.full((1, 4, 12, 18), 2.0)
    assert torch.allclose(SummedPooling()(constant), 5 * constant)


def test_icnet_is_guided_at_two_coarser_scales():
    model = create_model("icnet", 3, guidance=True).train()
    outputs = model(torch.randn(2, 3, 128, 128))
    sizes = [tuple(aux.shape[-2:]) for aux in outputs["aux"]]
    assert sizes == [(9, 9), (16, 16)], "strides 16 and 8; Caffe's pooling rounds up"
    assert "aux" not in model.eval()(torch.randn(1, 3, 128, 128))


def test_region_vectors_are_a_softmax_over_pixels_not_classes():
    features, scores = torch.randn(1, 5, 4, 6), torch.randn(1, 3, 4, 6)
    regions = gather_regions(features, scores)[0, :, :, 0]
    for label in range(3):
        weights = scores[0, label].flatten().softmax(0)
        expected = (features[0].flatten(1) * weights).sum(1)
        assert torch.allclose(regions[:, label], expected, atol=1e-6)


def test_encoding_equals_a_loop_and_does_not_depend_on_the_order_of_codewords():
    torch.manual_seed(0)
    encoding = Encoding(4, 3)
    features = torch.randn(2, 4, 2, 3)
    found = encoding(features)
    for n in range(2):
        expected = torch.zeros(3, 4)
        for pixel in features[n].flatten(1).T:
            residuals = pixel - encoding.codewords
            weights = (encoding.scale * residuals.square().sum(1)).softmax(0)
            expected += weights[:, None] * residuals
        assert torch.allclose(found[n], expected, atol=1e-5)
    with torch.no_grad():
        order = torch.tensor([2, 0, 1])
        encoding.codewords.copy_(encoding.codewords[order])
        encoding.scale.copy_(encoding.scale[order])
    assert torch.allclose(encoding(features), found[:, order], atol=1e-5)
    assert torch.allclose(encoding(features).sum(1), found.sum(1), atol=1e-5)


def test_presence_loss_asks_which_classes_are_in_the_image():
    target = torch.tensor([[[0, 2], [255, 2]]])
    logits = torch.tensor([[9.0, -9.0, 9.0]])
    assert class_presence(logits, target) < 1e-3
    assert class_presence(-logits, target) > 8
    assert class_presence(torch.zeros(1, 3), torch.full((1, 2, 2), 255)) == pytest.approx(
        0.6931, 1e-3
    )


def test_hrnet_keeps_four_resolutions_and_reads_them_all():
    model = on_meta("hrnet_w48", 19)
    assert model.backbone.channels == 48 + 96 + 192 + 384 == 720
    assert [len(stage) for stage in model.backbone.stages] == [1, 4, 3]
    assert [len(stage[0].branches) for stage in model.backbone.stages] == [2, 3, 4]


@pytest.fixture
def decoupled():
    torch.manual_seed(0)
    model = create_model("decouplednet_tiny", 4).train()
    semantic = torch.zeros(2, 96, 96, dtype=torch.long)
    semantic[:, 48:] = 2
    return model, model(torch.randn(2, 3, 96, 96)), semantic


def parts_with_gradient(model: nn.Module, loss: torch.Tensor) -> set[str]:
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


def test_decoupled_branches_train_apart(decoupled):
    model, outputs, semantic = decoupled
    losses = model.loss(outputs, SimpleNamespace(semantic=semantic))
    assert parts_with_gradient(model, losses["classification"]) == {"classification"}
    assert parts_with_gradient(model, losses["segmentation"]) == {"bridge", "segmentation"}


def test_decoupled_network_learns_from_image_labels_alone(decoupled):
    model, outputs, semantic = decoupled
    presence = torch.zeros(2, 255, dtype=torch.bool)
    presence[:, [0, 2]] = True
    hidden = torch.full_like(semantic, 255)
    losses = model.loss(outputs, SimpleNamespace(semantic=hidden, presence=presence))
    assert losses["segmentation"].item() == 0
    truth = torch.tensor([[1.0, 0, 1, 0]] * 2)
    expected = functional.binary_cross_entropy_with_logits(outputs["presence"], truth)
    assert torch.allclose(losses["classification"], expected)


def test_bridge_is_the_gradient_of_the_class_score(decoupled):
    """Transposed layers behind shut ReLUs are back-propagation from the score to pool5."""
    model = decoupled[0].eval()
    pooled = torch.randn(1, 96, 6, 6, requires_grad=True)
    classifier = model.classification
    hidden6 = functional.relu(classifier.fc6(pooled))
    hidden7 = functional.relu(classifier.fc7(hidden6))
    score = classifier.fc8(hidden7)[0, 3, 0, 0]
    (gradient,) = torch.autograd.grad(score, pooled)
    model.bridge.copy_from(classifier)
    model.bridge.norm_relevance = nn.Identity()
    found = {"presence": torch.zeros(1, 4), "pooled": pooled, "hidden": (hidden6, hidden7)}
    relevance = model.bridge(found, torch.tensor([3]))[:, 96:]
    assert torch.allclose(relevance, gradient, atol=1e-6)


def test_only_classes_that_are_found_are_segmented():
    torch.manual_seed(0)
    model = create_model("decouplednet_tiny", 5, background=True).eval()
    with torch.no_grad():
        model.classification.fc8.weight.zero_()
        model.classification.fc8.bias.copy_(torch.tensor([-1.0, 2.0, -3.0, 4.0]))
        logits = model(torch.randn(1, 3, 50, 70))["logits"][0]
    assert torch.equal(logits[0], torch.zeros(50, 70)), "the rest of the image scores 0"
    assert (logits[[1, 3]] == -50).all()
    assert (logits[[2, 4]].abs() < 50).all()
