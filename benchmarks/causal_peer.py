"""perceiver-io's causal models at work: prediction, prefill, and decoding with their cache.

- Its Hugging Face class chooses tokens in transformers' loop, which newer versions took away. The
  loop is here, greedy and without what it does besides; what it does to the cache is upstream's.
- All tokens are real, so no mask is given, which saves the model work.
"""

from typing import Any


def predict(model: Any, ids: Any, num_latents: int) -> Any:
    """[B, M] ids → [B, num_latents, vocab_size] logits."""
    return model(ids, prefix_len=ids.shape[1] - num_latents).logits


def prefill(model: Any, ids: Any, num_latents: int) -> tuple[Any, list[Any]]:
    """[B, M] ids → [B, vocab_size] logits after them, and the cache."""
    output = model(ids, prefix_len=ids.shape[1] - num_latents, kv_cache=[])
    return output.logits[:, -1], output.kv_cache


def decode(model: Any, token: Any, cache: list[Any], prefix_len: int, num_new: int) -> Any:
    """The most probable continuation.

    Args:
        model: a `CausalSequenceModel`.
        token: [B, 1] the newest token, which is not in the cache.
        cache: of all before it.
        prefix_len: how many of these are prefix.
        num_new: how many more tokens are made.

    Returns:
        [B, num_new] token ids.

    Source: `PerceiverCausalSequenceModel.prepare_inputs_for_generation`.
    """
    import torch

    made = []
    for _ in range(num_new):
        cache, longer_prefix = _fitting(model, cache, prefix_len)
        output = model(token, prefix_len=longer_prefix, kv_cache=cache)
        cache = output.kv_cache
        token = output.logits[:, -1:].argmax(-1)
        made.append(token)
    return torch.cat(made, dim=1)


def _fitting(model: Any, cache: list[Any], prefix_len: int) -> tuple[list[Any], int]:
    """The cache without what there is no room for, and the prefix of the call."""
    cross, *layers = cache
    num_tokens = cross[0].shape[1] + 1
    if num_tokens - prefix_len > model.max_latents:
        prefix_len = min(prefix_len + 1, model.max_prefix_len)
        layers = [_last(layer, model.max_latents - 1) for layer in layers]
    if num_tokens > model.max_seq_len:
        cross = _last(cross, model.max_seq_len - 1)
    return [cross, *layers], prefix_len


def _last(keys_values: Any, num_positions: int) -> tuple[Any, ...]:
    return tuple(x[:, -num_positions:] for x in keys_values)
