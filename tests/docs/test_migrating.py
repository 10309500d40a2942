"""The code of the migration pages runs, and their tables of arguments are those of `interop`.

- One argument after the other is changed, and what changes in our config is what the page says.
- Models that pages take from the hub, or from a published file, are tiny ones of the same kind.
"""

import dataclasses
import inspect
import re
import sys
import types
import warnings

import pytest

from interop import FORMATS, export_weights
from interop.files import hub
from interop.formats.deepmind.released import PUBLISHED
from interop.references import krasserm
from perceiver_jax import models
from tests.docs.migrating import HALVES, PAGES, backend, blocks, changed, other, table
from tests.interop import conftest as tiny

REFERENCES = {
    "README": (),
    "from_deepmind": (),
    "from_huggingface": ("torch", "transformers"),
    "from_krasserm": ("torch", "perceiver"),
    "from_lucidrains": ("torch", "perceiver_pytorch", "perceiver_ar_pytorch"),
}
"""Packages that the code of each page imports."""
LANGUAGE_MODEL = tiny.language_model("gelu", {"max_seq_len": 64}, max_seq_len=64)
SOURCES = {
    # name on a page: (format, config)
    "deepmind/vision-perceiver-fourier": ("huggingface", tiny.classifier("gelu")),
    "deepmind/language-perceiver": ("huggingface", LANGUAGE_MODEL),
    "krasserm/perceiver-io-mlm": ("krasserm", LANGUAGE_MODEL),
    "krasserm/perceiver-io-optical-flow": ("krasserm", tiny.flow_model("gelu")),
    "krasserm/perceiver-ar-clm-base": ("krasserm", tiny.causal_model(max_seq_len=64)),
    "krasserm/perceiver-ar-sam-giant-midi": ("krasserm", tiny.causal_model(**tiny.MUSIC)),
    "epoch=025-val_loss=0.065.ckpt": ("krasserm", tiny.classifier("gelu", max_resolution=None)),
    "imagenet_fourier_position_encoding.pystate": ("deepmind", tiny.classifier()),
    "language_perceiver_io_bytes.pickle": ("deepmind", tiny.language_model()),
    "optical_flow_checkpoint.pystate": ("deepmind", tiny.flow_model()),
    "video_autoencoding_checkpoint.pystate": ("deepmind", tiny.video_autoencoder()),
}
released = tiny.released


# ---- Code ----------------------------------------------------------------------------------------


@pytest.fixture
def bring(released, tmp_path, monkeypatch):
    """A function that puts those of `SOURCES` that a text names into the working directory.

    Those with the id of a hub lie elsewhere, and are found by it.
    """
    here, there = tmp_path / "here", tmp_path / "hub"
    here.mkdir()
    monkeypatch.chdir(here)
    locate = hub.locate

    def found(source, names):
        return there / source if "/" in source and source in SOURCES else locate(source, names)

    def put(text):
        monkeypatch.setattr(hub, "locate", found)
        for name, (form, config) in SOURCES.items():
            if name in text:
                path = (there if "/" in name else here) / name
                path.parent.mkdir(exist_ok=True, parents=True)
                export_weights(released(config), form, path)

    return put


def make_importable(package, monkeypatch):
    """Skips where it is missing; krasserm's packages are their `backend`, without Lightning."""
    if package != "perceiver":
        pytest.importorskip(package)
        return
    for name in krasserm.PACKAGES:
        monkeypatch.setitem(sys.modules, name, backend(name))


@pytest.mark.reference
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, bring, monkeypatch):
    for package in REFERENCES[page]:
        make_importable(package, monkeypatch)
    run = [text for why, text in blocks(page, "python") if not why]
    assert run
    bring("".join(run))
    names = vars(types.ModuleType(page))
    with warnings.catch_warnings():
        if REFERENCES[page]:
            # Other libraries warn of their own code.
            warnings.simplefilter("ignore")
        for text in run:
            exec(compile(text, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_code_that_is_not_run_is_of_others(page):
    for why, text in blocks(page, "python"):
        compile(text, page, "exec")
        assert not why or not re.search(r"\b(perceiver_jax|interop)\b", text), text
    assert set(re.findall(r"^```(\w+)$", PAGES[page], re.M)) <= {"python", "shell"}


# ---- lucidrains ----------------------------------------------------------------------------------

LUCIDRAINS = {
    "Perceiver": {"num_freq_bands": 6, "depth": 2, "max_freq": 10.0},
    "PerceiverIO": {"depth": 2, "dim": 32, "queries_dim": 32, "logits_dim": 100},
    "PerceiverLM": {"depth": 2, "dim": 32, "num_tokens": 50, "max_seq_len": 64},
    "PerceiverAR": {
        **{"num_tokens": 50, "dim": 64, "depth": 2},
        **{"max_seq_len": 64, "cross_attn_seq_len": 24},
    },
}
REFUSED = ("final_classifier_head", "attn_residual")


@pytest.mark.reference
@pytest.mark.parametrize("name", LUCIDRAINS)
def test_arguments_of_lucidrains_are_the_settings_that_the_page_says(name):
    package = "perceiver_ar_pytorch" if name == "PerceiverAR" else "perceiver_pytorch"
    signature = inspect.signature(getattr(pytest.importorskip(package), name).__init__)
    told = table("from_lucidrains", f"argument of `{name}`")
    assert told.keys() == {
        p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY
    }
    for argument, ours in told.items():
        settings = {"class": name, **LUCIDRAINS[name]}
        value = other(settings.get(argument, signature.parameters[argument].default))
        found = changed("lucidrains", settings, argument, value)
        assert found is None if argument in REFUSED else found == ours, (argument, found)


# ---- Hugging Face --------------------------------------------------------------------------------

HUGGINGFACE = (
    "PerceiverForImageClassificationLearned",
    "PerceiverForImageClassificationFourier",
    "PerceiverForImageClassificationConvProcessing",
    "PerceiverForMaskedLM",
    "PerceiverForSequenceClassification",
    "PerceiverForOpticalFlow",
    "PerceiverForMultimodalAutoencoding",
)
CONFIG_JSON = {
    "hidden_act": "gelu_new",
    "cross_attention_shape_for_attention": "q",
    "train_size": [8, 8],
    "output_shape": [1, 8, 8, 8],
    "id2label": {"0": "a", "1": "b", "2": "c"},
}
"""Other settings, where they are no numbers."""


@pytest.mark.reference
def test_config_json_says_what_the_page_says():
    config = pytest.importorskip("transformers").PerceiverConfig
    usual = {f.name: f.default for f in dataclasses.fields(config)}
    told = table("from_huggingface", "`config.json`")
    assert told.keys() == usual.keys() & config.__annotations__.keys() | {"id2label"}
    for name, ours in told.items():
        value = CONFIG_JSON.get(name) or other(usual[name])
        found = [changed("huggingface", {"architectures": [c]}, name, value) for c in HUGGINGFACE]
        assert set().union(*filter(None, found)) == ours, name


@pytest.mark.reference
def test_every_public_class_of_transformers_is_on_the_page():
    transformers = pytest.importorskip("transformers")
    for name in dir(transformers):
        assert not name.startswith("Perceiver") or f"`{name}`" in PAGES["from_huggingface"], name


# ---- krasserm ------------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("script", HALVES)
def test_halves_of_krasserm_have_our_names_but_for_those_on_the_page(script):
    package, *halves = HALVES[script]
    module = backend(package)
    encoder, decoder = (dataclasses.asdict(getattr(module, name)()) for name in halves)
    encoder["num_self_attention_blocks"] = 4
    base = {"encoder": encoder, "decoder": decoder, "num_latents": 8, "num_latent_channels": 64}
    otherwise = table("from_krasserm", "`--model.`").keys()
    if script != "vision.image_classifier":
        otherwise -= {"num_output_queries"}
    for half in ("encoder", "decoder"):
        for name in base[half].keys() - {"image_shape"}:
            found = changed("krasserm", base, f"{half}.{name}", other(base[half][name]))
            told = {name, f"{half}.{name}"} & otherwise
            assert found == (set() if told else {f"{half}.{name}"}), name


CONFIGS = {
    krasserm.IMAGE_CLASSIFIER: ("ImageEncoderConfig", "ClassificationDecoderConfig"),
    krasserm.MASKED_LANGUAGE_MODEL: ("TextEncoderConfig", "TextDecoderConfig"),
    krasserm.OPTICAL_FLOW: ("OpticalFlowEncoderConfig", "OpticalFlowDecoderConfig"),
}


@pytest.mark.reference
def test_defaults_of_krasserm_are_ours_but_for_three():
    otherwise = set()
    for package, names in CONFIGS.items():
        for name in names:
            ours, theirs = (
                {f.name: f.default for f in dataclasses.fields(getattr(module, name))}
                for module in (models, backend(package))
            )
            # Ours is None, which stands for their number.
            assert ours.pop("init_scale") is None and theirs.pop("init_scale") == 0.02
            shared = ours.keys() & theirs.keys()
            otherwise |= {(f, theirs[f], ours[f]) for f in shared if theirs[f] != ours[f]}
    assert otherwise == {
        ("vocab_size", 10_003, 262),
        ("max_seq_len", 512, 256),
        ("cross_attention_residual", True, False),
    }


@pytest.mark.reference
def test_causal_settings_of_krasserm_have_our_names_but_for_those_on_the_page():
    module = backend(krasserm.CAUSAL_LANGUAGE_MODEL)
    config = module.CausalLanguageModelConfig(max_latents=64, cross_attention_dropout=0.5)
    otherwise = {"activation_checkpointing": {"remat"}, "post_attention_dropout": {"dropout"}}
    told = table("from_krasserm", "`--model.`")
    for name, usual in dataclasses.asdict(config).items():
        value = -1 if name == "num_self_attention_rotary_layers" else other(usual)
        found = changed("krasserm", dataclasses.asdict(config), name, value)
        assert found == (otherwise.get(name, set()) if name in told else {name}), name


# ---- DeepMind ------------------------------------------------------------------------------------

MODULES = {
    "PerceiverEncoder": ("argument of `PerceiverEncoder`", "encoder"),
    "decoders": ("argument of a decoder", "decoder"),
    "ImagePreprocessor": ("argument of `ImagePreprocessor`", "input_preprocessor"),
}
DEEPMIND = {
    "cross_attention_shape_for_attn": "q",
    "fourier_position_encoding_kwargs.max_resolution": [32, 32],
    "position_encoding": "fourier",
    "initial_query_embed_style": "mlp",
    "additional_cross_attend_after_layers": [0],
    "activation_name": "gelu",
}
"""Other settings, where they are no numbers."""


def given(settings, path):
    """A setting by its path; KeyError where there is none."""
    for name in path.split("."):
        settings = settings[name]
    return settings


def says(page, head, all_settings, module=""):
    """Whether all that an argument changes in some of these settings is what the page says."""
    for name, ours in table(page, head).items():
        found, path = set(), f"{module}.{name}".removeprefix(".")
        for settings in all_settings:
            try:
                usual = given(settings, path)
            except KeyError:
                continue
            swapped = {"rotary": "absolute", "absolute": "rotary"}
            value = DEEPMIND.get(name) or swapped.get(usual) or other(usual)
            if name == "max_context_length":
                value = usual // 2
            found |= changed("deepmind", settings, path, value) or set()
        assert found == ours, (name, found)


@pytest.mark.parametrize("module", MODULES)
def test_arguments_of_deepmind_are_the_settings_that_the_page_says(module):
    configs = [PUBLISHED[name]() for name in PUBLISHED if not name.startswith("perceiver_ar")]
    head, path = MODULES[module]
    says("from_deepmind", head, [FORMATS["deepmind"].settings(config) for config in configs], path)


def test_arguments_of_perceiver_ar_are_the_settings_that_the_page_says():
    configs = [
        models.ar_copy(32),
        models.ar_imagenet64(),
        *(models.ar_rotary(initial_queries=style) for style in ("linear", "mlp", "learned")),
        models.ar_rotary(position_origin="last"),
    ]
    settings = [FORMATS["deepmind"].settings(config) for config in configs]
    says("from_deepmind", "argument of `PerceiverAR`", settings)
    told = table("from_deepmind", "argument of `PerceiverAR`").keys()
    beside = {"task", "input_idx_size", "cross_attention_shape_for_attn"}
    assert set().union(*settings) - beside == told
