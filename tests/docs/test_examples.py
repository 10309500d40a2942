"""Examples of the pages run as they stand there, block after block, and have the shapes they tell.

Where a page shows models of published size its blocks are traced and not computed: modules,
parameters and arrays are made as shapes, by the same code.
"""

import ast
import inspect
import re
import sys
import types

import jax
import numpy as np
import pytest

from interop import FORMATS, load, ops, rows, save
from perceiver_jax import models, params
from tests.conftest import ROOT
from tests.docs.markdown_pages import blocks, name, pages

OWN_TEST = {
    "docs/bring_your_own_modality.md": "tests/docs/test_bring_your_own_modality.py",
    "docs/deploy.md": "tests/export/test_page.py",
    "docs/migrating/": "tests/docs/test_migrating.py",
    "docs/own_images.md": "tests/docs/test_own_images.py",
    "notebooks/": "tests/docs/test_notebooks.py",
}
"""Pages whose blocks another file of tests runs."""

OWN_TEST_OF_A_BLOCK = {
    ("README.md", "from sklearn.datasets import load_digits"): "tests/docs/test_readme_loop.py",
    ("docs/audio.md", 'run = Path("runs/sounds")'): "tests/docs/test_own_files.py",
    ("docs/point_clouds.md", 'run = Path("runs/clouds")'): "tests/docs/test_own_files.py",
    ("docs/time_series.md", 'run = Path("runs/series")'): "tests/docs/test_own_files.py",
}
"""Single blocks, by a line of them, that another file of tests runs."""

READ_ONLY = {
    "README.md": {
        "import perceiver_jax": "reads the run of `make demo`",
        "from interop import export_pretrained, load_pretrained": "downloads weights",
    },
    "docs/attention_maps.md": {
        "from perceiver_jax.data.digits import mnist5k": "reads the run of `make demo`",
    },
    "docs/interop.md": {
        "from interop import export_pretrained, load_pretrained": "downloads weights",
        "                interpolate_positions=True)": "downloads weights",
    },
}
"""Blocks, by a line of them, of which only imports and arguments are checked, and why."""

COMPUTED = (
    "docs/attention_maps.md",
    "docs/autoregressive.md",
    "docs/blocks.md",
    "docs/interop.md",
)
"""Pages that are not traced: their blocks take values out of arrays, and are small."""


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def ones(*shape):
    return np.ones(shape, bool)


def small_config():
    """Of a classifier of 8×8 grey images."""
    return models.PerceiverConfig(
        encoder=models.ImageEncoderConfig(
            image_shape=(8, 8, 1), num_frequency_bands=2, num_cross_attention_heads=1
        ),
        decoder=models.ClassificationDecoderConfig(num_classes=5, num_output_query_channels=8),
        num_latents=4,
        num_latent_channels=8,
    )


def foreign():
    """Weights of a model as krasserm has them."""
    config = small_config()
    skeleton = models.skeleton(config)
    ours = {path: zeros(*x.shape) for path, x in skeleton.params.items()}
    theirs = save(FORMATS["krasserm"].rows(config), ours)
    return {"config": config, "skeleton": skeleton, "foreign": theirs}


GIVEN = {
    "docs/attention_maps.md": [
        lambda: {
            "model": models.build(small_config(), jax.random.key(0)),
            "inputs": zeros(2, 8, 8, 1),
        }
    ],
    "docs/dense_outputs.md": [
        lambda: {"frames": zeros(2, 2, 368, 496, 3), "indices": zeros(2, 7, dtype=np.int32)},
        lambda: {
            "frames": zeros(2, 16, 224, 224, 3),
            "waveform": zeros(2, 30720, 1),
            "clip": {"image": zeros(2, 16, 224, 224, 3), "audio": zeros(2, 30720, 1)},
            "pixels": zeros(2, 7, dtype=np.int32),
            "stretches": zeros(2, 7, dtype=np.int32),
        },
    ],
    "docs/audio.md": [lambda: {"waveforms": zeros(2, 61440, 1)}],
    "docs/point_clouds.md": [lambda: {"clouds": zeros(2, 50, 6), "input_mask": ones(2, 50)}],
    "docs/time_series.md": [
        lambda: {"values": zeros(2, 29, 12), "times": zeros(2, 29), "mask": ones(2, 29)}
    ],
    "docs/interop.md": [
        lambda: (
            {name: getattr(rows, name) for name in ("row", "ignore")}
            | {name: getattr(ops, name) for name in ("TRANSPOSE", "SPLIT", "JOIN")}
            | {"ours": "block", "theirs": "layers.0", "default": lambda ours: ours}
        ),
        lambda: {"FORMATS": FORMATS, "load": load} | foreign(),
    ],
}
"""What a reader has already, for each block of a page that runs."""


def elsewhere(page):
    return any(page.startswith(beginning) for beginning in OWN_TEST)


PAGES = {
    name(page): [code for _, code in blocks(page, "python")]
    for page in pages()
    if not elsewhere(name(page))
}
PAGES = {page: found for page, found in PAGES.items() if found}


def run_block(code, namespace, where):
    """Runs a block statement by statement, and compares each with the comment behind it."""
    lines = code.splitlines()
    for node in ast.parse(code).body:
        exec(compile(ast.Module([node], []), where, "exec"), namespace)
        comment = lines[node.end_lineno - 1].partition("  # ")[2]
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            check_what_is_told(namespace[node.targets[0].id], comment)


def check_what_is_told(value, comment):
    """`… → [B, 10]` and `133,134 parameters` say what a value is."""
    if told := re.search(r"([\d,]+) parameters", comment):
        assert params.count(params.flatten(value)[0]) == int(told[1].replace(",", "")), comment
    told = re.match(r"\W*\[([\w, ]+)\]", comment.rpartition("→")[2])
    if told and hasattr(value, "shape"):
        sizes = told[1].split(", ")
        assert len(value.shape) == len(sizes), comment
        for size, real in zip(sizes, value.shape, strict=True):
            assert not size.isdigit() or int(size) == real, comment


def check_names_and_arguments(code):
    """The imports of a block work, and what is imported takes the arguments that it is given."""
    tree = ast.parse(code)
    namespace = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), namespace)
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        called = ast.unparse(call.func)
        if called.partition(".")[0] in namespace and called.replace(".", "").isidentifier():
            given = {keyword.arg: None for keyword in call.keywords}
            inspect.signature(eval(called, namespace)).bind(*call.args, **given)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page):
    left_out = {line for other, line in OWN_TEST_OF_A_BLOCK if other == page}
    left_out |= READ_ONLY.get(page, {}).keys()
    run = [code for code in PAGES[page] if not left_out & set(code.splitlines())]
    givens = GIVEN.get(page, [])
    namespace = {}

    def execute():
        for i, code in enumerate(run):
            namespace.update(givens[i]() if i < len(givens) else {})
            run_block(code, namespace, page)

    if page in COMPUTED:
        execute()
    else:
        jax.eval_shape(execute)


@pytest.mark.parametrize("page, line", [(page, x) for page in READ_ONLY for x in READ_ONLY[page]])
def test_the_other_blocks_call_what_there_is(page, line, monkeypatch):
    for module in ("events", "event_data"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    (code,) = [code for code in PAGES[page] if line in code.splitlines()]
    check_names_and_arguments(code)


def test_pages_and_tests_that_are_named_are_there():
    assert all((ROOT / beginning).exists() for beginning in OWN_TEST)
    tests = [*OWN_TEST.values(), *OWN_TEST_OF_A_BLOCK.values()]
    assert all((ROOT / test).is_file() for test in tests)
    assert set(GIVEN) | set(COMPUTED) <= set(PAGES)


@pytest.mark.parametrize(
    "code",
    [
        "import jax.numpy as jnp\nx = jnp.zeros((2, 3))  # [B, 4]",
        "import jax.numpy as jnp\nx = jnp.zeros((2, 3))  # [B, M, 3] → [B, M, 3]",
        "from flax import nnx\nx = nnx.Linear(2, 3, rngs=nnx.Rngs(0))  # 10 parameters",
    ],
)
def test_a_wrong_comment_is_found(code):
    with pytest.raises(AssertionError):
        run_block(code, {}, "a page")


@pytest.mark.parametrize(
    "code",
    [
        "from interop import nothing",
        "from interop import convert\nconvert('deepmind', 'x', to='y')",
        "import interop\ninterop.convert()",
    ],
)
def test_a_wrong_call_is_found(code):
    with pytest.raises((ImportError, TypeError)):
        check_names_and_arguments(code)
