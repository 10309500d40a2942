"""Who may import whom: see the section on layers in the architecture document."""

import ast
import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "perceiver_jax"

LAYERS = [
    {
        "typing",
        "errors",
        "config",
        "params",
        "card",
        "compilation_cache",
        "command",
        "user_cache",
        "flow_colors",
        "whole_files",
    },
    {"core"},
    {"adapters"},
    {"models"},
    {"sampling", "windows", "prompts", "beam_search", "contrastive_search", "generate"},
    {"train"},
    {"pretrained"},
    {"pipelines"},
    {"train.main", "train.evaluate", "train.show_config", "run", "run_frames", "export"},
]
"""Parts of the package from bottom to top: a part imports from its own layer and from those below.

The last are commands. `data` stands beside the layers: `train` and what is above it may use it."""
MAY_USE_DATA = 5
"""The first layer that may import `data`."""
OF_DATA = {"data", "errors", "config", "card", "command", "user_cache", "whole_files"}
"""Parts of the package that `data` may import: none of them loads jax when it is imported."""
KNOW_NNX = {"core", "adapters", "models", "params", "typing"}
"""Parts that may import flax: the blast radius, should flax change."""

WITHOUT_JAX = (PACKAGE, f"{PACKAGE}.command", f"{PACKAGE}.run")
"""What loads before a command line is read: a version or a help text comes at once."""


def modules(folder):
    """{module name: (its imports at top level, its imports inside functions)}."""
    found = {}
    for file in sorted((ROOT / folder).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        package = ".".join(parts[:-1])
        everything = [i for node in ast.walk(tree) for i in imported(node, package)]
        inner = [
            i
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
            for i in imported(node, package)
        ]
        found[name] = (everything, inner)
    return found


def imported(node, package):
    """Full names that a statement imports; `from a import b` is `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package.rsplit(".", node.level - 1)[0] if node.level else ""
        base = ".".join(name for name in (base, node.module) if name)
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


MODULES = modules(PACKAGE)


def part(name):
    """`core` of `perceiver_jax.core.attention`; '' of the package itself."""
    return name.split(".")[1] if "." in name else ""


def packages(imports):
    return {name.split(".")[0] for name in imports}


def rank(name):
    """The layer of a module, or of something in it; None where it is in none."""
    inside = ".".join(name.split(".")[1:3])
    for i in reversed(range(len(LAYERS))):
        if inside in LAYERS[i] or part(name) in LAYERS[i]:
            return i
    return None


def test_imports_are_found_at_all():
    everything, inner = MODULES[f"{PACKAGE}.core.attention"]
    assert f"{PACKAGE}.core.linear.linear" in everything and not inner
    assert len(MODULES) > 20
    assert rank(f"{PACKAGE}.train.main.main") > rank(f"{PACKAGE}.train.step.Step")
    node = ast.parse("from ..core import attention").body[0]
    assert imported(node, f"{PACKAGE}.adapters") == [f"{PACKAGE}.core.attention"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_from_its_own_layer_and_below(name):
    if part(name) in ("", "data"):
        return
    here = rank(name)
    assert here is not None, f"{part(name)} is in no layer: add it to LAYERS"
    # `python -m perceiver_jax.config` is a command, and the one import upwards.
    commands = {f"{PACKAGE}.config": {f"{PACKAGE}.train.show_config"}}
    for imported_name in MODULES[name][0]:
        if packages([imported_name]) != {PACKAGE} or imported_name in commands.get(name, ()):
            continue
        if part(imported_name) == "data":
            assert here >= MAY_USE_DATA, imported_name
        elif rank(imported_name) is not None:
            assert rank(imported_name) <= here, imported_name


@pytest.mark.parametrize("name", [n for n in MODULES if part(n) == "data"])
def test_data_is_numpy_on_the_host(name):
    everything, inner = MODULES[name]
    assert not packages(everything) & {"jax", "jaxlib", "flax", "optax", "orbax", "torch"}
    own = {part(i) for i in everything if packages([i]) == {PACKAGE}}
    assert own <= OF_DATA
    at_top = set(everything) - set(inner)
    assert not packages(at_top) & {"tensorflow", "tensorflow_datasets"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_imports_interop_torch_or_tensorflow(name):
    everything, inner = MODULES[name]
    banned = {"torch", "transformers"} | (set() if part(name) == "data" else {"tensorflow"})
    assert not packages(everything) & banned
    if name == f"{PACKAGE}.pretrained":
        everything = set(everything) - set(inner)
    assert "interop" not in packages(everything)


@pytest.mark.parametrize("name", modules("interop"))
def test_interop_imports_other_implementations_only_where_they_run(name):
    everything, inner = modules("interop")[name]
    others = {"torch", "transformers", "haiku", "perceiver", "perceiver_pytorch"}
    assert not packages(set(everything) - set(inner)) & others


@pytest.mark.parametrize("name", MODULES)
def test_flax_is_known_in_few_places(name):
    if part(name) not in KNOW_NNX:
        assert "flax" not in packages(MODULES[name][0])


@pytest.mark.parametrize(
    "module",
    [*WITHOUT_JAX, *(f"{PACKAGE}.{name}" for name in ("config", "params", "core", "models"))],
)
def test_importing_is_light(run_python, module):
    printed = run_python(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))")
    loaded = packages(json.loads(printed.splitlines()[-1]))
    assert PACKAGE in loaded
    heavy = {"torch", "tensorflow", "tensorflow_datasets", "tensorboardX", "matplotlib", "interop"}
    assert not loaded & heavy
    assert module not in WITHOUT_JAX or not loaded & {"jax", "flax"}


def test_importing_interop_leaves_other_implementations_alone(run_python):
    printed = run_python("import json, sys, interop; print(json.dumps(list(sys.modules)))")
    loaded = packages(json.loads(printed.splitlines()[-1]))
    assert "interop" in loaded
    assert not loaded & {"torch", "transformers", "tensorflow", "huggingface_hub", "haiku"}
