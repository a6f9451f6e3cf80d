"""Every protocol, as data."""

from __future__ import annotations

from dataclasses import replace

from segbench.evaluation.protocols import cityscapes_labels as cityscapes
from segbench.evaluation.protocols import label_codes
from segbench.evaluation.protocols.types import Protocol

_POOLED = "One confusion matrix over all pixels of all images. "
_VOID_OUT = "Pixels with void truth count nowhere; "
_VOID_MISS = "labelled pixels predicted void or outside the label set are misses. "
_ABSENT_OUT = (
    "A class with neither truth nor prediction has no value and is left out of the mean; a class "
    "that is predicted but has no truth counts 0."
)
_POOLED_RULE = _POOLED + _VOID_OUT + _VOID_MISS + _ABSENT_OUT
_PANOPTIC_RULE = (
    "A predicted and a true segment of one category match when their IoU, without void pixels, "
    "is above 0.5. Unmatched true segments are misses, except crowds; unmatched predictions are "
    "false, unless more than half of them lies on void or on crowds of their category. PQ, SQ "
    "and RQ are means over the categories with any segment, true or predicted."
)
_INSTANCE_RULE = (
    "Average precision over IoU thresholds 0.50 to 0.95 and 101 recall points, at most 100 "
    "detections per image and category, crowds ignored, mean over the categories with truth; "
    "masks, and boxes under keys that start with box_."
)
_VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
_CAMVID_NAMES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
)  # fmt: skip


def _pooled(protocol_id: str, title: str, num_classes: int | None) -> Protocol:
    source = "Cityscapes-style pooled IoU, as mmsegmentation's IoUMetric counts absent classes"
    return Protocol(protocol_id, "semantic", title, _POOLED_RULE, source, num_classes)


_CAMVID = replace(
    _pooled("camvid-11-void-ignored", "CamVid, 11 classes, void ignored", 11),
    class_names=_CAMVID_NAMES,
    labels=label_codes.CAMVID,
)

_OWN = (
    _pooled("semantic-pooled", "Pooled mIoU", None),
    _pooled("digit-scenes-14", "Digit scenes, 10 digits and 4 textures", 14),
    _pooled("pennfudan-2", "Penn-Fudan, pedestrian and background", 2),
)

_CAMVID_RULES = (
    _CAMVID,
    replace(
        _CAMVID,
        id="camvid-11-void-as-fp",
        title="CamVid, 11 classes, predictions on void are false",
        rule=_POOLED + "A class predicted on void truth is a false positive of that class; "
        "labelled pixels predicted void are misses. " + _ABSENT_OUT,
        source="the reading that reproduces the published CamVid numbers of ESPNet",
        void_truth="false_positive",
    ),
    replace(
        _CAMVID,
        id="camvid-11-void-dropped",
        title="CamVid, 11 classes, void dropped on both sides",
        rule=_POOLED + "Pixels whose truth or prediction is void count nowhere. " + _ABSENT_OUT,
        source="evaluations that cut the void row and column out of a 12-class matrix",
        void_prediction="ignored",
    ),
    replace(
        _CAMVID,
        id="camvid-12",
        title="CamVid, 11 classes and void as the twelfth",
        rule=_POOLED + "Void is a class like the others. " + _ABSENT_OUT,
        source="evaluations without an ignored label",
        void_class=True,
    ),
)

_DATASETS = (
    Protocol(
        id="voc2012",
        task="semantic",
        title="Pascal VOC 2012, 20 objects and background",
        rule=_POOLED + _VOID_OUT + "a prediction above 20 is an error. The mean is over all 21 "
        "classes; it has no value where a class has neither truth nor prediction.",
        source="VOC development kit, VOCevalseg; mean over classes with background",
        num_classes=21,
        void_prediction="refused",
        absent_class="undefined",
        class_names=_VOC_NAMES,
        labels=label_codes.PASCAL_VOC,
    ),
    replace(
        _pooled("pascal-context-59", "Pascal Context, 59 classes", 59),
        rule="Background (0) is void. " + _POOLED_RULE,
        source="mmsegmentation, Pascal Context with 59 classes and reduced zero label",
        labels=label_codes.REDUCE_ZERO,
    ),
    replace(
        _pooled("pascal-context-60", "Pascal Context, 59 classes and background", 60),
        rule="Background (0) is a class. " + _POOLED_RULE,
        source="mmsegmentation, Pascal Context with 60 classes",
    ),
    Protocol(
        id="cityscapes-fine",
        task="semantic",
        title="Cityscapes, 19 classes, 7 categories",
        rule=_POOLED + "Pixels whose true label is not evaluated count nowhere; pixels of an "
        "evaluated class predicted as a label that is not are misses. " + _ABSENT_OUT + " In a "
        "category, confusion between its own classes is correct. iIoU weighs each instance's "
        "pixels by mean class size / instance size, in hits and misses but not in false "
        "positives.",
        source="cityscapesScripts, evalPixelLevelSemanticLabeling; label ids at full size",
        num_classes=19,
        instance_weighted=True,
        categories=cityscapes.CATEGORIES,
        class_names=cityscapes.CLASS_NAMES,
        labels=cityscapes.LABELS,
    ),
    Protocol(
        id="ade20k-150",
        task="semantic",
        title="ADE20K scene parsing, 150 classes",
        rule="0 is void, classes are 1 to 150. " + _POOLED + _VOID_OUT + _VOID_MISS + "The mean "
        "is over all 150 classes; an absent class counts 0. The official score is the mean of "
        "pixel accuracy and mIoU.",
        source="MIT scene parsing development kit (sceneparsing), evaluationCode",
        num_classes=150,
        absent_class="zero",
        official_score=True,
        labels=label_codes.REDUCE_ZERO,
    ),
    replace(
        _pooled("sunrgbd-37", "SUN RGB-D, 37 classes", 37),
        rule="0 is void. " + _POOLED_RULE,
        source="Song et al., SUN RGB-D, CVPR 2015: pixel and mean accuracy; mIoU pooled",
        labels=label_codes.REDUCE_ZERO,
    ),
    Protocol(
        id="mapillary-v1.2",
        task="semantic",
        title="Mapillary Vistas 1.2, 65 of 66 classes",
        rule=_POOLED + "Pixels whose truth or prediction is the label that is not evaluated count "
        "nowhere. " + _ABSENT_OUT,
        source="mapillary_vistas evaluation, which cuts labels that are not evaluated out of "
        "rows and columns",
        num_classes=65,
        void_prediction="ignored",
        labels=label_codes.MAPILLARY,
    ),
    _pooled("mseg-194", "MSeg, 194 classes merged from other data sets", 194),
    replace(
        _pooled("mapillary-v2.0", "Mapillary Vistas 2.0, 123 of 124 classes", 123),
        rule="Every label but unlabeled is scored. " + _POOLED_RULE,
        source="labels of config_v2.0.json; pooled IoU as in mmsegmentation",
    ),
    replace(
        _pooled("coco-133", "COCO panoptic classes without instances, 133 classes", 133),
        source="COCO panoptic maps as label maps, void ignored; pooled IoU as in mmsegmentation",
    ),
    Protocol(
        id="coco-stuff",
        task="semantic",
        title="COCO-Stuff, 171 classes",
        rule=_POOLED_RULE,
        source="COCO-Stuff pixel maps; pooled IoU as in mmsegmentation",
        num_classes=171,
        labels=label_codes.COCO_STUFF,
    ),
)

_OTHER_TOOLS = (
    replace(_pooled("mmseg", "mmsegmentation IoUMetric", None), comparison=True),
    Protocol(
        id="detectron2",
        task="semantic",
        title="detectron2 SemSegEvaluator",
        rule=_POOLED + "Pixels whose truth or prediction is void count nowhere. The mean is over "
        "the classes with truth only: one that is predicted but has no truth has no value.",
        source="detectron2, SemSegEvaluator",
        void_prediction="ignored",
        absent_class="truth_only",
        comparison=True,
    ),
    Protocol(
        id="torchvision",
        task="semantic",
        title="torchvision reference ConfusionMatrix",
        rule=_POOLED + _VOID_OUT + "predictions outside the label set are an error. The mean is "
        "over all classes; it has no value where a class has neither truth nor prediction.",
        source="torchvision references/segmentation; the Pascal VOC kit takes the same mean",
        void_prediction="refused",
        absent_class="undefined",
        comparison=True,
    ),
    Protocol(
        id="paddleseg",
        task="semantic",
        title="PaddleSeg mean_iou",
        rule=_POOLED + _VOID_OUT + _VOID_MISS + "The mean is over all classes; one with neither "
        "truth nor prediction counts 1.",
        source="PaddleSeg, paddleseg/utils/metrics.py as of 2024; earlier releases gave such a "
        "class 0. Only its IoU is mirrored.",
        absent_class="one",
        comparison=True,
    ),
    Protocol(
        id="ade20k-rule",
        task="semantic",
        title="Absent classes count 0",
        rule=_POOLED + _VOID_OUT + _VOID_MISS + "The mean is over all classes; one with neither "
        "truth nor prediction counts 0.",
        source="the rule of ade20k-150 for any number of classes",
        absent_class="zero",
        comparison=True,
    ),
    Protocol(
        id="torchmetrics-pooled",
        task="semantic",
        title="torchmetrics MulticlassJaccardIndex",
        rule=_POOLED + _VOID_OUT + "predictions outside the label set are an error. " + _ABSENT_OUT,
        source="torchmetrics MulticlassJaccardIndex, macro average, ignore_index=255",
        void_prediction="refused",
        comparison=True,
    ),
    Protocol(
        id="torchmetrics-per-image",
        task="semantic",
        title="torchmetrics MeanIoU",
        rule="IoU of each class on each image, then the mean over all pairs of image and class in "
        "which the class has truth or prediction. There is no ignored label: a class predicted "
        "on void truth is a false positive of that class.",
        source="torchmetrics.segmentation.MeanIoU with one-hot input, void all zero",
        void_truth="false_positive",
        averaging="per_image",
        comparison=True,
    ),
)

_INSTANCE = (
    Protocol(
        "coco-instances",
        "instance",
        "COCO AP, 12 numbers",
        _INSTANCE_RULE,
        "pycocotools COCOeval, default parameters",
    ),
    Protocol(
        id="cityscapes-instances",
        task="instance",
        title="Cityscapes instance AP, 8 classes",
        rule="Average precision of masks over 10 overlaps 0.50 to 0.95, which must be exceeded, "
        "mean over the 8 classes with truth; any number of detections. The best detection over a "
        "true object is a hit, further ones are false. Detections over groups or over objects "
        "below 100 pixels are ignored, and so are those of which a larger share than the overlap "
        "lies on void, groups or such objects. The curve has one point a score and is integrated "
        "in steps, without interpolation. No AP by distance: the official defaults leave it out.",
        source="cityscapesScripts, evalInstanceLevelSemanticLabeling, default parameters",
        overlaps="cityscapes",
        class_names=cityscapes.THING_NAMES,
    ),
)
_PANOPTIC = (
    Protocol(
        "coco-panoptic",
        "panoptic",
        "COCO panoptic quality",
        _PANOPTIC_RULE,
        "Kirillov et al., Panoptic Segmentation, CVPR 2019; panopticapi's single-process sums",
    ),
    Protocol(
        id="cityscapes-panoptic",
        task="panoptic",
        title="Cityscapes panoptic quality",
        rule=_PANOPTIC_RULE + " Categories are the 19 evaluated label ids; regions of things "
        "without instances are crowds.",
        source="cityscapesScripts, evalPanopticSemanticLabeling and createPanopticImgs",
        category_ids=cityscapes.LABEL_IDS,
        class_names=cityscapes.CLASS_NAMES,
    ),
)

PROTOCOLS = (*_OWN, *_CAMVID_RULES, *_DATASETS, *_OTHER_TOOLS, *_INSTANCE, *_PANOPTIC)
