"""The Perceiver resampler: features of any number become tokens of a fixed number.

- Latents attend to the features and to themselves in one attention, layer after layer: there is no
  self-attention apart.
- The form of Flamingo and of IDEFICS (layer norm), of Idefics2 (RMS norm, SwiGLU, grouped queries)
  and of image adapters with projections in and out, by one config.
"""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from perceiver_jax.config import setting
from perceiver_jax.core.arguments import as_mask, check_rngs, known_arguments
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.cross_attention import CrossAttentionLayer
from perceiver_jax.core.dropout import split
from perceiver_jax.core.linear import linear, make_norm
from perceiver_jax.core.mlp import MLP
from perceiver_jax.core.perceiver import Recordable
from perceiver_jax.core.remat import Remat, named, recomputed
from perceiver_jax.core.tape import SILENT, Tape
from perceiver_jax.core.time_options import TimeOptions
from perceiver_jax.core.tokens import Tokens
from perceiver_jax.typing import Array, Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResamplerConfig(TimeOptions):
    """A resampler of features [B, M, C], or of frames of them [B, F, M, C].

    Source: Flamingo (Alayrac et al. 2022), appendix A.1.1; transformers `Idefics2PerceiverConfig`.
    """

    qkv_bias: bool = setting(False, "whether query, key and value projections have biases")
    out_bias: bool = setting(False, "whether the output projections of attentions have biases")
    mlp_bias: bool = setting(False, "whether the linear layers of MLPs have biases")
    num_latents: int = setting(64, "latents N, which is how many tokens come out")
    num_latent_channels: int = setting(doc="latent channels D")
    num_layers: int = setting(6, "layers of attention and MLP")
    num_heads: int = setting(8, "heads of queries")
    num_kv_heads: int | None = setting(
        None, "heads of keys and values, each for several heads of queries; None: as many"
    )
    num_qk_channels: int | None = setting(
        None, "query channels of all heads together; None: the latent channels"
    )
    num_v_channels: int | None = setting(
        None, "value channels of all heads of queries together; None: the query channels"
    )
    widening_factor: int = setting(4, "hidden over outer channels of the MLPs")
    latents_contribute_kv: bool = setting(
        True, "whether latents attend to the latents as well as to the features"
    )
    num_input_channels: int | None = setting(
        None, "channels C of the features; None: those of the latents, without a projection"
    )
    num_input_hidden_channels: int | None = setting(
        None,
        "hidden channels of an MLP that projects the features (Idefics2's modality projection); "
        "None: a linear layer does",
    )
    num_output_channels: int | None = setting(
        None, "channels of what comes out; None: those of the latents, without a projection"
    )
    max_frames: int | None = setting(
        None, "frames F of an input at most, each with a learned embedding; None: no frames"
    )
    output_norm: bool = setting(True, "whether the latents are normed after the last layer")
    latent_init_scale: float | None = setting(
        None, "standard deviation of the initial latents; None: as the recipe has it"
    )
    remat: Remat = setting(
        "none",
        "what of each layer the backward pass computes again instead of keeping it: 'none', 'dots' "
        "(all but products with kernels) or 'full' (True)",
    )

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "remat", named(self.remat))
        if self.num_input_hidden_channels is not None and self.num_input_channels is None:
            raise ValueError(
                f"num_input_hidden_channels={self.num_input_hidden_channels} is of a projection of "
                "the features; give their num_input_channels as well"
            )

    @property
    def attention(self) -> AttentionConfig:
        """Attention of every layer."""
        return self.attention_config(
            rotary=self.rotary_time,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            num_qk_channels=self.num_qk_channels,
            num_v_channels=self.num_v_channels,
            queries_contribute_kv=self.latents_contribute_kv,
        )


class PerceiverResampler(Recordable):
    """Features of any number to N tokens.

    Args:
        config: see `ResamplerConfig`.
        rngs: where initial values come from.

    Raises:
        ValueError: heads that do not divide the channels.

    Source: Flamingo (Alayrac et al. 2022); transformers `Idefics2PerceiverResampler` and
    `IdeficsPerceiverResampler`; lucidrains flamingo-pytorch `PerceiverResampler`.
    """

    def __init__(self, config: ResamplerConfig, *, rngs: nnx.Rngs):
        check_rngs(rngs)
        self.config = config
        channels = config.num_latent_channels

        def learned(num, scale=None):
            initial = config.init.table(scale)
            return nnx.Param(initial(rngs.params(), (num, channels), jnp.float32))

        self.latents = learned(config.num_latents, config.latent_init_scale)
        mlp = config.mlp_config(config.widening_factor)

        def projection(num_in, num_out):
            return linear(
                num_in,
                num_out,
                init=config.init,
                compute_dtype=config.compute_dtype,
                implementation=config.implementation,
                rngs=rngs,
            )

        num_inputs, num_hidden = config.num_input_channels, config.num_input_hidden_channels
        if num_inputs is not None and num_hidden is not None:
            hidden = dataclasses.replace(mlp, num_hidden_channels=num_hidden)
            self.input_projection = MLP(
                hidden, num_channels=num_inputs, num_output_channels=channels, rngs=rngs
            )
        elif num_inputs is not None:
            self.input_projection = projection(num_inputs, channels)
        if config.max_frames is not None:
            self.frame_embedding = learned(config.max_frames)
        self.layer = nnx.List(
            [
                CrossAttentionLayer(
                    config.attention,
                    mlp,
                    num_query_channels=channels,
                    num_input_channels=channels,
                    rngs=rngs,
                )
                for _ in range(config.num_layers)
            ]
        )
        if config.output_norm:
            self.output_norm = make_norm(
                config.norm, channels, epsilon=config.layer_norm_epsilon, rngs=rngs
            )
        if config.num_output_channels is not None:
            self.output_projection = projection(channels, config.num_output_channels)

    @known_arguments()
    def __call__(
        self,
        inputs: Array | Tokens,
        input_mask: Array | None = None,
        *,
        latents: Array | Tokens | None = None,
        key: Key | None = None,
        tape: Tape = SILENT,
    ) -> Array:
        """Resamples.

        Args:
            inputs: [B, M, C] features, or [B, F, M, C] of frames; or tokens of features, which
                bring their mask, and moments or segments.
            input_mask: [B, M] or [B, F, M] bool, True = a feature, False = padding.
            latents: [N, D] or [B, N, D] in place of the learned ones, or tokens of them.
            key: random key for dropout; None means inference.
            tape: records `inputs` and the latents after each layer.

        Returns:
            [B, N, D], or [B, N, num_output_channels].

        Raises:
            ValueError: inputs, mask or latents have another shape than the config has.
        """
        tokens = self._features(inputs, input_mask)
        tape.stage("inputs", tokens.content)
        asking = self._initial(latents, len(tokens.content))
        z = asking.content

        def apply(i, z, key, tape=SILENT):
            asked = dataclasses.replace(asking, content=z)
            return self.layer[i](asked, tokens, key=key, tape=tape)

        for i, layer_key in enumerate(split(key, len(self.layer))):
            if tape.recording:
                z = apply(i, z, layer_key, tape.at(f"layer/{i}"))
            else:
                z = recomputed(apply, self.config.remat, static_argnums=(0,))(i, z, layer_key)
        if self.config.output_norm:
            z = self.output_norm(z)
        if self.config.num_output_channels is not None:
            z = self.output_projection(z)
        tape.stage("outputs", z)
        return z

    def _initial(self, latents: Array | Tokens | None, batch_size: int) -> Tokens:
        """[1 or B, N, D] latents to start from."""
        latents = Tokens.of(self.latents[...] if latents is None else latents)
        shape, channels = latents.content.shape, self.config.num_latent_channels
        if len(shape) != 3 or shape[-1] != channels or shape[0] not in (1, batch_size):
            raise ValueError(
                f"latents of shape {shape} do not fit {batch_size} inputs; this resampler takes "
                f"[N, {channels}] for all, or [{batch_size}, N, {channels}]"
            )
        return latents

    def _features(self, inputs: Array | Tokens, input_mask: Array | None) -> Tokens:
        """Projected features on a line, frames told apart."""
        config = self.config
        if isinstance(inputs, Tokens):
            if input_mask is not None:
                raise ValueError("tokens bring their own mask: input_mask goes with arrays")
            tokens, x = inputs, inputs.dense()
            if config.max_frames is not None and len(inputs.grid) > 1:
                raise ValueError(
                    f"tokens on a grid of {inputs.grid} do not tell which axis is frames; give "
                    "frames as an array [B, F, M, C], or tokens on a line as one frame"
                )
        else:
            x, mask = jnp.asarray(inputs), as_mask(input_mask)
            if mask is not None and mask.shape != x.shape[:-1]:
                raise ValueError(
                    f"input_mask of shape {mask.shape} does not fit features of shape {x.shape}; "
                    f"it takes {x.shape[:-1]}, one bool per feature"
                )
            tokens = Tokens(content=x, mask=_line(mask))
        channels = config.num_input_channels or config.num_latent_channels
        if x.ndim not in (3, 4) or x.shape[-1] != channels:
            raise ValueError(
                f"features of shape {x.shape} do not fit; this resampler takes [B, M, {channels}], "
                f"or [B, F, M, {channels}] of F frames; features of other channels are projected "
                "with num_input_channels"
            )
        if x.ndim == 4 and (config.max_frames is None or x.shape[1] > config.max_frames):
            raise ValueError(
                f"{x.shape[1]} frames were given and max_frames={config.max_frames}; set it to the "
                "most that there are, or fold frames into the batch to resample each by itself"
            )
        if config.num_input_channels is not None:
            x = self.input_projection(x)
        if config.max_frames is not None:
            frames = x if x.ndim == 4 else x[:, None]
            x = frames + self.frame_embedding[: frames.shape[1]][None, :, None]
        x = x.reshape(len(x), -1, x.shape[-1])
        if tokens.mask is not None and tokens.mask.shape != x.shape[:2]:
            raise ValueError(
                f"input_mask of {tokens.mask.shape} features does not fit inputs of {x.shape[:2]}; "
                "it takes one bool per feature"
            )
        return dataclasses.replace(tokens, content=x, positions=(), order=None)


def _line(mask: Array | None) -> Array | None:
    """[B, M] or [B, F, M] → [B, F * M]."""
    return None if mask is None else mask.reshape(len(mask), -1)
