"""The model file from Python: what is saved comes back to the last bit, and nothing tampered with is accepted."""

from __future__ import annotations

import copy
import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmcore
import model_bytes
from checking import assert_all_bitwise, assert_bitwise
from lstmcore import ModelFileError
from lstmcore._core import Model

SMALL: dict[str, Any] = {
    "recurrent": {"cell": "lstm", "input_size": 2, "hidden_size": 3, "seed": 1},
    "pooling": "last",
    "activation": "identity",
    "outputs": 2,
}
OPTIONS = {"lstm": {}, "elman": {"nonlinearity": "relu"}}


def make(dtype: str = "float32", **changes: Any) -> Model:
    """A model with preprocessing; changes go to the recurrent part."""
    model = Model(SMALL | {"recurrent": SMALL["recurrent"] | {"dtype": dtype} | changes})
    model.set_preprocessing([1.5, -20.0], [2.0, 0.1], [3.0, -1e6], [0.5, 1e-5])
    return model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("small") / "model"
    make().save(str(file), {"classes": '["a", "b"]'})
    return file.read_bytes()


def load_bytes(path: Path, data: bytes) -> Model:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return Model.load(str(path))


@pytest.mark.parametrize("cell", sorted(lstmcore.cells()))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("pooling", "activation"), [("last", "identity"), ("mean", "softmax"), ("max", "identity")])
def test_round_trip(path: Path, cell: str, dtype: str, bidirectional: bool, pooling: str, activation: str) -> None:
    recurrent = {
        "cell": cell, "input_size": 4, "hidden_size": 9, "num_layers": 2, "bidirectional": bidirectional,
        "dropout": 0.25, "dtype": dtype, "seed": 2**64 - 3, "cell_options": OPTIONS.get(cell, {}),
    }  # fmt: skip
    model = Model({"recurrent": recurrent, "pooling": pooling, "activation": activation, "outputs": 3})
    rng = np.random.default_rng(5)
    outputs = ([0.0] * 3, [1.0] * 3) if activation == "softmax" else (rng.normal(size=3), rng.uniform(0.1, 9, 3))
    model.set_preprocessing(rng.normal(size=4), rng.uniform(0.1, 9, 4), *outputs)
    metadata = {"classes": '["é", "\\u0000"]', "": "no name", "empty": "", "odd": '\0\t"\\\x7f😀'}
    model.save(str(path), metadata)
    loaded = Model.load(str(path))
    assert loaded.metadata == metadata
    assert loaded.config == model.config
    assert loaded.config["recurrent"]["seed"] == 2**64 - 3
    assert_all_bitwise(loaded.parameters, model.parameters, "parameters")
    assert_all_bitwise(loaded.preprocessing, model.preprocessing, "preprocessing")
    x = [rng.normal(size=(length, 4)).astype(dtype) for length in (1, 7, 30)]
    assert_bitwise(loaded.predict(x), model.predict(x), "predictions")
    if not bidirectional:
        ours, theirs = model.make_state(), loaded.make_state()
        for row in x[1]:
            assert_bitwise(loaded.step(row, theirs), model.step(row, ours), "streamed")


def test_n_threads_stays_behind(path: Path) -> None:
    """It belongs to the machine, not to the model."""
    make(n_threads=1).save(str(path))
    assert Model.load(str(path)).config["recurrent"].get("n_threads") in (None, 0)
    assert "n_threads" not in model_bytes.read(path)[1]["model"]


def test_content(path: Path) -> None:
    model = make()
    model.save(str(path), {"classes": "[1]"})
    tensors, metadata = model_bytes.read(path)
    assert_all_bitwise({name: tensors[name] for name in model.parameters}, model.parameters, "parameters")
    assert_all_bitwise({name: tensors[name] for name in model.preprocessing}, model.preprocessing, "preprocessing")
    assert set(tensors) == {*model.parameters, *model.preprocessing}
    assert set(metadata) == {
        "format", "format_version", "lstmcore_version", "model", "test_vector", "checksum", "classes",
    }  # fmt: skip
    assert (metadata["format"], metadata["format_version"]) == ("lstmcore", "1")
    assert metadata["lstmcore_version"] == lstmcore.__version__
    assert json.loads(metadata["model"])["recurrent"]["hidden_size"] == 3
    vector = json.loads(metadata["test_vector"])
    x = np.array(vector["input"])
    assert x.shape == (5, 2)
    assert (np.abs((x - [1.5, -20.0]) * [2.0, 0.1]) <= 2 + 1e-5).all()
    np.testing.assert_array_equal(model.predict(x[None].astype(np.float32))[0], np.float32(vector["output"]))
    assert model_bytes.checksum(*model_bytes.split(path.read_bytes())) == metadata["checksum"]


def test_numbers_keep_every_bit(path: Path) -> None:
    model = make("float64")
    weights = model.get_weights()
    odd = [0.1, -0.0, 5e-324, np.nextafter(1.0, 2.0), 1 / 3]
    weights[: len(odd)] = odd
    model.set_weights(weights)
    mean = [0.1, -1e-300]
    model.set_preprocessing(mean, [1e-5, 1 / 3], [1e9 + 0.1, 0.0], [1 / 7, 2.0])
    model.save(str(path))
    loaded = Model.load(str(path))
    assert_bitwise(loaded.get_weights(), weights, "weights")
    assert_all_bitwise(loaded.preprocessing, model.preprocessing, "preprocessing")


def test_other_writers_are_understood(path: Path, small: bytes) -> None:
    """Spaces, order of names and of tensors, escapes: the container leaves them open."""
    header, data = model_bytes.split(small)
    rewritten = {}
    reordered = b""
    for name in sorted(set(header) - {"__metadata__"}):
        begin, end = header[name]["data_offsets"]
        # The container asks for alignment: here the 8-byte tensors happen to lie behind an even number of 4-byte ones.
        offsets = [len(reordered), len(reordered) + end - begin]
        rewritten[name] = {"data_offsets": offsets, **{key: header[name][key] for key in ("shape", "dtype")}}
        reordered += data[begin:end]
    rewritten["__metadata__"] = header["__metadata__"]
    text = json.dumps(rewritten, indent=3).replace("W_l0", "\\u0057_l0")
    model = load_bytes(path, model_bytes.join(text, reordered))
    assert_all_bitwise(model.parameters, make().parameters, "parameters")


def test_every_truncation(path: Path, small: bytes) -> None:
    for length in range(len(small)):
        with pytest.raises(ModelFileError):
            load_bytes(path, small[:length])
    assert load_bytes(path, small).config["outputs"] == 2


def test_flipped_bits(path: Path, small: bytes) -> None:
    rng = np.random.default_rng(0)
    for position in range(len(small)):
        damaged = bytearray(small)
        damaged[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelFileError):
            load_bytes(path, bytes(damaged))


def test_several_flips_and_swaps(path: Path, small: bytes) -> None:
    rng = np.random.default_rng(1)
    start = 8 + struct.unpack("<Q", small[:8])[0]
    for _ in range(300):
        damaged = bytearray(small)
        a, b = (int(i) for i in rng.integers(start, len(small), 2))
        damaged[a], damaged[b] = damaged[b], damaged[a]
        if bytes(damaged) == small:
            continue
        with pytest.raises(ModelFileError):
            load_bytes(path, bytes(damaged))


Change = Callable[[dict[str, Any]], object]


def architecture(change: Change) -> Change:
    """A change of the JSON inside metadata 'model'."""

    def apply(header: dict[str, Any]) -> None:
        model = json.loads(header["__metadata__"]["model"])
        change(model)
        header["__metadata__"]["model"] = json.dumps(model)

    return apply


def recurrent(**changes: Any) -> Change:
    return architecture(lambda model: model["recurrent"].update(changes))


HOSTILE: dict[str, tuple[Change, str]] = {
    "huge hidden size": (recurrent(hidden_size=10**12), "hidden_size: expected an integer from 1"),
    "overflowing hidden size": (recurrent(hidden_size=2**62), "hidden_size: expected an integer from 1"),
    "huge input size": (recurrent(input_size=2**63 - 1), "input_size: expected an integer from 1"),
    "huge layers": (recurrent(num_layers=2**63 - 1), "num_layers: expected an integer from 1"),
    "large layers": (recurrent(hidden_size=2**31, num_layers=10000), "more weights than can be addressed"),
    "more layers": (recurrent(num_layers=10000), "'W_l1' is missing"),
    "larger hidden size": (recurrent(hidden_size=2**20), "expected shape"),
    "beyond 64 bits": (recurrent(num_layers=2**64), "64 bits"),
    "negative size": (recurrent(hidden_size=-3), "hidden_size: expected an integer from 1"),
    "fractional size": (recurrent(hidden_size=3.0), "hidden_size: expected an integer from 1"),
    "size as text": (recurrent(hidden_size="3"), "hidden_size: expected an integer from 1"),
    "unknown cell": (recurrent(cell="perceptron"), "got 'perceptron'"),
    "another cell": (recurrent(cell="elman"), "expected shape"),
    "unknown option": (recurrent(cell_options={"warp": 1}), "warp"),
    "option of the wrong kind": (recurrent(cell_options={"warp": [1]}), "warp"),
    "unknown dtype": (recurrent(dtype="int8"), "expected one of 'float32', 'float64'"),
    "another dtype": (recurrent(dtype="float64"), "expected dtype F64"),
    "dropout": (recurrent(dropout=2.0), "dropout"),
    "unknown entry": (recurrent(surprise=1), "unknown entry 'surprise'"),
    "missing entry": (architecture(lambda model: model["recurrent"].pop("seed")), "'seed' is missing"),
    "outputs": (architecture(lambda model: model.update(outputs=10**9)), "expected shape"),
    "pooling": (architecture(lambda model: model.update(pooling="sum")), "pooling: expected one of"),
    "not an object": (lambda h: h["__metadata__"].update(model="[]"), "expected an object"),
    "deep architecture": (lambda h: h["__metadata__"].update(model="[" * 10**5), "deeper than 64 levels"),
    "deep test vector": (lambda h: h["__metadata__"].update(test_vector="[" * 10**5), "deeper than 64 levels"),
    "endless test vector": (
        lambda h: h["__metadata__"].update(test_vector=json.dumps({"input": [[0, 0]] * 1000, "output": [0, 0]})),
        "expected 1 to 64 steps",
    ),
    "another test vector": (
        lambda h: h["__metadata__"].update(test_vector='{"input": [[0, 0]], "output": [7, 7]}'),
        "does not reproduce the test vector",
    ),
    "another format": (lambda h: h["__metadata__"].update(format="pt"), "not a model of lstmcore"),
    "future format": (lambda h: h["__metadata__"].update(format_version="99"), "version '99'"),
    "missing tensor": (lambda h: h.pop("head_b"), "belong to none"),
    "renamed tensor": (lambda h: h.update(other=h.pop("head_b")), "'head_b' is missing"),
    "extra tensor": (
        lambda h: h.update(other={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
        "'other' does not belong",
    ),
    "overlap": (lambda h: h["head_W"].update(data_offsets=h["b_l0"]["data_offsets"]), "takes 24 bytes"),
    "shared bytes": (lambda h: h["input_scale"].update(h["input_mean"]), "overlap"),
    "shape": (lambda h: h["W_l0"].update(shape=[2, 12]), "expected shape [12, 2], found [2, 12]"),
    "dimensions": (lambda h: h["W_l0"].update(shape=[2**40, 2**40]), "too large"),
    "many dimensions": (lambda h: h["W_l0"].update(shape=[1] * 10**5), "takes 4 bytes"),
    "offsets beyond": (lambda h: h["W_l0"].update(data_offsets=[2**63, 2**63 + 96]), "lie outside"),
    "offsets reversed": (lambda h: h["W_l0"]["data_offsets"].reverse(), "lie outside"),
    "misaligned": (lambda h: h["W_l0"].update(data_offsets=[1, 97]), "not aligned"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers(path: Path, small: bytes, name: str) -> None:
    change, message = HOSTILE[name]
    header, data = model_bytes.split(small)
    before = copy.deepcopy(header)
    change(header)
    assert header != before
    try:
        damaged = model_bytes.sealed(header, data)
    except (KeyError, struct.error):
        damaged = model_bytes.join(header, data)
    with pytest.raises(ModelFileError) as error:
        load_bytes(path, damaged)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{}", "not a model of lstmcore"),
        ("", "does not start with '{'"),
        ("[]", "does not start with '{'"),
        ("{" * 8, "expected a name"),
        ('{"a":' * 10**5, "deeper than 64 levels"),
        ('{"a":1,"a":1}', "stands twice"),
        (b'{"\xff":1}', "not UTF-8"),
        ('{"\\ud800":1}', "surrogate"),
        ('{"__metadata__":{"a":1}}', "must be a string"),
        ('{"__metadata__":[]}', "must be an object"),
        ('{"t":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', "lie outside the 0 bytes"),
    ],
)
def test_headers_by_hand(path: Path, header: str | bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message.replace("{", r"\{")):
        load_bytes(path, model_bytes.join(header, b""))


@pytest.mark.parametrize("length", [0, 7, 10**8 + 8, 2**32, 2**63, 2**64 - 1, 2**64 - 8])
def test_header_lengths(path: Path, small: bytes, length: int) -> None:
    with pytest.raises(ModelFileError):
        load_bytes(path, struct.pack("<Q", length) + small[8:])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["W_l0", "R_l0", "b_l0", "head_W", "head_b", "input_mean", "output_scale"])
def test_not_finite(path: Path, small: bytes, name: str, value: float) -> None:
    header, data = model_bytes.split(small)
    begin, end = header[name]["data_offsets"]
    values = np.frombuffer(data[begin:end], model_bytes.DTYPES[header[name]["dtype"]]).copy()
    values[-1] = value
    with pytest.raises(ModelFileError, match=f"tensor '{name}' holds a value that is not finite"):
        load_bytes(path, model_bytes.sealed(header, data[:begin] + values.tobytes() + data[end:]))


@pytest.mark.parametrize("name", ["input_scale", "output_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_scales(path: Path, small: bytes, name: str, value: float) -> None:
    header, data = model_bytes.split(small)
    begin, _ = header[name]["data_offsets"]
    with pytest.raises(ModelFileError, match=f"tensor '{name}' holds {value}"):
        load_bytes(path, model_bytes.sealed(header, data[:begin] + struct.pack("<d", value) + data[begin + 8 :]))


def test_huge_sizes_cost_no_memory(path: Path, small: bytes) -> None:
    """In a process whose address space has no room for what the header claims."""
    header, data = model_bytes.split(small)
    recurrent(hidden_size=2**20)(header)
    path.write_bytes(model_bytes.sealed(header, data))
    code = (
        "import resource, sys, lstmcore\n"
        "from lstmcore._core import Model\n"
        "lstmcore.build_info()\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))\n"
        "try:\n    Model.load(sys.argv[1])\nexcept lstmcore.ModelFileError as error:\n    print('refused:', error)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert process.stdout.startswith("refused: "), process.stderr


@pytest.mark.skipif(len(lstmcore.build_info()["isas_usable"]) < 2, reason="needs two engines that this CPU can run")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_engines_read_each_others_files(tmp_path: Path, dtype: str) -> None:
    """Engines round differently; the test vector allows for that, also with weights far larger than trained ones."""
    save = (
        "import sys, numpy as np\nfrom lstmcore._core import Model\n"
        "for seed in range(30):\n"
        "    model = Model({'recurrent': {'cell': ('lstm', 'elman')[seed % 2], 'input_size': 7, 'hidden_size': 65,\n"
        f"        'num_layers': 2, 'bidirectional': seed % 3 == 0, 'dtype': '{dtype}', 'seed': seed}},\n"
        "        'pooling': ('last', 'mean', 'max')[seed % 3], 'outputs': 5, 'activation': 'identity'})\n"
        "    model.set_weights(model.get_weights() * model.get_weights().dtype.type(1 + seed % 5))\n"
        "    model.set_preprocessing([1e3] * 7, [0.1] * 7, [1e6] * 5, [1e-6] * 5)\n"
        "    model.save(f'{sys.argv[1]}/{seed}')\n"
    )
    load = (
        "import sys\nfrom lstmcore._core import Model\n"
        "for seed in range(30):\n    Model.load(f'{sys.argv[1]}/{seed}')\nprint('loaded')\n"
    )
    usable = lstmcore.build_info()["isas_usable"]
    for writer, reader in [(usable[0], usable[-1]), (usable[-1], usable[0])]:
        for isa, code in [(writer, save), (reader, load)]:
            environment = os.environ | {"LSTMCORE_ISA": isa}
            command = [sys.executable, "-c", code, str(tmp_path)]
            process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert process.returncode == 0, process.stderr
    assert process.stdout == "loaded\n"


def test_reserved_names(path: Path) -> None:
    for name in ("format", "format_version", "lstmcore_version", "model", "test_vector", "checksum"):
        with pytest.raises(ValueError, match=f"'{name}' is reserved"):
            make().save(str(path), {name: "1"})
    assert not path.exists()


def test_a_diverged_model_is_not_written(path: Path) -> None:
    model = make()
    model.save(str(path))
    before = path.read_bytes()
    weights = model.get_weights()
    weights[5] = np.nan
    model.set_weights(weights)
    with pytest.raises(ModelFileError, match=r"tensor 'W_l0' holds a value that is not finite .* at index 5"):
        model.save(str(path))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_paths(tmp_path: Path, path: Path) -> None:
    model = make()
    assert issubclass(ModelFileError, ValueError)
    with pytest.raises(FileNotFoundError, match="missing"):
        Model.load(str(tmp_path / "missing"))
    with pytest.raises(ModelFileError, match="it is a directory"):
        Model.load(str(tmp_path))
    with pytest.raises(ModelFileError, match="it is a device"):
        Model.load("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="it is a pipe"):
        Model.load(str(tmp_path / "pipe"))
    with pytest.raises(ModelFileError, match="it is a pipe"):
        model.save(str(tmp_path / "pipe"))
    with pytest.raises(FileNotFoundError, match="missing"):
        model.save(str(tmp_path / "missing" / "model"))
    with pytest.raises(ModelFileError, match="it is a directory"):
        model.save(str(tmp_path))
    name = tmp_path / "größe 漢 \n"
    model.save(str(name))
    assert Model.load(str(name)).config == model.config
    name.write_bytes(b"")
    with pytest.raises(ModelFileError, match="größe 漢"):
        Model.load(str(name))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    make().save(name)
    assert Model.load(name).config == make().config
    Path(name).write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"\\xff\\xfe"):
        Model.load(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_permissions(tmp_path: Path, path: Path) -> None:
    model = make()
    model.save(str(path), {"first": "1"})
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        model.save(str(path))
    path.chmod(0o000)
    with pytest.raises(PermissionError):
        Model.load(str(path))
    path.chmod(0o644)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            model.save(str(path))
    finally:
        tmp_path.chmod(0o755)
    assert Model.load(str(path)).metadata == {"first": "1"}
    assert os.listdir(tmp_path) == [path.name]


def test_replacing(tmp_path: Path, path: Path) -> None:
    """Permissions and links stay, nothing temporary does, and a new file has those of the umask."""
    old = os.umask(0o027)
    try:
        make().save(str(path))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    link = tmp_path / "link"
    link.symlink_to(path.name)
    make(hidden_size=4).save(str(link))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert Model.load(str(path)).config["recurrent"]["hidden_size"] == 4
    assert sorted(os.listdir(tmp_path)) == ["link", path.name]


def test_a_full_disk_leaves_the_old_file(path: Path) -> None:
    """Played by a limit on the size of files, in a process of its own."""
    make().save(str(path))
    before = path.read_bytes()
    code = (
        "import resource, signal, sys, lstmcore\nfrom lstmcore._core import Model\n"
        f"model = Model({SMALL!r})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"for size in (0, 100, {len(before) // 2}):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "    try:\n        model.save(sys.argv[1])\n    except lstmcore.ModelFileError as e:\n"
        "        sys.stderr.write(f'{e}\\n')\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, text=True, check=False)
    assert process.stderr.count("writing failed: File too large") == 3, process.stderr
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
