"""Runs artifacts as somebody does who has jax, numpy and the standard library, and nothing else.

`python run_artifacts.py FOLDER...`: calls each with the arrays in `given-N.npz` beside it, and
writes what comes out to `got-N.npz`.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
from jax import export


def run(folder):
    program = export.deserialize(bytearray((folder / "model.jax_export").read_bytes()))
    weights = dict(np.load(folder / "weights.npz"))
    description = json.loads((folder / "artifact.json").read_text("utf-8"))
    for given in folder.glob("given-*.npz"):
        arrays, arguments = np.load(given), {}
        for one in description["inputs"]:
            array = arrays["/".join([one["argument"], *one["keys"]])]
            assert list(array.shape[1:]) == one["shape"][1:] and array.dtype == one["dtype"]
            if one["keys"]:
                arguments.setdefault(one["argument"], {})[one["keys"][0]] = array
            else:
                arguments[one["argument"]] = array
        outputs = jax.tree.leaves(jax.jit(program.call)(weights, *arguments.values()))
        pairs = zip(description["outputs"], outputs, strict=True)
        named = {"/".join(one["keys"]) or "output": x for one, x in pairs}
        np.savez(folder / given.name.replace("given", "got"), **named)


for name in sys.argv[1:]:
    run(Path(name))
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"perceiver_jax", "interop", "flax", "optax", "safetensors"}, loaded
