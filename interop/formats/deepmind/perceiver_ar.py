"""DeepMind's Perceiver AR (google-research/perceiver-ar).

- Arguments are those of its `PerceiverAR`; what is left out has DeepMind's default.
- Its padding is on the right, and its latents stand at the last tokens before; ours stand at the
  last places, so sequences are to be padded on the left.
- Positions come from its data, where the first token, a start marker, has 1; or count back from
  the last token (`use_positions_from_data=False`).
"""

from collections.abc import Mapping
from typing import Any

from interop.formats.deepmind.encoders import refuse
from interop.formats.deepmind.layers import cross_layer, linear, norm, nth, self_layer
from interop.formats.settings import check_settings, common_requirements
from interop.rows import Row, row, table
from perceiver_jax.config import ConfigError, with_article
from perceiver_jax.errors import UserError
from perceiver_jax.models import AnyModelConfig, CausalSequenceConfig, CausalSequenceModel

WHOSE = "DeepMind's Perceiver AR"
OURS = "perceiver_jax.models.CausalSequenceModel"
MODELS = (CausalSequenceModel,)
TASK = "autoregressive"
ROOT = "params/perceiver_ar"
EMBEDDING = f"{ROOT}/~/embed/embeddings"
ACTIVATIONS = {"sq_relu": "squared_relu", "gelu": "gelu_tanh"}
OF_MEMORY = (
    "cross_attention_head_group_size",
    "chunked_cross_attention",
    "chunked_cross_query_size",
    "chunked_cross_key_size",
)
"""Arguments that say how memory is saved, not what is computed."""
UNUSED = ("concat_pos", "z_pos_enc_init_scale")
SAME = {
    "num_heads": ("num_transformer_heads", 8),
    "num_self_attention_layers": ("num_transformers_per_block", 12),
    "num_latents_per_position": ("num_latents_per_position", 1),
    "num_query_mlp_layers": ("initial_query_embed_num_layers", 2),
    "cross_attention_residual": ("encoder_use_query_residual", True),
    "cross_attention_widening_factor": ("cross_attend_widening_factor", 1),
    "self_attention_widening_factor": ("transformer_widening_factor", 1),
    "residual_dropout": ("dropout_prob", 0.0),
    "latent_dropout": ("latent_dropout_prob", 0.0),
    "encoder_dropout": ("encoder_dropout_prob", 0.0),
    "rotary_heads_fraction": ("fraction_heads_to_rotate", 1.0),
    "train_positions": ("learnable_position_embeddings", False),
    "zero_logits": ("final_layer_init_zeros", True),
}
"""{our field: (its argument, its default)}."""
ONLY: dict[str, Any] = {
    "cross_attention_keys": "inputs",
    "num_self_attention_qk_channels": None,
    "cross_attention_dropout": 0.0,
    "dropout": 0.0,
    "mlp_residual_dropout": None,
    "qkv_bias": True,
    "mlp_bias": True,
    "out_bias": True,
    "self_attention_out_bias": True,
    "layer_norm_epsilon": 1e-5,
    "output_norm": True,
    "tied_logits": False,
    "output_bias": True,
    "rotary_pairs": "interleaved",
    "rotary_frequencies": "closed",
}


def config(meta: Mapping[str, Any]) -> CausalSequenceConfig:
    """Our config from the arguments of DeepMind's `PerceiverAR`.

    Raises:
        UserError: an argument that is unknown, or has a value that cannot be expressed.
    """
    left = dict(meta)
    expected: dict[str, tuple[Any, Any]] = {
        "task": (left.pop("task", TASK), TASK),
        "mask_style": (left.pop("mask_style", "final_block"), "final_block"),
    }
    if left.get("fraction_heads_to_rotate", 1.0) != 1.0:
        # Theirs turns the first heads of each group.
        group = left.get("cross_attention_head_group_size", 0)
        expected["cross_attention_head_group_size"] = (group, 0)
    for name in (*OF_MEMORY, *UNUSED):
        left.pop(name, None)
    style = left.pop("initial_query_embed_style", "none")
    query_activation = left.pop("initial_query_embed_activation_name", "sq_relu")
    if style == "mlp":
        expected["initial_query_embed_activation_name"] = (query_activation, "sq_relu")
    activation = left.pop("activation_name", "sq_relu")
    expected["activation_name"] = (activation, _nearest(activation, ACTIVATIONS, "sq_relu"))
    check_settings(OURS, expected)
    fields = {ours: left.pop(*theirs) for ours, theirs in SAME.items()}
    if style != "mlp":
        fields.pop("num_query_mlp_layers")
    fields |= _sizes(left, fields["num_latents_per_position"], fields["num_heads"])
    fields |= _positions(left, fields["max_seq_len"])
    fields |= _queries(left, style)
    refuse("perceiver_ar", left)
    # The position table of a model that turns is not there to be learned.
    fields["train_positions"] = fields["train_positions"] or not fields["abs_pos_emb"]
    return CausalSequenceConfig(
        **{**ONLY, **fields, "activation": ACTIVATIONS[activation]},
        init_method="variance_scaling",
        num_self_attention_rotary_layers=-1,
    )


def _sizes(left: dict[str, Any], per_position: int, num_heads: int) -> dict[str, Any]:
    num_tokens, num_latents = _required(left, "max_context_length"), left.pop("z_index_dim", 1024)
    whole = min(num_latents, num_tokens * per_position) // per_position * per_position
    check_settings(OURS, {"z_index_dim": (num_latents, whole)})
    num_channels = left.pop("num_z_channels", 1024)
    num_inputs = left.pop("input_embed_dim", 1024)
    shape_for = left.pop("cross_attention_shape_for_attn", "kv")
    num_qk = num_inputs if shape_for == "kv" else num_channels
    cross_heads = left.pop("num_cross_attend_heads", 1)
    return {
        "vocab_size": _required(left, "num_classes"),
        "max_seq_len": num_tokens,
        "max_latents": num_latents // per_position,
        "num_channels": num_channels,
        "num_input_channels": None if num_inputs == num_channels else num_inputs,
        "num_cross_attention_heads": None if cross_heads == num_heads else cross_heads,
        "num_cross_attention_qk_channels": None if num_qk == num_channels else num_qk,
        "num_cross_attention_layers": int(left.pop("include_initial_cross_attention", True)),
        "cross_attention_after_layers": tuple(
            sorted(left.pop("additional_cross_attend_after_layers", None) or ())
        ),
        "num_training_inputs": left.pop("train_input_positions", 0) or None,
    }


def _positions(left: dict[str, Any], max_seq_len: int) -> dict[str, Any]:
    absolute = _required(left, "position_encoding_type") == "absolute"
    sizes = tuple(_required(left, "input_idx_size"))
    kind = left.pop("position_encoding", "sinusoidal")
    known = ("sinusoidal", "fourier", "random")
    # A table of plain numbers, which DeepMind keeps for debugging, is nothing to start from.
    check_settings(OURS, {"position_encoding": (kind, _nearest(kind, known, "sinusoidal"))})
    from_data = left.pop("use_positions_from_data", False)
    # Counting back, theirs reads the first table alone.
    check_settings(OURS, {"use_positions_from_data": (from_data, from_data or len(sizes) > 1)})
    negative = left.pop("use_negative_rotary_positions", False)
    fraction = left.pop("fraction_to_rotate", 0.25)
    wavelength = float(left.pop("max_wavelength", 8192))
    offset = int(left.pop("initial_query_offsetting", False))
    fields: dict[str, Any] = {
        "abs_pos_emb": absolute,
        "position_origin": "first" if from_data or (negative and not absolute) else "last",
        "rotary_fraction": 0.0 if absolute else fraction,
        "rotary_max_wavelength": wavelength + offset,
        "query_position_offset": offset,
    }
    if absolute:
        fields["position_table"] = kind
        fields["position_shape"] = tuple(max_seq_len if size == -1 else size for size in sizes)
        fields["first_position"] = int(from_data and len(sizes) == 1)
    return fields


def _queries(left: dict[str, Any], style: str) -> dict[str, Any]:
    shared = left.pop("share_learned_initial_query", False)
    names = {"none": "linear", "mlp": "mlp", "learned": "learned_shared" if shared else "learned"}
    check_settings(OURS, {"initial_query_embed_style": (style, _nearest(style, names, "none"))})
    return {"initial_queries": names[style]}


def _required(left: dict[str, Any], name: str) -> Any:
    """An argument without a default, taken out.

    Raises:
        UserError: it is not there.
    """
    if name not in left:
        raise UserError(f"the arguments of {WHOSE} lack '{name}', which has no default")
    return left.pop(name)


def _nearest(value: Any, known: Any, otherwise: Any) -> Any:
    """The value where it is known, and else what to take instead."""
    return value if value in known else otherwise


def settings(config: AnyModelConfig) -> dict[str, Any]:
    """The arguments that make DeepMind's `PerceiverAR` compute what a config of ours computes.

    Args:
        config: of a model that DeepMind's code has, see `requirements`.
    """
    ours = _checked(config)
    absolute, from_first = ours.abs_pos_emb, ours.position_origin == "first"
    theirs = {name: getattr(ours, field) for field, (name, _) in SAME.items()}
    activation = {ours: theirs for theirs, ours in ACTIVATIONS.items()}[ours.activation]
    style = "none" if ours.initial_queries == "linear" else ours.initial_queries.split("_")[0]
    theirs["learnable_position_embeddings"] = absolute and ours.train_positions
    return theirs | {
        "task": TASK,
        "num_classes": ours.vocab_size,
        "max_context_length": ours.max_seq_len,
        "z_index_dim": ours.max_latents * ours.num_latents_per_position,
        "num_z_channels": ours.num_channels,
        "input_embed_dim": ours.input_channels,
        "cross_attention_shape_for_attn": "kv"
        if ours.qk_channels("cross") == ours.input_channels
        else "q",
        "num_cross_attend_heads": ours.cross_heads,
        "include_initial_cross_attention": ours.num_cross_attention_layers == 1,
        "additional_cross_attend_after_layers": list(ours.cross_attention_after_layers),
        "train_input_positions": ours.num_training_inputs or 0,
        "position_encoding_type": "absolute" if absolute else "rotary",
        "position_encoding": ours.position_table,
        "input_idx_size": list(ours.position_shape or (ours.max_seq_len,)) if absolute else [-1],
        "use_positions_from_data": from_first,
        "use_negative_rotary_positions": False,
        "fraction_to_rotate": 0.5 if absolute else _fraction(ours),
        "max_wavelength": ours.rotary_max_wavelength - ours.query_position_offset,
        "initial_query_offsetting": ours.query_position_offset == 1,
        "initial_query_embed_style": style,
        "share_learned_initial_query": ours.initial_queries == "learned_shared",
        "activation_name": activation,
    }


def _fraction(config: CausalSequenceConfig) -> float:
    return 1.0 if config.rotary_fraction is None else config.rotary_fraction


def requirements(config: AnyModelConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that DeepMind's code does not let choose, as (value, the one it has to be).

    Raises:
        ConfigError: the model is no causal sequence model.
    """
    ours = _checked(config)
    cross, embedded = ours.qk_channels("cross"), ours.abs_pos_emb
    turned = ours.num_turned(ours.num_channels // ours.num_heads, embedded=embedded)
    learned = ours.initial_queries.startswith("learned")
    least = 0.0 if embedded else float(ours.max_seq_len)
    wavelength = max(ours.rotary_max_wavelength, least)
    rotary_layers = ours.num_self_attention_layers if turned else ours.num_rotary_layers
    return {
        **{name: (getattr(ours, name), value) for name, value in ONLY.items()},
        **common_requirements(ours),
        "activation": (
            ours.activation,
            _nearest(ours.activation, ACTIVATIONS.values(), "squared_relu"),
        ),
        "initial_queries": (
            ours.initial_queries,
            "linear" if ours.initial_queries == "inputs" else ours.initial_queries,
        ),
        "num_cross_attention_layers": (
            ours.num_cross_attention_layers,
            min(ours.num_cross_attention_layers, 1),
        ),
        "num_cross_attention_qk_channels": (
            cross,
            _nearest(cross, (ours.input_channels, ours.num_channels), ours.input_channels),
        ),
        "turned channels of a head (rotary_fraction)": (
            turned,
            0 if embedded else max(turned, 2),
        ),
        "num_latents_per_position": (
            ours.num_latents_per_position,
            ours.num_latents_per_position if embedded and not learned else 1,
        ),
        "rotary_max_wavelength": (ours.rotary_max_wavelength, wavelength),
        "num_self_attention_rotary_layers": (ours.num_rotary_layers, rotary_layers),
        "query_position_offset": (
            ours.query_position_offset,
            0 if embedded else min(ours.query_position_offset, 1),
        ),
        "first_position": (ours.first_position, _first_position(ours)),
    }


def _first_position(config: CausalSequenceConfig) -> int:
    """The row that counted positions have to begin at."""
    if not config.abs_pos_emb:
        return config.first_position
    one_index = len(config.position_shape or (0,)) == 1
    return int(one_index and config.position_origin == "first")


def _checked(config: AnyModelConfig) -> CausalSequenceConfig:
    if not isinstance(config, CausalSequenceConfig):
        raise ConfigError(f"{WHOSE} takes a CausalSequenceConfig, not {with_article(type(config))}")
    return config


def rows(config: AnyModelConfig) -> list[Row]:
    """Parameters of a `PerceiverAR`.

    Raises:
        UserError: DeepMind's code has no such model.
    """
    check_settings(WHOSE, requirements(config))
    ours, at = _checked(config), f"{ROOT}/~"
    result = [
        row("input_adapter/token_embedding", EMBEDDING),
        *norm("output_norm", f"{ROOT}/layer_norm"),
        *linear("output_adapter/linear", f"{at}/logits"),
        *_query_rows(ours),
    ]
    for i in range(len(ours.position_shape or (0,)) if ours.abs_pos_emb else 0):
        theirs = f"{at}/{nth('embed', i + 1)}/embeddings"
        result.append(row(f"input_adapter/position_embedding/{i}", theirs))
    for i in range(ours.num_cross_attentions):
        name = f"{at}/{nth('cross_attention', i)}"
        result += cross_layer(f"cross_attention/{i}", name, mlp_name="dense")
    for i in range(ours.num_self_attention_layers):
        name = f"{at}/{nth('self_attention', i)}"
        result += self_layer(f"block/layer/{i}", name, mlp_name="dense")
    return table(result)


def _query_rows(config: CausalSequenceConfig) -> list[Row]:
    ours, at, style = "initial_queries", f"{ROOT}/~", config.initial_queries
    result = []
    # Haiku numbers modules in order of creation, and the MLP is made before what comes before it.
    num_made = config.num_query_mlp_layers if style == "mlp" else 0
    for i in range(num_made):
        result += linear(f"{ours}/layer/{i}", f"{at}/{nth('linear', i)}")
    if style in ("linear", "mlp"):
        result += linear(f"{ours}/linear", f"{at}/{nth('linear', num_made)}")
    else:
        result.append(row(f"{ours}/queries", f"{ROOT}/q_embed_learned"))
    if config.num_latents_per_position > 1:
        result.append(row(f"{ours}/latent_embedding", f"{at}/z_pos_enc/pos_embs"))
    return result
