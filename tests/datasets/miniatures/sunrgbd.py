"""SUN RGB-D: scenes of two cameras, the toolbox in its order: test first, then train."""

from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

from tests.datasets.miniatures.scenes import save, scene

MAKERS = "/n/fs/sun3d/data"
IMAGES = {
    "kv1/NYUdata/NYU0001/image/NYU0001.jpg": "test",
    "kv2/kinect2data/000002_2014-05-26_14-23-37/image/0000041.jpg": "test",
    "kv1/NYUdata/NYU0003/image/NYU0003.jpg": "train",
    "realsense/lg/2014_10_21-18_15_22-1311000073/image/0000064.jpg": "train",
    "xtion/sun3ddata/brown_bm_1/brown_bm_1/image/0000123.jpg": "train",
    "xtion/xtion_align_data/2014_12_18_02/image/0000001.jpg": "train",
}
"""Path of each image in SUNRGBD.zip, in the order of the toolbox, and its split."""
SIZES = ((40, 60), (52, 44))


def build(folder: Path) -> None:
    toolbox = folder / "SUNRGBDtoolbox.zip" / "SUNRGBDtoolbox"
    (toolbox / "Metadata").mkdir(parents=True)
    (toolbox / "traintestSUNRGBD").mkdir(parents=True)
    labels = []
    for seed, path in enumerate(IMAGES):
        made = scene(
            seed, *SIZES[seed % 2], things=(5, 37), stuff=(1, 2, *range(7 * seed, 7 * seed + 3))
        )
        labels.append(np.where(made.labels > 37, 0, made.labels).astype(np.uint8))
        save(folder / "SUNRGBD.zip" / "SUNRGBD" / path, made.image, quality=95)
    write_labels(toolbox / "Metadata" / "SUNRGBD2Dseg.mat", labels)
    savemat(toolbox / "Metadata" / "SUNRGBDMeta.mat", {"SUNRGBDMeta": _records()})
    scenes = {
        f"all{split}": _cells(
            f"{MAKERS}//SUNRGBD/{path.split('/image/')[0]}" + ("/" if number % 2 else "")
            for number, (path, of) in enumerate(IMAGES.items())
            if of == split
        )
        for split in ("train", "test")
    }
    savemat(toolbox / "traintestSUNRGBD" / "allsplit.mat", scenes)


def write_labels(path: Path, labels, name: str = "SUNRGBD2Dseg", field: str = "seglabel") -> None:
    """Write a struct array as MATLAB 7.3 does: columns as rows, elements by reference."""
    with h5py.File(path, "w", userblock_size=512) as stream:
        references = np.empty((len(labels), 1), dtype=h5py.ref_dtype)
        for number, array in enumerate(labels):
            element = stream.create_dataset(f"#refs#/{number}", data=np.asarray(array).T)
            element.attrs["MATLAB_class"] = np.bytes_("uint8")
            references[number, 0] = element.ref
        group = stream.create_group(name)
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        group.create_dataset(field, data=references, dtype=h5py.ref_dtype)
        group.create_dataset(f"{field}all", data=references, dtype=h5py.ref_dtype)
    with path.open("r+b") as stream:
        text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64"
        stream.write(text.ljust(116) + bytes(8) + b"\x00\x02IM")


def _records() -> np.ndarray:
    fields = ("sequenceName", "depthpath", "rgbpath", "depthname", "rgbname", "sensorType")
    records = np.empty((1, len(IMAGES)), dtype=[(field, object) for field in fields])
    for number, path in enumerate(IMAGES):
        scene_folder, name = path.split("/image/")
        records[0, number] = (
            f"SUNRGBD/{scene_folder}",
            f"{MAKERS}/SUNRGBD/{scene_folder}/depth/{name[:-4]}.png",
            f"{MAKERS}/SUNRGBD/{path}",
            f"{name[:-4]}.png",
            name,
            path.split("/")[0],
        )
    return records


def _cells(values) -> np.ndarray:
    values = list(values)
    cells = np.empty((1, len(values)), dtype=object)
    cells[0] = values
    return cells
