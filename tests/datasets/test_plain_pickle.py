"""Pickles of plain data are read as they are, and nothing in a pickle is ever run."""

import contextlib
import io
import pickle
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest
import python2_pickle
from hypothesis import given
from hypothesis import strategies as st

from rs4a.datasets.plain_pickle import read_plain_pickle

PROTOCOLS = range(6)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Reads the content of a pickle file."""
    path = tmp_path_factory.mktemp("pickles") / "file.pickle"

    def read_content(content):
        path.write_bytes(content)
        return read_plain_pickle(path)

    return read_content


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
PLAIN = st.recursive(
    SCALARS,
    lambda values: (
        st.lists(values)
        | st.lists(values, max_size=5).map(tuple)
        | st.dictionaries(st.text() | st.integers(), values)
    ),
    max_leaves=20,
)


@given(value=PLAIN, protocol=st.sampled_from(PROTOCOLS))
def test_plain_data_comes_back(read, value, protocol):
    result = read(pickle.dumps(value, protocol))
    assert result == value
    assert repr(result) == repr(value)  # True is not 1, and -0.0 is not 0.0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("n_items", [0, 1, 5, 2500])
def test_containers_of_any_length_come_back(read, protocol, n_items):
    values = list(range(n_items))
    data = [values, tuple(values), {str(i): i for i in values}]
    assert read(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_slow_writers_of_pickles_are_read_too(read, protocol):
    """Those in Python write other opcodes than those in C."""
    data = {"a": [1, 2.5, "x"], "b": (b"y", None)}
    buffer = io.BytesIO()
    pickle._Pickler(buffer, protocol).dump(data)
    assert read(buffer.getvalue()) == data


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "<u2", ">i4", "<i8", "f2", "<f4", ">f8"]
)
def test_arrays_come_back(read, protocol, dtype):
    values = np.random.default_rng(0).integers(0, 2, (3, 4, 5)) * 100
    arrays = {
        "c": values.astype(dtype),
        "fortran": np.asfortranarray(values.astype(dtype)),
        "strided": values.astype(dtype)[::2, :, ::3],
        "empty": np.empty((0, 3), dtype),
        "scalar array": np.array(1, dtype),
        "scalar": np.array(1, dtype)[()],
    }
    result = read(pickle.dumps(arrays, protocol))
    assert list(result) == list(arrays)
    for name, array in arrays.items():
        assert type(result[name]) is type(array)
        assert (result[name].dtype, result[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(result[name], array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_array_may_occur_twice(read, protocol):
    array = np.arange(3)
    result = read(pickle.dumps([array, array], protocol))
    np.testing.assert_array_equal(result, [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_numpy_1_and_2_are_read(read, package):
    content = pickle.dumps(np.arange(4.0), 2)
    assert content.count(b"numpy._core") + content.count(b"numpy.core") == 1
    content = content.replace(b"numpy._core", b"numpy.core")
    content = content.replace(b"numpy.core", package.encode())
    np.testing.assert_array_equal(read(content), [0.0, 1.0, 2.0, 3.0])


def test_python_2_is_read(read):
    """Its strings are bytes, but as keys they are text, as keys of bytes are."""
    images = np.arange(600, dtype=np.uint8).reshape(2, 300)
    data = {b"data": images, b"labels": [1, 0], b"name": b"\xff" * 300}
    content = python2_pickle.dumps(data)
    result = read(content)
    assert list(result) == ["data", "labels", "name"]
    np.testing.assert_array_equal(result["data"], images)
    assert (result["labels"], result["name"]) == ([1, 0], b"\xff" * 300)
    assert pickle.loads(content, encoding="bytes").keys() == data.keys()
    assert read(b"(dS'key'\nS'\\x41b'\ns.") == {"key": b"Ab"}


def test_keys_of_bytes_become_text(read):
    assert read(pickle.dumps({b"\xe4": 1, "b": 2, 3: b"c"})) == {"ä": 1, "b": 2, 3: b"c"}


@pytest.mark.parametrize(
    ("dumps", "most"),
    [
        (python2_pickle.dumps, 2.1),
        (lambda data: pickle.dumps(data, 2), 2.1),
        (lambda data: pickle.dumps(data, 4), 1.1),
    ],
    ids=["python 2", "protocol 2", "protocol 4"],
)
def test_a_batch_of_real_size_is_copied_twice_at_most(tmp_path, dumps, most):
    images = np.full((10_000, 3072), 7, dtype=np.uint8)  # ASCII: text takes a byte each
    (tmp_path / "batch").write_bytes(dumps({b"data": images}))
    tracemalloc.start()
    try:
        result = read_plain_pickle(tmp_path / "batch")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most * images.nbytes
    np.testing.assert_array_equal(result["data"], images)


# Pickles that are no plain data.


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


def make_folder(path, how):
    """A pickle that makes a folder when it is loaded, and what its error must say."""
    argument = text(str(path).encode())
    return {
        "GLOBAL": (b"cos\nmkdir\n" + argument + b"\x85R.", "it names os.mkdir"),
        "STACK_GLOBAL": (
            b"\x80\x04" + text(b"os") + text(b"mkdir") + b"\x93" + argument + b"\x85R.",
            "it names os.mkdir",
        ),
        "INST": (b"(" + argument + b"ios\nmkdir\n.", "it names os.mkdir"),
        "OBJ": (b"(cos\nmkdir\n" + argument + b"o.", "it names os.mkdir"),
        "nested": (
            b"\x80\x04]\x94(" + text(b"builtins") + text(b"eval") + b"\x93"
            + text(f"__import__('os').mkdir({str(path)!r})".encode()) + b"\x85Re.",
            "it names builtins.eval",
        ),
    }[how]  # fmt: skip


@pytest.mark.parametrize("how", ["GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "nested"])
def test_nothing_is_run(read, tmp_path, how):
    content, message = make_folder(tmp_path / "folder", how)
    with pytest.raises(ValueError, match=f"is not plain data: .*{message}"):
        read(content)
    assert not (tmp_path / "folder").exists()
    pickle.loads(content)
    assert (tmp_path / "folder").exists()  # the pickle is a true one


class Custom:
    """An object whose state is a dict."""

    def __init__(self):
        self.value = 1


OTHER_DATA = {
    "system": (b"cposix\nsystem\n(S'ls'\ntR.", "it names posix.system"),
    "object": (pickle.dumps(Custom(), 4), "it names .*Custom"),
    "object, protocol 0": (pickle.dumps(Custom(), 0), "it names copy_reg._reconstructor"),
    "set": (pickle.dumps({1}, 4), "it holds a set"),
    "complex": (pickle.dumps(1j), "it names builtins.complex"),
    "dtype": (pickle.dumps(np.dtype("f4")), "it uses numpy.dtype otherwise"),
    "a class of numpy": (b"cnumpy\nndarray\n.", "it uses numpy.ndarray"),
    "class in a tuple": (b"]cnumpy\nndarray\n\x85a.", "it uses numpy.ndarray"),
    "class as a key": (b"}cnumpy\nndarray\nNs.", "it uses numpy.ndarray"),
    "other numpy": (b"cnumpy\nload\nX\x01\x00\x00\x00x\x85R.", "it names numpy.load"),
    "submodule": (b"cnumpy\ncore.multiarray.fromfile\n.", "it names numpy.core.multi"),
    "NEWOBJ": (b"\x80\x02cnumpy\nndarray\nK\x01\x85\x81.", "not a type object"),
    "NEWOBJ_EX": (b"\x80\x04cnumpy\nndarray\n)}\x92.", "not a type object"),
    "EXT1": (b"\x80\x02\x82\x01.", "it names the class of number 1"),
    "EXT2": (b"\x80\x02\x83\x01\x00.", "it names the class of number 1"),
    "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00.", "it names the class of number 1"),
    "PERSID": (b"Pname\n.", "unsupported persistent id"),
    "BINPERSID": (b"K\x01Q.", "unsupported persistent id"),
    "NEXT_BUFFER": (b"\x80\x05\x97.", "out-of-band data"),
    "BUILD": (b"}}K\x01K\x02sb.", "'dict' object has no attribute '__dict__'"),
    "DUP": (b"]2a.", "occurs twice, or in itself"),
    "call of a number": (b"K\x01)R.", "'int' object is not callable"),
    "call of ndarray": (
        b"cnumpy\nndarray\nK\x01\x85R.",
        "it uses numpy.ndarray otherwise",
    ),
    "call without a tuple": (b"cnumpy\ndtype\n]R.", "it uses numpy.dtype"),
    "other encoding": (
        b"c_codecs\nencode\n" + text(b"x") + text(b"rot13") + b"\x86R.",
        "it uses _codecs.encode otherwise",
    ),
    "bytes of a size": (
        b"c__builtin__\nbytes\nK\x09\x85R.",
        "it uses builtins.bytes otherwise",
    ),
    "list as a key": (b"}]Ns.", "unhashable type: 'list'"),
    "tuple as a key": (pickle.dumps({(1, 2): 3}), "unhashable type: '_Tuple'"),
    "module name no text": (b"K\x01K\x02\x93.", "STACK_GLOBAL requires str"),
}


@pytest.mark.parametrize("name", OTHER_DATA)
def test_other_data_is_refused(read, name):
    content, message = OTHER_DATA[name]
    with pytest.raises(ValueError, match=f"file.pickle is not plain data.*: .*{message}"):
        read(content)


NEW_ARRAY = (
    b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
)


def array_content(
    *, shape=b"K\x02\x85", code=b"u1", order=b"|", fields=b"N", data=b"B\x02\x00\x00\x00ab"
):
    """Pickle of an array, part by part."""
    end = b"\x4a\xff\xff\xff\xff" * 2 + b"K\x00tb"
    dtype = b"cnumpy\ndtype\n" + text(code) + b"K\x00K\x01\x87R(K\x03" + text(order)
    dtype += b"N" + fields + b"N" + end
    return NEW_ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb."


def test_the_array_that_is_damaged_below_is_good(read):
    array = read(array_content())
    assert (array.dtype, array.tolist()) == (np.uint8, [97, 98])
    np.testing.assert_array_equal(pickle.loads(array_content()), array)


def huge(n):
    return b"\x8a\x10" + n.to_bytes(16, "little", signed=True)


DAMAGED_ARRAYS = {
    "too little data": ({"shape": b"K\x03\x85"}, "buffer is too small"),
    "too much data": ({"shape": b"K\x01\x85"}, "does not have 1 bytes"),
    "wrong item size": ({"code": b"u2", "order": b"<"}, "buffer is too small"),
    "negative axes": ({"shape": b"I-1\nI-2\n\x86"}, "negative dimensions"),
    "overflow": ({"shape": huge(2**63) + b"K\x02\x86"}, ""),
    "overflow to 2": ({"shape": huge(2**64 + 2) + b"\x85"}, ""),
    "overflow beside 0": (
        {"shape": b"(K\x00" + 5 * b"J\xff\xff\xff\x7f" + b"t", "data": b"C\x00"},
        "",
    ),
    "bool as axis": ({"shape": b"\x88K\x02\x86"}, "integer"),
    "float as axis": ({"shape": b"F2.0\n\x85"}, "integer"),
    "too many axes": ({"shape": b"(" + 80 * b"K\x01" + b"K\x02t"}, "dimension"),
    # With numpy's own dtype, whose flags say here that it has no objects, the bytes
    # become pointers.
    "objects": ({"shape": b"K\x01\x85", "code": b"O8", "data": b"C\x08abcdefgh"}, "dtype"),
    "strings": ({"code": b"S1"}, "dtype that is not one of plain numbers"),
    "dates": ({"code": b"M8"}, "dtype that is not one of plain numbers"),
    "two types": ({"code": b"u1,O8"}, "dtype that is not one of plain numbers"),
    "bad byte order": ({"order": b"x"}, "byteorder not recognized"),
    "fields": ({"fields": b"]"}, "dtype that is not one of plain numbers"),
    "text as data": ({"data": text(b"ab")}, "bytes-like object is required"),
    "list as data": ({"data": b"]"}, "bytes-like object is required"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED_ARRAYS)
def test_damaged_arrays_are_refused(read, name):
    parts, message = DAMAGED_ARRAYS[name]
    with pytest.raises(ValueError, match=f"is not plain data.*: .*{message}"):
        read(array_content(**parts))


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, "x"]),
        np.array(["text"]),
        np.array([(1, 2.0)], dtype="i4, f8"),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([1j]),
        np.arange(3).view(np.recarray),
    ],
    ids=str,
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_arrays_are_refused(read, array, protocol):
    with pytest.raises(ValueError, match="is not plain data"):
        read(pickle.dumps(array, protocol))


def test_an_array_without_data_is_refused(read):
    with pytest.raises(ValueError, match="it uses numpy.core.multiarray._reconstruct"):
        read(NEW_ARRAY + b".")
    with pytest.raises(ValueError, match="is not plain data"):
        read(NEW_ARRAY + b"q\x00(K\x01h\x00tb.")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_recursion_is_refused(read, protocol):
    in_list, in_dict = [], {}
    in_list.append(in_list)
    in_dict["self"] = in_dict
    for value in (in_list, in_dict):
        with pytest.raises(ValueError, match="occurs twice, or in itself"):
            read(pickle.dumps(value, protocol))
    in_tuple = ([],)
    in_tuple[0].append(in_tuple)
    with pytest.raises(ValueError, match="is not plain data"):
        read(pickle.dumps(in_tuple, protocol))


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_memo_bomb_is_refused(read, kind):
    """2^100 leaves in some hundred bytes."""
    value = kind([1])
    for _ in range(100):
        value = kind([value, value])
    with pytest.raises(ValueError, match="occurs twice, or in itself"):
        read(pickle.dumps(value, 4))


@pytest.mark.parametrize("use", [b"c_codecs\nencode\nh\x00h\x01\x86R", b"}h\x02Ns"])
def test_recalled_text_is_recoded_once(read, use):
    """1000 times 128 kB, in a file that is little longer than twice that."""
    long = 2**17 * b"x"
    content = b"(" + text(long) + b"q\x00" + text(b"latin1") + b"q\x01"
    content += b"B" + struct.pack("<I", len(long)) + long + b"q\x02l(" + 1000 * use
    tracemalloc.start()
    try:
        result = read(content + b"l\x86.")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(result[1]) == 1000
    assert peak < 2**21


@pytest.mark.parametrize("depth", [2000, 300_000])
def test_deep_nesting_is_refused_without_a_crash(read, depth):
    """The hash of a tuple recurses in C: of so many, one ends the process."""
    with pytest.raises(ValueError, match="is not plain data.*recursion"):
        read(b"]" * depth + b"a" * (depth - 1) + b".")
    with pytest.raises(ValueError, match="unhashable"):
        read(b"})" + b"\x85" * depth + b"Ns.")
    with pytest.raises(ValueError, match="otherwise than for an array"):
        read(NEW_ARRAY + b")" + b"\x85" * depth + b"b.")


@pytest.mark.parametrize(
    "content",
    [
        b"Nr\xff\xff\xff\x0f0",  # the place of number 2**28 in the memo
        b"\x96" + struct.pack("<Q", 2**33),  # a bytearray of 8 GB
        b"B" + struct.pack("<I", 2**32 - 1),
        b"c__builtin__\nbytes\nq\x000B\x00\x00\x02\x00" + bytes(2**17) + b"q\x01("
        + 1000 * b"h\x00h\x01R" + b"l.",
    ],
    ids=["memo", "bytearray", "bytes", "calls"],
)  # fmt: skip
def test_large_numbers_take_no_memory(read, content):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not plain data"):
            read(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_that_is_cut_short_is_refused(read, protocol):
    content = pickle.dumps({"a": [1, b"xy", np.arange(3)], "b": ("z", 1.5)}, protocol)
    for length in range(len(content)):
        with pytest.raises(ValueError, match="is not plain data"):
            read(content[:length])


@pytest.mark.parametrize(
    "content",
    [
        b".", b"a.", b"K\x01a.", b"]a.", b"e.", b"(e.", b"u.",
        b"](K\x01u.", b"}(K\x01u.", b"s.", b"t.", b"\x85.", b"R.", b"b.", b"\x93.",
        b"g7\n.", b"h\x01.", b"q\x01.", b"(K\x01d.", b"\xff.", b"Fx\n.", b"Ix\n.",
        b"B\xff\xff\xff\x7fa.", b"K\x01(K\x02ll\x86.",
    ],
)  # fmt: skip
def test_nonsense_is_refused(read, content):
    with pytest.raises(ValueError, match="is not plain data"):
        read(content)


VALID = [
    pickle.dumps({"a": [1, "x", b"y"], "b": (None, 2.5), "c": np.arange(4)}, protocol)
    for protocol in PROTOCOLS
]


@pytest.mark.filterwarnings("ignore:.*escape sequence")  # of pickletools
@given(data=st.data())
def test_any_damage_gives_data_or_a_value_error(read, data):
    content = bytearray(data.draw(st.sampled_from(VALID)))
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        read(bytes(content))


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


@pytest.mark.filterwarnings("ignore:.*escape sequence")  # of pickletools
@given(parts=st.lists(st.sampled_from(OPCODES) | st.binary(max_size=3)))
def test_any_bytes_give_data_or_a_value_error(read, parts):
    with contextlib.suppress(ValueError):
        read(b"".join(parts) + b".")


def test_missing_and_empty_files(read, tmp_path):
    with pytest.raises(FileNotFoundError):
        read_plain_pickle(tmp_path / "missing")
    with pytest.raises(
        ValueError, match=r"file\.pickle is not plain data: cannot mmap an empty"
    ):
        read(b"")
