"""The other side of a comparison: PyTorch implementations as they ship.

- `krasserm`: perceiver-io 0.11. `huggingface`: transformers. `lucidrains`: perceiver-pytorch 0.11.
- `krasserm_sdpa`: what plain PyTorch can do, perceiver-io with its attention replaced by PyTorch's
  fused `scaled_dot_product_attention`.
- Threads are as many as PyTorch takes by itself.
"""

import dataclasses
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import causal_peer, clip_peer, resampler_peer
from benchmarks.workload import LEARNING_RATE, WEIGHT_DECAY, Data, Loaded, Workload


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """Another implementation.

    Attributes:
        format: what `interop` calls its files.
        file: name of the file or folder of weights; its ending says how to write it.
        load: reads that and returns a module.
        forward: (module, inputs as in `channels_first`) → [B, classes] or [B, M, classes] logits.
        cross_attend: (module, inputs) → latents after the first cross-attention layer.
        channels_first: whether it takes images [B, c, H, W] instead of [B, H, W, c].
        continues: whether its models of sequences are those of `causal_peer`.
    """

    format: str
    file: str = "peer.pt"
    load: Callable[[Path], Any]
    forward: Callable[[Any, Any], Any] = lambda model, inputs: model(inputs)
    cross_attend: Callable[[Any, Any], Any] | None = None
    channels_first: bool = False
    continues: bool = False


def load(name: str, path: Path, workload: Workload) -> Loaded:
    """Reads the weights of a peer and makes its work callable.

    Raises:
        ValueError: the peer does not do this kind of work.
    """
    peer = PEERS[name]
    if workload.kind == "cross_attention" and peer.cross_attend is None:
        raise ValueError(f"peer '{name}' has no cross_attend, which this kind of work needs")
    if workload.data == "sequences" and not peer.continues:
        raise ValueError(f"peer '{name}' has no models of sequences")
    import torch

    model = peer.load(path)
    place, run = (
        _decode(model, workload) if workload.kind == "decode" else _work(peer, model, workload)
    )
    return Loaded(
        place=place,
        run=run,
        facts={
            "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
            "num_threads": torch.get_num_threads(),
        },
    )


FLOW_SCALE = 20.0
"""Pixels that 1 of a peer's flow stands for; ours are pixels."""


def flow_patches(frames: np.ndarray) -> np.ndarray:
    """[B, 2, H, W, 3] frames → [B, 2, 27, H, W], the 3×3 neighbourhoods that peers are given ready.

    Ours makes them itself, in the time that is taken.
    """
    height, width = frames.shape[2:4]
    padded = np.pad(frames, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [padded[:, :, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.ascontiguousarray(np.moveaxis(np.concatenate(parts, axis=-1), -1, 2))


Place = Callable[[dict[str, Any]], Any]
Run = Callable[[Any], Any]


def _work(peer: Peer, model: Any, workload: Workload) -> tuple[Place, Run]:
    """What one call does that is a function of inputs and targets."""
    import torch

    def place(batch):
        inputs, targets = batch["inputs"], batch["targets"]
        if workload.data == "clips":
            return clip_peer.place(inputs, workload.num_classes), torch.from_numpy(targets)
        if peer.channels_first and workload.data == "images":
            inputs = np.ascontiguousarray(np.moveaxis(inputs, -1, 1))
        if workload.data == "sequences":
            targets = targets[:, -workload.num_latents :]
        if workload.data == "frames":
            inputs = flow_patches(inputs)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    function = _function(peer, workload)
    training = workload.kind == "train_step"
    if training:
        return place, _train_step(function, model, LOSSES.get(workload.data, _cross_entropy))
    return place, _inference(function, model)


def _function(peer: Peer, workload: Workload) -> Callable[[Any, Any], Any]:
    """(module, inputs) → output of the work, without targets."""
    if workload.kind == "prefill":
        return lambda model, ids: causal_peer.prefill(model, ids, workload.num_latents)[0]
    if workload.data == "sequences":
        return lambda model, ids: causal_peer.predict(model, ids, workload.num_latents)
    if workload.data == "clips":
        return clip_peer.forward
    if workload.data == "features":
        return resampler_peer.forward
    if workload.data == "frames":
        return lambda model, patches: FLOW_SCALE * peer.forward(model, patches)
    if workload.kind == "cross_attention" and peer.cross_attend is not None:
        return peer.cross_attend
    return peer.forward


def _decode(model: Any, workload: Workload) -> tuple[Place, Run]:
    """Prompts are read, and the first token chosen, before the time is taken."""
    import torch

    model.eval()

    def place(batch):
        ids = torch.from_numpy(batch["inputs"])
        with torch.inference_mode():
            logits, cache = causal_peer.prefill(model, ids, workload.num_latents)
            return logits.argmax(-1, keepdim=True), cache

    def run(placed):
        prefix_len = workload.input_shape[1] - workload.num_latents
        with torch.inference_mode():
            made = causal_peer.decode(model, *placed, prefix_len, workload.num_new_tokens)
        return made[:, : workload.num_alike]

    return place, run


def _inference(function: Any, model: Any) -> Run:
    import torch

    model.eval()

    def run(placed):
        with torch.inference_mode():
            return function(model, placed[0])

    return run


def _cross_entropy(logits: Any, targets: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def _end_point_error(flow: Any, targets: Any) -> Any:
    return (flow - targets).norm(dim=-1).mean()


LOSSES: dict[Data, Callable[[Any, Any], Any]] = {"frames": _end_point_error}
"""What is minimised, by what models take; of all others cross-entropy."""


def _train_step(
    forward: Callable[[Any, Any], Any], model: Any, loss_of: Callable[[Any, Any], Any]
) -> Run:
    import torch

    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def run(placed):
        inputs, targets = placed
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(forward(model, inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


def _load_krasserm(path: Path) -> Any:
    if "interop" not in sys.modules:
        # Only one module of it is needed; the package itself would load JAX, whose memory is none
        # of the peer's.
        package = types.ModuleType("interop")
        package.__path__ = [str(Path(__file__).parents[1] / "interop")]
        sys.modules["interop"] = package
    from interop.references import krasserm

    return _with_weights(krasserm.build(_settings(path)), path)


def _load_krasserm_sdpa(path: Path) -> Any:
    model = _load_krasserm(path)
    from perceiver.model.core.modules import MultiHeadAttention

    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.forward = types.MethodType(_fused_attention, module)
    return model


def _fused_attention(self: Any, x_q: Any, x_kv: Any, **nothing: Any) -> Any:
    """`MultiHeadAttention.forward` for what models without masks ask of it."""
    import torch
    from perceiver.model.core.utils import ModuleOutput

    asked = [name for name, value in nothing.items() if value is not None]
    if asked:
        raise ValueError(f"the fused form of the attention does not know {', '.join(asked)}")
    projected = (self.q_proj(x_q), self.k_proj(x_kv), self.v_proj(x_kv))
    q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected)
    q = q.expand(len(k), -1, -1, -1)
    attended = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    attended = attended.transpose(1, 2).flatten(2)
    return ModuleOutput(last_hidden_state=self.o_proj(attended), kv_cache=None)


def _cross_attend_krasserm(model: Any, inputs: Any) -> Any:
    encoder = model.encoder
    latents, tokens = encoder.latent_provider(), encoder.input_adapter(inputs)
    return encoder.cross_attn_1(latents, tokens).last_hidden_state


def _load_huggingface(path: Path) -> Any:
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (architecture,) = settings["architectures"]
    if architecture == resampler_peer.ARCHITECTURE:
        return resampler_peer.load(path)
    return getattr(transformers, architecture).from_pretrained(path)


def _load_lucidrains(path: Path) -> Any:
    from perceiver_pytorch import Perceiver

    settings = _settings(path)
    del settings["class"]
    return _with_weights(Perceiver(**settings), path)


def _settings(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def _with_weights(model: Any, path: Path) -> Any:
    import torch

    model.load_state_dict(torch.load(path, weights_only=True))
    return model


PEERS = {
    "krasserm": Peer(
        format="krasserm",
        load=_load_krasserm,
        cross_attend=_cross_attend_krasserm,
        continues=True,
    ),
    "krasserm_sdpa": Peer(
        format="krasserm", load=_load_krasserm_sdpa, cross_attend=_cross_attend_krasserm
    ),
    "huggingface": Peer(
        format="huggingface",
        file="peer",
        load=_load_huggingface,
        forward=lambda model, inputs: model(inputs=inputs).logits,
        channels_first=True,
    ),
    "lucidrains": Peer(format="lucidrains", load=_load_lucidrains),
}
"""Peers by the names that cases call them."""
