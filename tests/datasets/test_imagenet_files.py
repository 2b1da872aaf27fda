"""ImageNet, from folders and zip archives."""

import io
import pickle
import shutil
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader

from rs4a.datasets import load_imagenet

SIZES = [(300, 260), (256, 400), (280, 280), (100, 120), (500, 333)]
#: Classes sort by name, here against the order of making.
MEMBERS = [
    ("n02000000", "b.JPEG"), ("n02000000", "a.JPEG"), ("n01000000", "c.JPEG"),
    ("n01000000", "x.JPEG"), ("n03000000", "d.jpg"),
]  # fmt: skip
TARGETS = {"n01000000": 0, "n02000000": 1, "n03000000": 2}


def encoded(index):
    """A smooth image, every one another."""
    width, height = SIZES[index]
    rows = np.linspace(0, 200, height)[:, None, None] + np.zeros((1, width, 3))
    columns = np.linspace(0, 50, width)[None, :, None] * np.array([1, 0.5, 0])
    pixels = (rows + columns + index).astype(np.uint8)
    image = Image.fromarray(pixels if index != 4 else pixels[..., 0])  # one is grey
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG")
    return buffer.getvalue()


CONTENTS = {member: encoded(index) for index, member in enumerate(MEMBERS)}


def write_folders(root, stem="val"):
    for (wnid, name), content in CONTENTS.items():
        (root / stem / wnid).mkdir(parents=True, exist_ok=True)
        (root / stem / wnid / name).write_bytes(content)


def write_zip(root, stem="val", prefix="", compression=zipfile.ZIP_STORED):
    root.mkdir(exist_ok=True)
    with zipfile.ZipFile(root / f"{stem}.zip", "w", compression) as archive:
        archive.writestr("README.txt", "no image")
        for (wnid, name), content in CONTENTS.items():
            archive.writestr(f"{prefix}{wnid}/{name}", content)


def items(dataset):
    images, targets = zip(*dataset, strict=True)
    return torch.stack(images), list(targets)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The images as files, and their root."""
    root = tmp_path_factory.mktemp("folders")
    write_folders(root)
    write_folders(root, "train")
    return root


@pytest.mark.parametrize(("split", "stem"), [("train", "train"), ("test", "val")])
def test_folders_are_read_as_torchvision_does(folders, split, stem):
    dataset = load_imagenet(folders, split=split)
    transforms = torchvision.transforms
    reference = torchvision.datasets.ImageFolder(
        folders / stem,
        transforms.Compose(
            [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
        ),
    )
    images, targets = items(dataset)
    wanted, wanted_targets = items(reference)
    assert torch.equal(images, wanted)
    assert targets == wanted_targets == dataset.targets.tolist() == [0, 0, 1, 1, 2]
    assert (dataset.targets.dtype, images.dtype) == (np.int64, torch.float32)
    assert images.shape == (5, 3, 224, 224)
    X, y = load_imagenet(folders, split=split, as_arrays=True)
    np.testing.assert_array_equal(X, wanted.numpy())
    np.testing.assert_array_equal(y, targets)
    assert (X.dtype, y.dtype, X.flags.c_contiguous) == (np.float32, np.int64, True)


@pytest.mark.parametrize("prefix", ["", "ILSVRC/val/", "/", "./"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_archives_agree_with_folders(tmp_path, folders, prefix, compression):
    write_zip(tmp_path, "val", prefix, compression)
    images, targets = items(load_imagenet(tmp_path, split="test"))
    wanted, wanted_targets = items(load_imagenet(folders, split="test"))
    assert torch.equal(images, wanted)
    assert targets == wanted_targets


@pytest.mark.parametrize("form", ["train.zip@/{}", "/{}", "{}"])
def test_maps_name_images_and_their_labels(tmp_path, folders, form):
    """In their own order; the labels need not follow the names of folders."""
    write_zip(tmp_path, "train")
    chosen = [MEMBERS[i] for i in (4, 0, 2)]
    lines = [
        f"{form.format('/'.join(member))}\t{label}\n"
        for member, label in zip(chosen, [7, 5, 7], strict=True)
    ]
    (tmp_path / "train_map.txt").write_text("".join(lines))
    dataset = load_imagenet(tmp_path)
    images, targets = items(dataset)
    assert targets == dataset.targets.tolist() == [7, 5, 7]
    wanted, _ = items(load_imagenet(folders))
    assert torch.equal(images, wanted[[4, 3, 0]])


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of fork
def test_zip_archives_serve_worker_processes(tmp_path, folders):
    write_zip(tmp_path)
    wanted, _ = items(load_imagenet(folders, split="test"))
    dataset = load_imagenet(tmp_path, split="test")
    assert torch.equal(dataset[0][0], wanted[0])  # used before processes begin
    batches = list(DataLoader(dataset, batch_size=2, num_workers=2))
    assert torch.equal(torch.cat([X for X, _ in batches]), wanted)
    assert torch.cat([y for _, y in batches]).tolist() == [0, 0, 1, 1, 2]
    copied = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copied[3][0], wanted[3])


def test_augmentation_draws_anew(folders):
    dataset = load_imagenet(folders, augment=True)
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        draws.append([dataset[4][0] for _ in range(4)])
    for first, second in zip(*draws, strict=True):
        assert torch.equal(first, second)
    assert draws[0][0].shape == (3, 224, 224)
    assert not torch.equal(draws[0][0], draws[0][1])
    # Columns brighten to the right in red; mirrored ones darken.
    torch.manual_seed(0)
    slopes = [dataset[2][0][0].diff(dim=1).mean().item() for _ in range(20)]
    assert min(slopes) < 0.0 < max(slopes)
    for options in ({"split": "test"}, {"as_arrays": True}):
        with pytest.raises(ValueError, match="augment=True"):
            load_imagenet(folders, augment=True, **options)


def test_a_class_without_images_keeps_its_place(tmp_path):
    write_folders(tmp_path)
    (tmp_path / "val" / "n00000000").mkdir()
    dataset = load_imagenet(tmp_path, split="test")
    assert dataset.targets.tolist() == [1, 1, 2, 2, 3]


def test_classes_are_those_of_the_training_folders(tmp_path):
    """Also where the validation images lack some of them."""
    write_folders(tmp_path)
    for wnid in ("n00000000", "n01000000", "n02000000", "n02500000", "n03000000"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [1, 1, 2, 2, 4]


@pytest.mark.parametrize("with_training", [False, True])
def test_unsorted_validation_images_are_refused(tmp_path, with_training):
    folder = tmp_path / "val" / "images"
    folder.mkdir(parents=True)
    for (_, name), content in CONTENTS.items():
        (folder / name).write_bytes(content)
    if with_training:
        write_folders(tmp_path, "train")
    with pytest.raises(
        ValueError, match=f"{tmp_path}/val must have .* several classes, .* got images"
    ):
        load_imagenet(tmp_path, split="test")


def test_folders_that_are_no_classes_of_training_are_refused(tmp_path):
    write_folders(tmp_path, "train")
    write_folders(tmp_path, "val")
    (tmp_path / "val" / "n01000000").rename(tmp_path / "val" / "images")
    with pytest.raises(ValueError, match="got images, n02000000, n03000000. Sort"):
        load_imagenet(tmp_path, split="test")


def test_training_images_of_one_class_are_refused(tmp_path):
    write_folders(tmp_path, "train")
    for wnid in ("n02000000", "n03000000"):
        shutil.rmtree(tmp_path / "train" / wnid)
    with pytest.raises(ValueError, match="several classes, .* got n01000000"):
        load_imagenet(tmp_path)


def test_missing_images_are_named(tmp_path):
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            FileNotFoundError, match=f"Found no images {root}/val/CLASS/NAME"
        ):
            load_imagenet(root, split="test")
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        load_imagenet(tmp_path, split="val")


def test_unsorted_archives_need_a_map(tmp_path):
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        for (_, name), content in CONTENTS.items():
            archive.writestr(f"val/{name}", content)
    with pytest.raises(FileNotFoundError, match="several classes, or .*val_map.txt with"):
        load_imagenet(tmp_path, split="test")
    (tmp_path / "val_map.txt").write_text("val/a.JPEG\t999\n")
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [999]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n02000000/zz.JPEG\t0", "names n02000000/zz.JPEG, which is not in .*val.zip"),
        ("n02000000/a.JPEG 0", "must have PATH<tab>LABEL in line 2"),
        ("n02000000/a.JPEG\t-1", "must have PATH<tab>LABEL in line 2"),
        ("n02000000/a.JPEG\t", "must have PATH<tab>LABEL in line 2"),
    ],
)
def test_bad_maps_are_refused(tmp_path, line, message):
    write_zip(tmp_path)
    (tmp_path / "val_map.txt").write_text(f"n01000000/c.JPEG\t0\n{line}\n")
    with pytest.raises(ValueError, match=f"val_map.txt {message}"):
        load_imagenet(tmp_path, split="test")


def test_bad_archives_are_refused(tmp_path):
    (tmp_path / "val.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="val.zip is no complete zip archive"):
        load_imagenet(tmp_path, split="test")
    write_zip(tmp_path, compression=zipfile.ZIP_BZIP2)
    with pytest.raises(ValueError, match="val.zip must be stored or deflated"):
        load_imagenet(tmp_path, split="test")


@pytest.mark.parametrize("declared", [10, 50_000_000, 2**28 + 1])
def test_zip_members_that_grow_are_refused(tmp_path, declared):
    """A member of 50 MB, and what the archive says of its size."""
    path = tmp_path / "val.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("n01000000/a.JPEG", bytes(50_000_000))
        archive.writestr("n02000000/b.JPEG", b"x")
    content = path.read_bytes()
    true_size = struct.pack("<I", 50_000_000)
    assert content.count(true_size) == 2
    path.write_bytes(content.replace(true_size, struct.pack("<I", declared)))
    if declared > 2**28:
        with pytest.raises(
            ValueError, match="val.zip must have files of at most 268435456"
        ):
            load_imagenet(tmp_path, split="test")
        return
    dataset = load_imagenet(tmp_path, split="test")
    if declared == 50_000_000:
        assert dataset.files[0] == bytes(declared)
        return
    tracemalloc.start()
    with pytest.raises(ValueError, match="val.zip is damaged: .* not have the 10 bytes"):
        dataset[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_zip_members_are_refused(tmp_path, compression):
    write_zip(tmp_path, compression=compression)
    dataset = load_imagenet(tmp_path, split="test")
    content = (tmp_path / "val.zip").read_bytes()
    offset = content.index(b"c.JPEG") + len("c.JPEG")
    if compression == zipfile.ZIP_STORED:
        (tmp_path / "val.zip").write_bytes(content[: offset + 10])
    else:
        (tmp_path / "val.zip").write_bytes(content[:offset] + 100 * b"\xff")
    with pytest.raises(ValueError, match="val.zip is damaged"):
        dataset[0]
