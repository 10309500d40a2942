"""DeepMind's Perceiver AR, written anew in PyTorch, with caches that grow by a token.

- DeepMind's own code is no package that could be installed. The files made with it prove that this
  is its function (tests/parity/test_deepmind_causal_reference.py).
- Parameters have Haiku's names, so that DeepMind's arrays load as they are.
- Sequences are as our model takes them: a mask says what is padding, which lies before the tokens,
  and latents stand at the last places. Theirs pads behind the tokens, takes token 0 for padding,
  and puts latents at the last tokens.
- Latents for which there are no tokens mean nothing. Theirs still lets them attend, here they
  attend to nothing, as in ours; no other latent sees them, there or here.
- Padding is masked everywhere. Theirs masks nothing where there is one latent or a cache, so that
  it has to be given sequences without padding there.
- As in inference: nothing is dropped or drawn.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from interop.formats.deepmind.layers import nth
from interop.references.torch_stages import Stages

ROOT = "params/perceiver_ar"
EPSILON = 1e-5
STAGES = {"cross_attention": "cross_attention", "self_attention": "block/layer"}
"""{Haiku's name of a layer: the start of our names of its stages}."""
DEFAULTS: dict[str, Any] = {
    "input_embed_dim": 1024,
    "learnable_position_embeddings": False,
    "num_transformers_per_block": 12,
    "z_index_dim": 1024,
    "num_z_channels": 1024,
    "num_cross_attend_heads": 1,
    "num_transformer_heads": 8,
    "cross_attend_widening_factor": 1,
    "transformer_widening_factor": 1,
    "initial_query_offsetting": False,
    "initial_query_embed_style": "none",
    "share_learned_initial_query": False,
    "initial_query_embed_num_layers": 2,
    "include_initial_cross_attention": True,
    "additional_cross_attend_after_layers": None,
    "cross_attention_shape_for_attn": "kv",
    "encoder_use_query_residual": True,
    "num_latents_per_position": 1,
    "activation_name": "sq_relu",
    "fraction_to_rotate": 0.25,
    "fraction_heads_to_rotate": 1.0,
    "max_wavelength": 8192,
    "use_positions_from_data": False,
    "use_negative_rotary_positions": False,
}
"""Those of the arguments that say what is computed in inference."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a pass leaves to the next one, of all tokens so far.

    Attributes:
        layers: keys and values [B, T, H, K] of each layer in order, the keys not turned.
        mask: [B, M] bool, True = a token.
        positions: [B, M] by which tokens are turned.
        num_latents: how many of the last places had latents.
    """

    layers: tuple[tuple[Any, Any], ...]
    mask: Any
    positions: Any
    num_latents: int


@dataclasses.dataclass(frozen=True)
class Seen:
    """What queries of one kind of attention see.

    Attributes:
        mask: [B, N, T] bool, True = a key that a query sees.
        q_positions: [B, N] by which queries are turned.
        k_positions: [B, T] by which keys are turned.
    """

    mask: Any
    q_positions: Any
    k_positions: Any


def build(settings: Mapping[str, Any]) -> Any:
    """A model with random weights: a module whose parameters have Haiku's names.

    Args:
        settings: arguments of DeepMind's `PerceiverAR`; what is left out has its default.
    """
    import torch

    model: Any = torch.nn.Module()
    model.settings = DEFAULTS | dict(settings)
    for name, shape in _shapes(model.settings).items():
        around = 1.0 if name.endswith("/scale") else 0.0
        model.register_parameter(name, torch.nn.Parameter(around + 0.1 * torch.randn(shape)))
    return model.eval()


def _shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """{Haiku's name of a parameter: its shape}."""
    at = f"{ROOT}/~"
    tokens, latents = settings["input_embed_dim"], settings["num_z_channels"]
    of_keys = settings["cross_attention_shape_for_attn"] == "kv"
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name, num_in, num_out):
        shapes.update({f"{name}/w": (num_in, num_out), f"{name}/b": (num_out,)})

    def norm(name, channels):
        shapes.update({f"{name}/scale": (channels,), f"{name}/offset": (channels,)})

    def layer(name, normed, inner, widening):
        for i, channels in enumerate((*normed, latents)):
            norm(f"{name}/{nth('layer_norm', i)}", channels)
        sides = ((normed[0], inner), (normed[-1], inner), (normed[-1], inner), (inner, latents))
        for i, side in enumerate(sides):
            linear(f"{name}/attention/{nth('linear', i)}", *side)
        linear(f"{name}/dense/linear", latents, widening * latents)
        linear(f"{name}/dense/linear_1", widening * latents, latents)

    for i, size in enumerate((settings["num_classes"], *_table_sizes(settings))):
        shapes[f"{at}/{nth('embed', i)}/embeddings"] = (size, tokens)
    for i in range(num_hidden := _num_query_layers(settings)):
        linear(f"{at}/{nth('linear', i)}", latents, latents)
    if settings["initial_query_embed_style"] == "learned":
        num = 1 if settings["share_learned_initial_query"] else settings["z_index_dim"]
        shapes[f"{ROOT}/q_embed_learned"] = (num, latents)
    else:
        linear(f"{at}/{nth('linear', num_hidden)}", tokens, latents)
    if settings["num_latents_per_position"] > 1:
        shapes[f"{at}/z_pos_enc/pos_embs"] = (settings["num_latents_per_position"], latents)
    for kind, i in _layers(settings):
        if kind == "cross_attention":
            inner, widening = tokens if of_keys else latents, "cross_attend_widening_factor"
            layer(f"{at}/{nth(kind, i)}", (latents, tokens), inner, settings[widening])
        else:
            widening = settings["transformer_widening_factor"]
            layer(f"{at}/{nth(kind, i)}", (latents,), latents, widening)
    norm(f"{ROOT}/layer_norm", latents)
    linear(f"{at}/logits", latents, settings["num_classes"])
    return shapes


def _table_sizes(settings: Mapping[str, Any]) -> list[int]:
    """Rows of each table of positions."""
    if settings["position_encoding_type"] == "rotary":
        return []
    most = settings["max_context_length"]
    return [most if size == -1 else size for size in settings["input_idx_size"]]


def _num_query_layers(settings: Mapping[str, Any]) -> int:
    is_mlp = settings["initial_query_embed_style"] == "mlp"
    return settings["initial_query_embed_num_layers"] if is_mlp else 0


def _layers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Layers in order of computation: Haiku's name of their kind, and the number among these."""
    num_crosses = 0
    if settings["include_initial_cross_attention"]:
        yield "cross_attention", num_crosses
        num_crosses += 1
    for i in range(settings["num_transformers_per_block"]):
        yield "self_attention", i
        if i in (settings["additional_cross_attend_after_layers"] or ()):
            yield "cross_attention", num_crosses
            num_crosses += 1


def stages(model: Any, inputs: Mapping[str, Any]) -> Stages:
    """Runs the model; its intermediate results under our names, in order of computation.

    Args:
        model: from `build`.
        inputs: as of `forward`.
    """
    import torch

    found: Stages = []
    with torch.no_grad():
        forward(model, inputs, record=lambda name, x: found.append((name, x.numpy().copy())))
    return found


def forward(
    model: Any,
    inputs: Mapping[str, Any],
    memory: Memory | None = None,
    record: Callable[[str, Any], None] = lambda name, x: None,
) -> tuple[Any, Memory]:
    """Predicts what follows each of the last tokens.

    Args:
        model: from `build`.
        inputs: token ids `inputs` [B, M]; perhaps `input_mask` [B, M], True = a token;
            `num_latents`, of how many of the last places; and, of a model that takes them from
            data, `positions` [B or 1, M] or [B or 1, M, L], which else count tokens from 1.
        memory: of the tokens before these, if any.
        record: is given each stage.

    Returns:
        [B, num_latents, num_classes] logits, and what the next pass has to be given.

    Raises:
        ValueError: positions, or a memory, that a model with these settings does not take; or no
            positions where counting does not tell them.
    """
    import torch

    settings, ids = model.settings, _tensor(inputs["inputs"]).long()
    mask = _tensor(inputs.get("input_mask", True)).expand(ids.shape)
    before = () if memory is None else memory.layers
    if memory is not None:
        _check_memory(settings)
        mask = torch.cat([memory.mask, mask], 1)
    positions = _positions(settings, mask, ids.shape[1], inputs.get("positions"))
    content = _embed(model, ids, positions)
    record("inputs", content)
    repeats = settings["num_latents_per_position"]
    num_new = inputs.get("num_latents", min(settings["z_index_dim"] // repeats, ids.shape[1]))
    z = _initial_queries(model, content[:, ids.shape[1] - num_new :])
    at, num_latents = positions[:, :, 0].expand(ids.shape), num_new
    if memory is not None:
        at = torch.cat([memory.positions, at], 1)
        num_latents += memory.num_latents
    seen = _seen(settings, mask, at, num_new, num_latents)
    remembered = []
    for i, (kind, which) in enumerate(_layers(settings)):
        earlier = before[i] if before else None
        z, kept = _layer(
            model, (kind, which), z, content, seen=seen[kind], before=earlier, record=record
        )
        remembered.append(kept)
    z = _norm(model, f"{ROOT}/layer_norm", z).unflatten(1, (-1, repeats)).mean(2)
    logits = _linear(model, f"{ROOT}/~/logits", z)
    record("outputs", logits)
    return logits, Memory(tuple(remembered), mask, at, num_latents)


def _check_memory(settings: Mapping[str, Any]) -> None:
    by_place = settings["initial_query_embed_style"] == "learned"
    if by_place and not settings["share_learned_initial_query"]:
        raise ValueError("DeepMind's PerceiverAR has no cache with queries learned by place")
    for name, wanted in {"use_positions_from_data": True, "num_latents_per_position": 1}.items():
        if settings[name] != wanted:
            raise ValueError(f"DeepMind's PerceiverAR has caches with {name}={wanted} alone")


def _positions(settings: Mapping[str, Any], mask: Any, num: int, given: Any) -> Any:
    """[B or 1, num, L] positions of the last tokens of those of the mask [B, M]."""
    from_data = settings["use_positions_from_data"]
    if given is not None:
        if not from_data:
            raise ValueError("with use_positions_from_data=False, positions are counted; give none")
        given = _tensor(given)
        return given[:, :, None] if given.ndim == 2 else given
    if len(_table_sizes(settings)) > 1:
        raise ValueError("counting does not tell a token's place in several tables; give positions")
    count = (mask.cumsum(1) - 1).clamp(min=0)
    if from_data:
        positions = count + 1
    else:
        positions = count[:, -1:] - count
        if settings["use_negative_rotary_positions"] and not _table_sizes(settings):
            positions = -positions
    return positions[:, -num:, None]


def _embed(model: Any, ids: Any, positions: Any) -> Any:
    """[B, M] ids at [B or 1, M, L] positions → [B, M, C]."""
    content = model.get_parameter(f"{ROOT}/~/embed/embeddings")[ids]
    for i in range(len(_table_sizes(model.settings))):
        table = model.get_parameter(f"{ROOT}/~/{nth('embed', i + 1)}/embeddings")
        if not model.settings["learnable_position_embeddings"]:
            table = table.detach()
        content = content + table[positions[:, :, i].long()]
    return content


def _initial_queries(model: Any, content: Any) -> Any:
    """[B, n, C] tokens with latents → [B, n * latents of a position, D]."""
    settings, at = model.settings, f"{ROOT}/~"
    repeats, num_hidden = settings["num_latents_per_position"], _num_query_layers(settings)
    if settings["initial_query_embed_style"] == "learned":
        # Of fewer latents than the model has, those of the last places.
        z = model.get_parameter(f"{ROOT}/q_embed_learned")[-content.shape[1] :]
        z = z.expand(*content.shape[:2], -1)
    else:
        z = _linear(model, f"{at}/{nth('linear', num_hidden)}", content)
    if repeats > 1:
        embedding = model.get_parameter(f"{at}/z_pos_enc/pos_embs")
        z = (z[:, :, None] + embedding).flatten(1, 2)
    for i in range(num_hidden):
        z = _activation("sq_relu")(_linear(model, f"{at}/{nth('linear', i)}", z))
    return z


def _seen(
    settings: Mapping[str, Any], mask: Any, at: Any, num_new: int, num_latents: int
) -> dict[str, Seen]:
    """What is seen by each kind of layer.

    Args:
        settings: arguments of the model.
        mask: [B, M] of all tokens.
        at: [B, M] by which they are turned.
        num_new: at how many of the last places there are queries.
        num_latents: at how many there are latents to attend to, those with queries among them.
    """
    import torch

    repeats, num_tokens = settings["num_latents_per_position"], mask.shape[1]
    places = torch.arange(num_tokens)
    # Latents are turned to what they predict, wherever they are queries or keys.
    latents_at = at + int(settings["initial_query_offsetting"])

    def last(num, x):
        return x[..., num_tokens - num :].repeat_interleave(repeats, -1)

    def seen(key_places, key_mask, keys_at):
        past = key_places <= last(num_new, places)[:, None]
        return Seen(past & key_mask[:, None], last(num_new, latents_at), keys_at)

    return {
        "cross_attention": seen(places, mask, at),
        "self_attention": seen(*(last(num_latents, x) for x in (places, mask, latents_at))),
    }


def _layer(
    model: Any,
    layer: tuple[str, int],
    z: Any,
    content: Any,
    *,
    seen: Seen,
    before: tuple[Any, Any] | None,
    record: Callable[[str, Any], None],
) -> tuple[Any, tuple[Any, Any]]:
    """The latents [B, N, D] after a layer, and its keys and values."""
    (kind, i), settings = layer, model.settings
    name, stage = f"{ROOT}/~/{nth(kind, i)}", f"{STAGES[kind]}/{i}"
    queries = inputs = _norm(model, f"{name}/layer_norm", z)
    num_heads, residual, norm_of_mlp = settings["num_transformer_heads"], True, "layer_norm_1"
    if kind == "cross_attention":
        inputs = _norm(model, f"{name}/layer_norm_1", content)
        num_heads, norm_of_mlp = settings["num_cross_attend_heads"], "layer_norm_2"
        residual = settings["encoder_use_query_residual"]
    attended, kept = _attention(
        model, f"{name}/attention", queries, inputs, num_heads=num_heads, seen=seen, before=before
    )
    z = z + attended if residual else attended
    record(f"{stage}/attention", z)
    hidden = _linear(model, f"{name}/dense/linear", _norm(model, f"{name}/{norm_of_mlp}", z))
    hidden = _activation(settings["activation_name"])(hidden)
    z = z + _linear(model, f"{name}/dense/linear_1", hidden)
    record(f"{stage}/mlp", z)
    return z, kept


def _attention(
    model: Any,
    name: str,
    queries: Any,
    inputs: Any,
    *,
    num_heads: int,
    seen: Seen,
    before: tuple[Any, Any] | None,
) -> tuple[Any, tuple[Any, Any]]:
    """[B, N, D] normed latents and [B, T, C] what they attend to → [B, N, D], keys and values."""
    import torch

    q = _linear(model, f"{name}/linear", queries).unflatten(2, (num_heads, -1))
    k = _linear(model, f"{name}/linear_1", inputs).unflatten(2, (num_heads, -1))
    v = _linear(model, f"{name}/linear_2", inputs).unflatten(2, (num_heads, -1))
    if before is not None:
        k, v = (torch.cat(pair, 1) for pair in zip(before, (k, v), strict=True))
    turned = (
        _turn(model.settings, q, seen.q_positions),
        _turn(model.settings, k, seen.k_positions),
    )
    scores = torch.einsum("bnhk,bthk->bhnt", *turned) / math.sqrt(q.shape[-1])
    mask = seen.mask[:, None]
    weights = scores.masked_fill(~mask, -1e30).softmax(-1) * mask.any(-1, keepdim=True)
    answers = torch.einsum("bhnt,bthk->bnhk", weights, v).flatten(2)
    return _linear(model, f"{name}/linear_3", answers), (k, v)


def _turn(settings: Mapping[str, Any], x: Any, positions: Any) -> Any:
    """[B, T, H, K] queries or keys, the first channels of the first heads turned in pairs."""
    import torch

    if settings["position_encoding_type"] != "rotary":
        return x
    num_heads, num_channels = x.shape[2:]
    turned = math.floor(num_channels * settings["fraction_to_rotate"] / 2) * 2
    heads = math.floor(num_heads * settings["fraction_heads_to_rotate"])
    # The longest wavelength makes room for the place to which the last query is turned.
    longest = settings["max_wavelength"] + int(settings["initial_query_offsetting"])
    # Both ends of the range are included.
    exponents = torch.linspace(0, turned // 2, turned // 2) * (2 / turned)
    angles = positions[:, :, None, None] / longest**exponents
    cosine, sine = angles.cos(), angles.sin()
    even, odd = x[:, :, :heads, :turned:2], x[:, :, :heads, 1:turned:2]
    pairs = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1)
    result = x.clone()
    result[:, :, :heads, :turned] = pairs.flatten(3)
    return result


def _tensor(x: Any) -> Any:
    """An array as a tensor of its own."""
    import torch

    return x if torch.is_tensor(x) else torch.from_numpy(np.array(x))


def _activation(name: str) -> Callable[[Any], Any]:
    import torch

    if name == "gelu":
        return lambda x: torch.nn.functional.gelu(x, approximate="tanh")
    return lambda x: torch.relu(x) ** 2


def _norm(model: Any, name: str, x: Any) -> Any:
    import torch

    scale, offset = (model.get_parameter(f"{name}/{part}") for part in ("scale", "offset"))
    return torch.nn.functional.layer_norm(x, x.shape[-1:], scale, offset, EPSILON)


def _linear(model: Any, name: str, x: Any) -> Any:
    return x @ model.get_parameter(f"{name}/w") + model.get_parameter(f"{name}/b")
