"""Dense CRF beside pydensecrf2 and against brute force: DeepLab v2's settings, 10 iterations.

    OMP_NUM_THREADS=1 python benchmarks/bench_crf.py [--pydensecrf FOLDER] [--rounds 5]

A photograph of 321 x 321 pixels (it comes with scikit-image), 21 classes, probabilities of smooth
random blobs, which owe nothing to the photograph and so are harder than a network's. FOLDER is
where pip put pydensecrf2 (``pip install --target``); without it only our own times are shown.
Results are compared before they are timed.
"""

import argparse
import sys
from functools import partial

import numpy as np
from skimage import data, transform
from timing import compare

from segbench.inference.dense_crf import CrfSettings, dense_crf

SIZE = 321
CLASSES = 21
CROP = (slice(120, 210), slice(100, 190))
"""The part that is small enough for brute force."""


def workload() -> tuple[np.ndarray, np.ndarray]:
    image = 255 * transform.resize(data.astronaut(), (SIZE, SIZE), anti_aliasing=True)
    logits = np.random.default_rng(0).normal(size=(11, 11, CLASSES)) * 3
    chances = np.exp(transform.resize(logits, (SIZE, SIZE)))
    chances /= chances.sum(axis=-1, keepdims=True)
    probabilities = np.ascontiguousarray(chances.transpose(2, 0, 1)).astype(np.float32)
    return probabilities, np.ascontiguousarray(image.astype(np.uint8))


def theirs(probabilities, image, iterations=10):
    import pydensecrf.densecrf as peer

    classes, height, width = probabilities.shape
    crf = peer.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(probabilities).reshape(classes, -1)))
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=image, compat=4)
    return np.array(crf.inference(iterations)).reshape(probabilities.shape)


def show_differences(name, found, expected):
    apart = np.abs(found - expected)
    changed = (found.argmax(0) != expected.argmax(0)).mean()
    print(f"{name:44} largest {apart.max():.6f}  mean {apart.mean():.6f}  labels {changed:.4%}")


def compare_results(probabilities, image, peer):
    if peer:
        show_differences(
            "ours to pydensecrf2", dense_crf(probabilities, image), theirs(probabilities, image)
        )
    part, colours = (
        np.ascontiguousarray(array) for array in (probabilities[(slice(None), *CROP)], image[CROP])
    )
    for iterations in (1, 10):
        run = partial(dense_crf, part, colours)
        exact = run(CrfSettings(iterations, kernel="exact"))
        for kernel in ("lattice", "window"):
            show_differences(
                f"{kernel} to brute force, {iterations} iterations",
                run(CrfSettings(iterations, kernel=kernel)),
                exact,
            )
        if peer:
            show_differences(
                f"pydensecrf2 to brute force, {iterations} iterations",
                theirs(part, colours, iterations),
                exact,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pydensecrf", help="folder that holds the package")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.pydensecrf:
        sys.path.insert(0, options.pydensecrf)
    probabilities, image = workload()
    compare_results(probabilities, image, options.pydensecrf)
    candidates = (
        {"pydensecrf2": partial(theirs, probabilities, image)} if options.pydensecrf else {}
    )
    candidates["lattice"] = partial(dense_crf, probabilities, image)
    compare(candidates, rounds=options.rounds, item="image")
    window = partial(dense_crf, probabilities, image, CrfSettings(kernel="window"))
    compare({"window": window}, rounds=1, item="image")


if __name__ == "__main__":
    main()
