"""ImageNet, from folders and zip archives."""

import io
import pickle
import re
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
    with pytest.raises(ValueError, match=r"several classes, .*archive in val_map.txt\."):
        load_imagenet(tmp_path, split="test")
    (tmp_path / "val_map.txt").write_text("val/a.JPEG\t999\n")
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [999]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n02000000/zz.JPEG\t0", "names n02000000/zz.JPEG, which is no image in .*val.zip"),
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
    with pytest.raises(ValueError, match="val.zip must have members that are stored"):
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
            ValueError, match="val.zip must have members .* at most 268435456"
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


@pytest.mark.parametrize("prefix", ["", "val/", "/", "./"])
@pytest.mark.parametrize("name", [name for name in HIDDEN if "db" not in name])
def test_hidden_members_are_no_images_and_no_classes(tmp_path, folders, prefix, name):
    write_zip(tmp_path, "val", prefix)
    with zipfile.ZipFile(tmp_path / "val.zip", "a") as archive:
        archive.writestr(prefix + name, b"" if name.endswith("/") else b"\0\5\x16\7")
        archive.writestr(f"__MACOSX/{prefix}n02000000/._a.JPEG", b"\0\5\x16\7")
    images, targets = items(load_imagenet(tmp_path, split="test"))
    assert torch.equal(images, items(load_imagenet(folders, split="test"))[0])
    assert targets == [0, 0, 1, 1, 2]


def test_data_may_lie_in_a_hidden_folder(tmp_path):
    root = tmp_path / ".cache" / "__MACOSX"
    write_folders(root)
    assert load_imagenet(root, split="test").targets.tolist() == [0, 0, 1, 1, 2]
    write_zip(root, "train")
    assert load_imagenet(root).targets.tolist() == [0, 0, 1, 1, 2]


def test_maps_may_not_name_hidden_files(tmp_path):
    write_zip(tmp_path)
    with zipfile.ZipFile(tmp_path / "val.zip", "a") as archive:
        archive.writestr("__MACOSX/n01000000/._c.JPEG", b"\0\5\x16\7")
    (tmp_path / "val_map.txt").write_text(
        "n01000000/c.JPEG\t0\n__MACOSX/n01000000/._c.JPEG\t0\n"
    )
    with pytest.raises(ValueError, match=r"val_map.txt names __MACOSX/.*, which is no im"):
        load_imagenet(tmp_path, split="test")


def test_only_hidden_files_are_no_images(tmp_path):
    (tmp_path / "val" / "n01000000").mkdir(parents=True)
    (tmp_path / "val" / "n01000000" / "._c.JPEG").write_bytes(b"\0\5\x16\7")
    with pytest.raises(FileNotFoundError, match="Found no images"):
        load_imagenet(tmp_path, split="test")
    write_zip(tmp_path)
    assert len(load_imagenet(tmp_path, split="test")) == 5


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
    shutil.rmtree(tmp_path / "train")
    write_zip(tmp_path, "train")
    with zipfile.ZipFile(tmp_path / "train.zip", "a") as archive:
        archive.writestr(f"{stranger}/{'a.JPEG' if with_image else ''}", b"")
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"train.zip must have no folders but"):
            load_imagenet(tmp_path, split=split)


def test_a_class_too_many_is_refused(tmp_path):
    for place in range(1001):
        (tmp_path / "train" / f"n{place:08}").mkdir(parents=True)
    (tmp_path / "train" / "n00000003" / "a.JPEG").write_bytes(encoded(0))
    with pytest.raises(ValueError, match="1000 classes of ILSVRC 2012 .* got 1001 folders"):
        load_imagenet(tmp_path)
    (tmp_path / "train" / "n00000001").rmdir()
    assert load_imagenet(tmp_path).targets.tolist() == [2]


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


@pytest.mark.parametrize("training", ["folders", "zip"])
@pytest.mark.parametrize("validation", ["folders", "zip"])
def test_validation_images_of_some_classes_keep_their_labels(
    tmp_path, training, validation
):
    """Their classes are those of the training images, however both are stored."""
    (write_folders if training == "folders" else write_zip)(tmp_path, "train")
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        for wnid in ("n02000000", "n03000000"):
            archive.writestr(f"val/{wnid}/a.JPEG", encoded(0))
    if validation == "folders":
        with zipfile.ZipFile(tmp_path / "val.zip") as archive:
            archive.extractall(tmp_path)
        (tmp_path / "val.zip").unlink()
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [1, 2]


def test_validation_classes_that_training_lacks_are_refused(tmp_path):
    write_folders(tmp_path, "train")
    write_zip(tmp_path, "val")
    with zipfile.ZipFile(tmp_path / "val.zip", "a") as archive:
        archive.writestr("n01500000/a.JPEG", encoded(0))
    with pytest.raises(ValueError, match=r"val.zip must have .* n01000000, n01500000"):
        load_imagenet(tmp_path, split="test")


def test_a_class_without_images_keeps_its_place_in_an_archive(tmp_path):
    write_zip(tmp_path, "val", "val/")
    with zipfile.ZipFile(tmp_path / "val.zip", "a") as archive:
        for name in ("val/", "val/n01500000/", "val/n02000000/", "val/n02000000/deep.png/"):
            archive.writestr(name, b"")
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [0, 0, 2, 2, 3]


@pytest.mark.parametrize(
    "name",
    ["a.JPEG", "n01000000/deep/a.JPEG", "val/n01000000/a.JPEG", "images/n04000000/a.JPEG"],
)
def test_images_at_several_depths_of_an_archive_are_refused(tmp_path, name):
    """The folders that they lie in would be classes: labels would move."""
    write_zip(tmp_path)
    with zipfile.ZipFile(tmp_path / "val.zip", "a") as archive:
        archive.writestr(name, encoded(0))
    with pytest.raises(ValueError, match=f"val.zip must have its .* side by side.*{name}"):
        load_imagenet(tmp_path, split="test")


def test_windows_separators_are_separators(tmp_path, folders):
    """Also beside others, as archives have them that two programs wrote."""
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        archive.writestr("val\\", b"")
        for (wnid, name), content in CONTENTS.items():
            separator = "/" if name == "x.JPEG" else "\\"
            archive.writestr(separator.join(("val", wnid, name)), content)
        archive.writestr("__MACOSX\\val\\n01000000\\._c.JPEG", b"\0\5\x16\7")
    images, targets = items(load_imagenet(tmp_path, split="test"))
    assert torch.equal(images, items(load_imagenet(folders, split="test"))[0])
    assert targets == [0, 0, 1, 1, 2]
    (tmp_path / "val_map.txt").write_text("val\\n02000000\\a.JPEG\t7\n")
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [7]


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_the_last_of_several_members_of_a_name_counts(tmp_path):
    """As for unzip, and zipfile: an archive is updated so."""
    write_zip(tmp_path)
    with zipfile.ZipFile(tmp_path / "val.zip", "a") as archive:
        archive.writestr("n01000000/c.JPEG", encoded(4))
    dataset = load_imagenet(tmp_path, split="test")
    assert dataset.targets.tolist() == [0, 0, 1, 1, 2]
    assert dataset.files[0] == encoded(4)


def test_maps_that_contradict_themselves_are_refused(tmp_path):
    write_zip(tmp_path)
    line = "n01000000/c.JPEG\t{}\n"
    path = tmp_path / "val_map.txt"
    path.write_text(line.format(3) + "n02000000/a.JPEG\t1\n/" + line.format(4))
    with pytest.raises(ValueError, match="one label for n01.*, got 3 and, in line 3, 4"):
        load_imagenet(tmp_path, split="test")
    path.write_text(line.format(3) + line.format(3))
    assert load_imagenet(tmp_path, split="test").targets.tolist() == [3, 3]
    path.write_text("n02000000/a.JPEG\t1\n" + line.format(1000))  # labels from 1 on
    with pytest.raises(ValueError, match="val_map.txt must have labels from 0 to 999, got"):
        load_imagenet(tmp_path, split="test")
