"""ImageNet, from folders."""

import io
import pickle
import re
import shutil

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


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of fork
def test_images_serve_worker_processes(folders):
    wanted, _ = items(load_imagenet(folders, split="test"))
    dataset = load_imagenet(folders, split="test")
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


#: What file managers, notebooks and version control leave beside classes and images.
HIDDEN = [
    ".ipynb_checkpoints/a.JPEG", ".git/", "__MACOSX/._n01000000", "._n01000000",
    "__MACOSX/n01000000/._c.JPEG", "n01000000/._c.JPEG", "n02000000/.hidden.png",
    ".AppleDouble/n01000000/c.JPEG", "n03000000/Thumbs.db", "desktop.ini",
]  # fmt: skip


@pytest.mark.parametrize("stem", ["train", "val"])
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path, stem, name):
    write_folders(tmp_path, "train")
    write_folders(tmp_path, "val")
    path = tmp_path / stem / name
    (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
    if not name.endswith("/"):
        path.write_bytes(b"\0\5\x16\7")
    for split in ("train", "test"):
        dataset = load_imagenet(tmp_path, split=split)
        images, targets = items(dataset)
        assert (images.shape[0], targets) == (5, [0, 0, 1, 1, 2])


def test_data_may_lie_in_a_hidden_folder(tmp_path):
    root = tmp_path / ".cache" / "__MACOSX"
    write_folders(root)
    assert load_imagenet(root, split="test").targets.tolist() == [0, 0, 1, 1, 2]


def test_only_hidden_files_are_no_images(tmp_path):
    for wnid in ("n01000000", "n02000000"):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        (tmp_path / "val" / wnid / "._c.JPEG").write_bytes(b"\0\5\x16\7")
    with pytest.raises(FileNotFoundError, match="Found no images"):
        load_imagenet(tmp_path, split="test")


@pytest.mark.parametrize("stranger", ["@eaDir", "lost+found", "new", "n1", "N00000000"])
@pytest.mark.parametrize("with_image", [False, True])
def test_folders_that_are_no_classes_are_refused(tmp_path, stranger, with_image):
    """Each would move the labels of all classes behind it, also those of validation."""
    write_folders(tmp_path, "train")
    write_folders(tmp_path, "val")
    (tmp_path / "train" / stranger).mkdir()
    if with_image:
        (tmp_path / "train" / stranger / "a.JPEG").write_bytes(encoded(0))
    for split in ("train", "test"):
        with pytest.raises(
            ValueError,
            match=rf"train must have no .* got {re.escape(stranger)} bes",
        ):
            load_imagenet(tmp_path, split=split)


@pytest.mark.parametrize("names", [["cat", "dog"], ["0", "1"], ["n1", "n2"]])
def test_other_names_of_classes_are_taken(tmp_path, names):
    for name in names:
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "a.JPEG").write_bytes(encoded(0))
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [0, 1]


def test_links_to_classes_are_followed_and_may_not_lead_nowhere(tmp_path):
    write_folders(tmp_path, "moved")
    (tmp_path / "val").mkdir()
    for wnid in TARGETS:
        (tmp_path / "val" / wnid).symlink_to(tmp_path / "moved" / wnid)
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [0, 0, 1, 1, 2]
    shutil.rmtree(tmp_path / "moved" / "n01000000")
    with pytest.raises(ValueError, match="val/n01000000 is a link to .*moved/n01000000, "):
        load_imagenet(tmp_path, split="test")


def test_validation_images_of_some_classes_keep_their_labels(tmp_path):
    write_folders(tmp_path, "train")
    write_folders(tmp_path, "val")
    shutil.rmtree(tmp_path / "val" / "n01000000")
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [1, 1, 2]
