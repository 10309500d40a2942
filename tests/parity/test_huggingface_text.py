"""perceiver_jax computes what Hugging Face's language models compute, and exchanges weights.

- Tiny random models of their own classes in float64; 256 channels and 8 heads of the decoder of
  the masked language model stand in their code.
- Texts are shorter than the models take: their classes ask for the rest as well, and it is dropped.
"""

import dataclasses
import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from interop import export_pretrained, load, load_pretrained, save
from interop.expressible import nearest
from interop.formats import deepmind, huggingface
from interop.formats.huggingface import masked_language_model, sequence_classifier
from interop.references import huggingface as reference
from perceiver_jax import models, params
from perceiver_jax.card import TextPreprocessing
from perceiver_jax.models import PerceiverConfig
from perceiver_jax.models.release import Release
from perceiver_jax.params import Skeleton
from tests.parity import torch_models
from tests.parity.comparison import (
    QUICK_COMPILATION,
    assert_same_arrays,
    assert_same_stages,
    bind,
    max_error,
    wanted,
)
from tests.parity.training import STEPS, assert_same_training

pytestmark = [pytest.mark.parity, pytest.mark.reference, pytest.mark.usefixtures("offline")]

TOLERANCE = 1e-10
(MASKED,) = masked_language_model.CLASSES
(CLASSIFIER,) = sequence_classifier.CLASSES
TINY = {
    "num_latents": 3,
    "d_latents": 16,
    "d_model": 8,
    "num_blocks": 2,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 2,
    "vocab_size": 11,
    "max_position_embeddings": 9,
    "num_labels": 5,
}
NUM_TOKENS = 7
OWN_CHANNELS = {"qk_channels": 8, "v_channels": 16, "num_cross_attention_heads": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # name: (class, settings)
    "masked": (MASKED, {}),
    "masked, channels as published": (MASKED, OWN_CHANNELS),
    "masked, tanh form of GELU, shape of the queries": (
        MASKED,
        {
            "hidden_act": "gelu_pytorch_tanh",
            "cross_attention_shape_for_attention": "q",
            "cross_attention_widening_factor": 2,
        },
    ),
    "masked, no residual": (MASKED, {"use_query_residual": False, "v_channels": 16}),
    "masked, twelve layers": (MASKED, {"num_self_attends_per_block": 12, "num_blocks": 1}),
    "classifier": (CLASSIFIER, {}),
    "classifier, channels as published": (
        CLASSIFIER,
        {**OWN_CHANNELS, "self_attention_widening_factor": 3},
    ),
    "classifier, twelve layers": (CLASSIFIER, {"num_self_attends_per_block": 12, "num_blocks": 1}),
}
FULL_SIZE = {
    # class: (settings beside the defaults, parameters)
    MASKED: ({"qk_channels": 256, "v_channels": 1280}, 201_108_230),
    CLASSIFIER: ({"qk_channels": 256, "v_channels": 1280, "num_labels": 2}, 206_098_690),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """The reference with random weights, and our model's structure."""

    model: Any
    config: PerceiverConfig
    structure: Skeleton

    @property
    def rows(self):
        return huggingface.rows(self.config)

    def ours_from(self, theirs):
        return load(self.rows, theirs, wanted(self.structure, jnp.float64))


def make_pair(name: str) -> Pair:
    architecture, changes = CASES[name]
    settings = {"architectures": [architecture], **TINY, **changes}
    model = reference.build(settings)
    torch_models.randomise(model, seed=len(name))
    config = huggingface.config(settings)
    return Pair(model, config, models.skeleton(config))


def make_texts(*, seed: int, masked: bool = True) -> dict[str, np.ndarray]:
    """Ids, and a mask of tokens; every text has one."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(TINY["vocab_size"], size=(3, NUM_TOKENS), dtype=np.int32)
    if not masked:
        return {"inputs": ids}
    lengths = np.asarray([NUM_TOKENS, *rng.integers(1, NUM_TOKENS, 2)])
    return {"inputs": ids, "input_mask": np.arange(NUM_TOKENS)[None] < lengths[:, None]}


@pytest.mark.parametrize(
    ("name", "masked"),
    [(name, True) for name in CASES] + [(name, False) for name in ("masked", "classifier")],
)
def test_stages(torch_float64, name, masked):
    """With a text that is masked out whole, where there is a mask."""
    pair, texts = make_pair(name), make_texts(seed=0, masked=masked)
    if masked:
        texts["input_mask"][-1] = False
    ours = bind(pair.structure, pair.ours_from(torch_models.state(pair.model))).stages(**texts)
    theirs = reference.stages(pair.model, texts)
    assert list(ours) == [stage for stage, _ in theirs]
    assert_same_stages(list(ours.items()), theirs, TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients(torch_float64, name):
    """The compiled model, which scans the repeated and deep layers that stages write out."""
    import torch

    pair, texts = make_pair(name), make_texts(seed=1)
    outputs = reference.forward(pair.model, texts)
    weights = np.random.default_rng(2).normal(size=outputs.shape)
    (outputs * torch.from_numpy(weights)).sum().backward()

    @partial(jax.jit, compiler_options=QUICK_COMPILATION)
    def compute(arrays):
        def loss(arrays):
            outputs = bind(pair.structure, arrays)(**texts)
            return (outputs * weights).sum(), outputs

        return jax.grad(loss, has_aux=True)(arrays)

    ours, our_outputs = compute(pair.ours_from(torch_models.state(pair.model)))
    assert max_error(our_outputs, outputs.detach()) <= TOLERANCE
    assert_same_arrays(ours, pair.ours_from(torch_models.gradients(pair.model)), TOLERANCE)


def test_twenty_steps_of_training_to_fill_gaps(torch_float64):
    import torch

    pair = make_pair("masked, channels as published")
    batches = []
    for i in range(STEPS):
        texts = make_texts(seed=10 + i)
        batches.append({**texts, "targets": texts["inputs"].astype(np.int64)})

    def their_loss(model, batch):
        texts = {name: batch[name].numpy() for name in ("inputs", "input_mask")}
        logits, kept = reference.forward(model, texts), batch["input_mask"]
        return torch.nn.functional.cross_entropy(logits[kept], batch["targets"][kept])

    def our_loss(model, batch):
        logits, kept = model(batch["inputs"], batch["input_mask"]), batch["input_mask"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
        return (losses * kept).sum() / kept.sum()

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


def test_twenty_steps_of_training_to_classify(torch_float64):
    import torch

    pair = make_pair("classifier")
    rng = np.random.default_rng(4)
    batches = [{**make_texts(seed=50 + i), "labels": rng.integers(0, 5, 3)} for i in range(STEPS)]

    def their_loss(model, batch):
        texts = {name: batch[name].numpy() for name in ("inputs", "input_mask")}
        return torch.nn.functional.cross_entropy(reference.forward(model, texts), batch["labels"])

    def our_loss(model, batch):
        logits = model(batch["inputs"], batch["input_mask"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    assert_same_training(pair.model, their_loss, pair.structure, our_loss, pair.rows, batches)


@pytest.mark.parametrize(
    "name", ["masked", "masked, channels as published", "masked, twelve layers", "classifier"]
)
def test_round_trip(name):
    """Theirs → ours → theirs is exact, and the class itself takes the result."""
    import torch

    pair = make_pair(name)
    theirs = torch_models.state(pair.model)
    ours = load(pair.rows, theirs, wanted(pair.structure))
    back = save(pair.rows, ours, want=theirs)
    assert back.keys() == theirs.keys()
    for tensor in back:
        np.testing.assert_array_equal(back[tensor], theirs[tensor], err_msg=tensor)

    torch_models.randomise(pair.model, seed=99)
    tensors = {tensor: torch.from_numpy(array.copy()) for tensor, array in back.items()}
    pair.model.load_state_dict(tensors, strict=True)
    again = load(pair.rows, torch_models.state(pair.model), wanted(pair.structure))
    for path in ours:
        np.testing.assert_array_equal(again[path], ours[path], err_msg=path)


def released(pair: Pair) -> Release:
    rng = np.random.default_rng(3)
    arrays = {
        path: (rng.uniform(-0.3, 0.3, x.shape) + 0.5 * (len(x.shape) == 1)).astype(x.dtype)
        for path, x in pair.structure.params.items()
    }
    return Release(config=pair.config, arrays=arrays)


@pytest.mark.parametrize("name", ["masked", "classifier"])
def test_an_exported_folder_loads_with_from_pretrained(tmp_path, name):
    import torch
    import transformers

    pair, texts = make_pair(name), make_texts(seed=1)
    model: Any = released(pair).model()
    labels = tuple(f"kind {i}" for i in range(5)) if name == "classifier" else ()
    text = TextPreprocessing(tokenizer="bytes", add_special_tokens=True)
    model.card = dataclasses.replace(model.card, labels=labels, text=text, licence="MIT")
    assert not export_pretrained(model, "huggingface", tmp_path / "model").remarks

    with reference.quiet():
        theirs, report = getattr(transformers, CASES[name][0]).from_pretrained(
            tmp_path / "model", output_loading_info=True
        )
    assert not any(report.values()), report
    if labels:
        assert theirs.config.id2label == dict(enumerate(labels))
    ids, mask = (torch.from_numpy(texts[key]).long() for key in ("inputs", "input_mask"))
    with torch.no_grad(), reference.quiet():
        logits = theirs.eval()(input_ids=ids, attention_mask=mask).logits.numpy()
    error = max_error(model(**texts), logits[:, :NUM_TOKENS])
    print(f"logits of order {np.abs(logits).max():.1f}: {error:.1e}")
    assert error <= 1e-5

    with reference.quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert type(tokenizer).__name__ == "PerceiverTokenizer"
    assert tokenizer.model_max_length == TINY["max_position_embeddings"]
    assert tokenizer("Hé").input_ids == [4, *(byte + 6 for byte in "Hé".encode()), 5]

    again = load_pretrained("huggingface", tmp_path / "model")
    assert (again.config, again.card.text, again.card.labels) == (pair.config, text, labels)
    np.testing.assert_array_equal(again(**texts), model(**texts))


def test_their_tokenizers_are_carried(tmp_path):
    import tokenizers
    import transformers

    special = ["[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]"]
    words = {word: i for i, word in enumerate([*special, "hello", "world"])}
    theirs = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    theirs.add_special_tokens(special)
    ids = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    theirs.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ids
    )
    model: Any = released(make_pair("masked")).model()
    model.card = dataclasses.replace(
        model.card, text=TextPreprocessing(tokenizer="words.json", add_special_tokens=True)
    )
    model.files = {"words.json": theirs.to_str().encode()}
    export_pretrained(model, "huggingface", tmp_path / "model")
    with reference.quiet():
        found = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    batch = found(["hello [MASK] world", "hello"], padding=True)
    assert batch.input_ids == [[3, 5, 2, 6, 4], [3, 5, 4, 0, 0]]
    assert batch.attention_mask == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert found.model_max_length == TINY["max_position_embeddings"]
    with reference.quiet():
        found.save_pretrained(tmp_path / "saved")
        pair = make_pair("masked")
        pair.model.save_pretrained(tmp_path / "saved")
    again = load_pretrained("huggingface", tmp_path / "saved")
    assert again.card.text == TextPreprocessing(tokenizer="tokenizer.json", add_special_tokens=True)
    carried = tokenizers.Tokenizer.from_str(again.files["tokenizer.json"].decode())
    assert carried.encode("hello [MASK] world").ids == [3, 5, 2, 6, 4]


@pytest.mark.parametrize("name", ["masked", "classifier"])
def test_a_folder_that_the_class_saved_is_read(tmp_path, name):
    pair, texts = make_pair(name), make_texts(seed=1)
    with reference.quiet():
        pair.model.save_pretrained(tmp_path)
    model = load_pretrained("huggingface", tmp_path)
    assert model.config == pair.config
    # No tokenizer lies there, and the vocabulary is none of bytes.
    assert model.card.text is None
    assert max_error(model(**texts), reference.stages(pair.model, texts)[-1][1]) <= 1e-5


@pytest.mark.parametrize("architecture", FULL_SIZE)
def test_full_size_names_and_shapes_of_the_installed_class(architecture):
    """Every tensor of the class has one row, both ways, and none is left over."""
    import torch

    changes, count = FULL_SIZE[architecture]
    settings = {"architectures": [architecture], **changes}
    with torch.device("meta"):
        theirs = {
            tensor: np.broadcast_to(np.zeros((), str(x.dtype).removeprefix("torch.")), x.shape)
            for tensor, x in reference.build(settings).state_dict().items()
        }
    assert_covered(huggingface.config(settings), theirs, count)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [(MASKED, "language-perceiver"), (CLASSIFIER, "language-perceiver_sequence-classification")],
)
def test_full_size_names_and_shapes_of_the_manifest(golden, architecture, name):
    contents = manifest(golden, name)
    theirs = {
        tensor: np.broadcast_to(np.zeros((), x["dtype"]), x["shape"])
        for tensor, x in contents["tensors"].items()
    }
    settings = {"architectures": [architecture], **contents["config_overrides"]}
    assert_covered(huggingface.config(settings), theirs, contents["num_parameters"])


def manifest(golden, name):
    path = golden.parent / "hf" / f"manifest_{name}.json"
    if not path.exists():
        pytest.skip(f"PERCEIVER_GOLDEN has no {path.name} in a folder 'hf'")
    return json.loads(path.read_text())


def assert_covered(config: PerceiverConfig, theirs: dict[str, np.ndarray], count: int) -> None:
    rows, structure = huggingface.rows(config), models.skeleton(config)
    ours = load(rows, theirs, wanted(structure))
    assert save(rows, ours, want=theirs).keys() == theirs.keys()
    assert sorted(tensor for row in rows for tensor in row.theirs) == sorted(theirs)
    assert params.count(structure.params) == count


def test_deepmind_names_become_those_of_the_manifest(golden):
    """By way of ours, every published tensor gets the name that it has on the hub."""
    config, changes = nearest(huggingface, models.language_perceiver())
    assert not changes
    theirs = {row.ours: row.theirs[0] for row in huggingface.rows(config)}
    found = {
        row.theirs[0].removeprefix("params/"): theirs[row.ours] for row in deepmind.rows(config)
    }
    assert found == manifest(golden, "language-perceiver")["haiku_to_hf"]
