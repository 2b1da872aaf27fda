"""Pickled batches: arrays of numbers come back, and nothing in a pickle is ever run."""

import contextlib
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest
import python2_pickle
from hypothesis import given, settings
from hypothesis import strategies as st

from rs4a.datasets import load_cifar10, load_tiny_images_500k

PROTOCOLS = range(6)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
BATCH = {"data": IMAGES, "labels": [3, 0, 9], "filenames": ["a", "b", "c"]}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Reads a pickled batch of CIFAR-10."""
    folder = tmp_path_factory.mktemp("pickles")

    def read_content(content):
        (folder / "test_batch").write_bytes(content)
        X, y = load_cifar10(folder, split="test")
        return np.rint(X.reshape(-1, 3072) * 255), y

    return read_content


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("labels", [[3, 0, 9], np.array([3, 0, 9], dtype=">i2")], ids=str)
def test_batches_come_back(read, protocol, order, labels):
    batch = {**BATCH, "data": np.asarray(IMAGES, order=order), "labels": labels}
    images, y = read(pickle.dumps(batch, protocol))
    np.testing.assert_array_equal(images, IMAGES)
    assert y.tolist() == [3, 0, 9]


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_numpy_1_and_2_are_read(read, package):
    content = pickle.dumps(BATCH, 2)
    content = content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", package)
    np.testing.assert_array_equal(read(content)[0], IMAGES)


def test_a_batch_of_real_size_is_copied_twice_at_most(tmp_path):
    images = np.full((10_000, 32, 32, 3), 7, dtype=np.uint8)
    path = tmp_path / "ti_500K_pseudo_labeled.pickle"
    batch = {b"data": images, b"extrapolated_targets": [1] * 10_000}
    path.write_bytes(python2_pickle.dumps(batch))
    tracemalloc.start()
    try:
        load_tiny_images_500k(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.1 * images.nbytes


# Pickles that hold something else.


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def make_folder(path, how):
    """A pickle that makes a folder when pickle loads it."""
    argument = text(str(path).encode())
    code = text(f"__import__('os').mkdir({str(path)!r})".encode())
    return {
        "GLOBAL": b"cos\nmkdir\n" + argument + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + text(b"os") + text(b"mkdir") + b"\x93" + argument
        + b"\x85R.",
        "INST": b"(" + argument + b"ios\nmkdir\n.",
        "OBJ": b"(cos\nmkdir\n" + argument + b"o.",
        "nested": b"\x80\x04]\x94(" + text(b"builtins") + text(b"eval") + b"\x93" + code
        + b"\x85Re.",
    }[how]  # fmt: skip


@pytest.mark.parametrize("how", ["GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "nested"])
def test_nothing_is_run(read, tmp_path, how):
    content = make_folder(tmp_path / "folder", how)
    with pytest.raises(ValueError, match="is no whole pickle.*it names (os|builtins)"):
        read(content)
    assert not (tmp_path / "folder").exists()
    pickle.loads(content)
    assert (tmp_path / "folder").exists()  # the pickle is a true one


def test_nothing_of_numpy_is_called(read, tmp_path):
    path = tmp_path / "array.npy"
    content = b"cnumpy\nsave\n" + text(str(path).encode()) + b"K\x01\x86R."
    with pytest.raises(ValueError, match="must be a dict with 'data' and 'labels'"):
        read(content)
    assert not path.exists()
    pickle.loads(content)
    assert path.exists()


class Custom:
    """An object whose state is a dict."""

    def __init__(self):
        self.value = 1


NEW_ARRAY = (
    b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
)


def array_content(*, shape=b"K\x02\x85", code=b"u1", order=b"|", data=b"C\x02ab"):
    """Pickle of a batch with an array, part by part."""
    end = b"NNN\x4a\xff\xff\xff\xff\x4a\xff\xff\xff\xffK\x00tb"
    dtype = b"cnumpy\ndtype\n" + text(code) + b"K\x00K\x01\x87R(K\x03" + text(order) + end
    array = NEW_ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"
    return b"}" + text(b"data") + array + b"s" + text(b"labels") + b"]s."


OTHER_DATA = {
    "object": pickle.dumps(Custom(), 4),
    "object, protocol 0": pickle.dumps(Custom(), 0),
    "set": pickle.dumps({1}, 4),
    "class of numpy": b"cnumpy\nndarray\n.",
    "a name as data": b"}" + text(b"data") + b"cnumpy\nload\ns" + text(b"labels") + b"]s.",
    "NEWOBJ": b"\x80\x02cnumpy\nndarray\nK\x01\x85\x81.",
    "EXT1": b"\x80\x02\x82\x01.",
    "PERSID": b"Pname\n.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "BUILD": b"}}K\x01K\x02sb.",
    "array without data": b"}"
    + text(b"data")
    + NEW_ARRAY
    + b"s"
    + text(b"labels")
    + b"]s.",
    "too little data": array_content(shape=b"K\x03\x85"),
    "too much data": array_content(shape=b"K\x01\x85"),
    # With numpy's own dtype, whose flags say here that it has no objects, the bytes
    # become pointers.
    "objects": array_content(shape=b"K\x01\x85", code=b"O8", data=b"C\x08abcdefgh"),
    "dates": array_content(code=b"M8"),
    "two types": array_content(code=b"u1,O8"),
    "bad byte order": array_content(order=b"x"),
    "list as data": array_content(data=b"]"),
    "large memo": b"Nr\xff\xff\xff\x0f0",
    "deep nesting": b"]" * 20_000 + b"a" * 19_999 + b".",
}


@pytest.mark.parametrize("name", OTHER_DATA)
def test_other_data_is_refused(read, name):
    with pytest.raises(ValueError, match="test_batch (is no whole pickle|must)"):
        read(OTHER_DATA[name])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_that_is_cut_short_is_refused(read, protocol):
    content = pickle.dumps({**BATCH, "data": IMAGES[:1], "labels": [1]}, protocol)
    for length in (*range(0, len(content), 97), len(content) - 1):
        with pytest.raises(ValueError, match="is no whole pickle"):
            read(content[:length])


VALID = [
    pickle.dumps({"data": IMAGES[:1], "labels": [1]}, protocol) for protocol in PROTOCOLS
]
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


@pytest.mark.filterwarnings("ignore:.*escape sequence")  # of pickletools
@settings(max_examples=30)
@given(data=st.data())
def test_any_damage_gives_data_or_a_value_error(read, data):
    content = bytearray(data.draw(st.sampled_from(VALID)))
    places = st.sampled_from([*range(200), *range(len(content) - 50, len(content))])
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        read(bytes(content))


@pytest.mark.filterwarnings("ignore:.*escape sequence")  # of pickletools
@settings(max_examples=50)
@given(parts=st.lists(st.sampled_from(OPCODES) | st.binary(max_size=3)))
def test_any_bytes_give_data_or_a_value_error(read, parts):
    with contextlib.suppress(ValueError):
        read(b"".join(parts) + b".")
