"""Thousands of damaged files of all formats: each is read or refused, and nothing else happens.

- Small valid files are cut, flipped, spliced and edited by a seeded generator.
- Members of zip files are also damaged before they are packed, with right checksums.
"""

import io
import json
import pickle
import random
import struct
import time
import zipfile

import numpy as np
import pytest

from interop.files import FileError, haiku, npz, safetensors_files, torch_files
from tests.interop.files import hostile

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

MUTATIONS = 1_000
"""Of each file."""
SLOWEST = 3.0
"""Seconds of computing for one file; all are of a few hundred bytes."""
OPCODES = (
    b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu})]\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95"
)
NUMBERS = [
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
]
NAMES = [
    b"os\nsystem\n",
    b"builtins\neval\n",
    b"subprocess\nrun\n",
    b"numpy\nload\n",
    b"torch\nload\n",
]
ARRAYS = {
    "linear/w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "linear/b": np.arange(3, dtype=np.float16),
    "count": np.array(3, np.int64),
}


def changed(content: bytes, random: random.Random) -> bytes:
    """One to three random changes."""
    content = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if not content:
            break
        at = random.randrange(len(content))
        end = min(len(content), at + random.randrange(1, 20))
        match random.randrange(9):
            case 0:
                content[at] ^= 1 << random.randrange(8)
            case 1:
                content[at] = random.randrange(256)
            case 2:
                del content[at:]
            case 3:
                del content[at:end]
            case 4:
                content[at:at] = content[at:end] * random.choice((1, 2, 50))
            case 5:
                other = random.randrange(len(content))
                content[other : other + end - at] = content[at:end]
            case 6:
                size = random.choice((1, 2, 4, 8))
                number = random.choice(NUMBERS) & ((1 << 8 * size) - 1)
                content[at : at + size] = number.to_bytes(size, random.choice(("little", "big")))
            case 7:
                content[at] = random.choice(OPCODES)
            case 8:
                content[at:at] = (
                    b"c" + random.choice(NAMES) + random.choice((b"", b")R", b"Q", b"b"))
                )
    return bytes(content)


def pickled(protocol):
    names = {"params/linear/w": ARRAYS["linear/w"], "state/linear/count": ARRAYS["count"]}
    tree = {"params": {"linear": {"w": ARRAYS["linear/w"]}}, "state": {"m": dict(names)}}
    return pickle.dumps(tree, protocol)


def in_haiku(random, tmp_path):
    haiku.write(tmp_path / "valid", {f"params/a/{name}": array for name, array in ARRAYS.items()})
    sources = [pickled(2), pickled(3), pickled(5), (tmp_path / "valid").read_bytes()]
    return lambda: changed(random.choice(sources), random)


def in_members(content: bytes, random: random.Random):
    """Damages a zip file from outside, or one of its members from inside."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    likely = [name for name in members if name.endswith((".npy", "data.pkl"))]

    def damaged():
        if random.random() < 0.4:
            return changed(content, random)
        chosen = random.choice(likely + random.choices(list(members)))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", random.choice((0, 0, zipfile.ZIP_DEFLATED))) as archive:
            for name, member in members.items():
                archive.writestr(name, changed(member, random) if name == chosen else member)
        return buffer.getvalue()

    return damaged


def in_npz(random, tmp_path):
    npz.write(tmp_path / "valid", ARRAYS | {"config": np.array("{}")})
    return in_members((tmp_path / "valid").read_bytes(), random)


def in_torch(random, tmp_path):
    content = {"state_dict": {name: torch.from_numpy(array) for name, array in ARRAYS.items()}}
    torch.save(content | {"step": 3, "size": torch.Size([2])}, tmp_path / "valid")
    return in_members((tmp_path / "valid").read_bytes(), random)


def in_old_torch(random, tmp_path):
    tensors = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    torch.save(tensors, tmp_path / "valid", _use_new_zipfile_serialization=False)
    content = (tmp_path / "valid").read_bytes()
    return lambda: changed(content, random)


def in_safetensors(random, tmp_path):
    safetensors_files.write(tmp_path / "valid", ARRAYS, {"format": "pt"})
    content = (tmp_path / "valid").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]

    def damaged():
        if random.random() < 0.4:
            return changed(content, random)
        edited = changed(header, random)
        if random.random() < 0.5:
            values = json.loads(header)
            entry = values[random.choice(list(ARRAYS))]
            entry[random.choice(list(entry))] = random.choice(
                [
                    "O",
                    "F64",
                    [1 << 62, 4],
                    [-1],
                    [0, 1 << 40],
                    [8, 0],
                    [],
                    None,
                    {},
                    1.5,
                    "BF16",
                    "F8_E4M3",
                ]
            )
            edited = json.dumps(values).encode()
        return struct.pack("<Q", len(edited)) + edited + data

    return damaged


def in_index(random, tmp_path):
    names = dict.fromkeys(ARRAYS, "valid.safetensors")
    safetensors_files.write(tmp_path / "valid.safetensors", ARRAYS)
    content = json.dumps({"metadata": {}, "weight_map": names}).encode()
    return lambda: changed(content, random)


@pytest.mark.parametrize(
    "read, suffix, make",
    [
        (haiku.read, ".pystate", in_haiku),
        (npz.read, ".npz", in_npz),
        (torch_files.read, ".pt", in_torch),
        (torch_files.read, ".bin", in_old_torch),
        (safetensors_files.read, ".safetensors", in_safetensors),
        (safetensors_files.read, ".index.json", in_index),
    ],
)
def test_damaged_files_are_read_or_refused(tmp_path, nothing_runs, read, suffix, make):
    damaged = make(random.Random(20_260_101), tmp_path)
    path = tmp_path / f"a{suffix}"
    counts = {"read": 0, "refused": 0}
    with hostile.bounded_memory(512 << 20):
        for number in range(MUTATIONS):
            path.write_bytes(damaged())
            begin = time.process_time()
            try:
                content = read(path)
            except FileError as error:
                assert str(tmp_path) in str(error) and len(str(error)) < 3_000
                counts["refused"] += 1
            except BaseException as error:
                error.add_note(f"mutation {number}: {path.read_bytes()!r}")
                raise
            else:
                arrays = content.tensors if isinstance(content, torch_files.TorchFile) else content
                assert all(isinstance(array, np.ndarray) for array in arrays.values())
                assert sum(array.nbytes for array in arrays.values()) < 1 << 20
                counts["read"] += 1
            assert time.process_time() - begin < SLOWEST, path.read_bytes()
    # Damage that always, or never, shows would say little.
    assert min(counts.values()) > MUTATIONS // 100, counts
