"""What the attentions and MLPs of an encoder, or of a decoder, have in common."""

import dataclasses
from typing import Any

from perceiver_jax.config import check_fields, setting
from perceiver_jax.core.attention_config import AttentionConfig
from perceiver_jax.core.dense import MaskedRows
from perceiver_jax.core.linear import (
    ComputeDtype,
    Implementation,
    InitConfig,
    InitMethod,
    NormKind,
)
from perceiver_jax.core.mlp import Activation, MLPConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """What all layers of an encoder or a decoder have in common."""

    activation: Activation = setting(
        "gelu",
        "of the MLPs: 'gelu' (exact, PyTorch libraries), 'gelu_tanh' (DeepMind), 'geglu' "
        "(lucidrains), 'swiglu', 'relu' or 'squared_relu'",
    )
    qkv_bias: bool = setting(True, "whether query, key and value projections have biases")
    out_bias: bool = setting(True, "whether the output projections of attentions have biases")
    mlp_bias: bool = setting(True, "whether the linear layers of MLPs have biases")
    norm: NormKind = setting("layer_norm", "which norms there are: 'layer_norm' or 'rms_norm'")
    layer_norm_epsilon: float = setting(
        1e-5, "added to the variance in every layer norm, to the mean square in every RMS norm"
    )
    qk_norm: bool = setting(
        False, "whether each head's queries and keys are normed once more, after projection"
    )
    masked_rows: MaskedRows = setting(
        "zero",
        "result of a query that may attend to nothing: 'zero' (DeepMind), or 'uniform' "
        "attention over all keys (PyTorch libraries)",
    )
    dropout: float = setting(0.0, "dropout rate of attention weights, in [0, 1)")
    residual_dropout: float = setting(
        0.0,
        "dropout rate of attention and MLP results before they are added to the skip, in [0, 1)",
    )
    mlp_residual_dropout: float | None = setting(
        None,
        "dropout rate of MLP results alone (lucidrains' ff_dropout), in [0, 1); None: "
        "residual_dropout",
    )
    init_method: InitMethod = setting(
        "normal",
        "recipe of initial values: 'normal' (krasserm), 'variance_scaling' (DeepMind), "
        "'uniform' (PyTorch default, lucidrains)",
    )
    init_scale: float | None = setting(
        None,
        "standard deviation for 'normal' (None: 0.02), variance times fan-in for "
        "'variance_scaling' (None: 1)",
    )
    compute_dtype: ComputeDtype = setting(
        "float32",
        "type of projections and products; norms, softmax and skips stay in float32",
    )

    implementation: Implementation = setting(
        "auto",
        "'auto' computes in whatever form is fastest of those that are exact, with gradients "
        "written by hand; 'plain' by the definition, for debugging, and for forward-mode and "
        "higher derivatives",
    )

    def __post_init__(self):
        check_fields(self)

    @property
    def init(self) -> InitConfig:
        """Initial values of projections and tables."""
        return InitConfig(method=self.init_method, scale=self.init_scale)

    def attention_config(self, **fields: Any) -> AttentionConfig:
        """An attention with the common options and those given."""
        common: dict[str, Any] = {
            "q_bias": self.qkv_bias,
            "k_bias": self.qkv_bias,
            "v_bias": self.qkv_bias,
            "out_bias": self.out_bias,
            "norm": self.norm,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "qk_norm": self.qk_norm,
            "dropout": self.dropout,
            "residual_dropout": self.residual_dropout,
            "masked_rows": self.masked_rows,
            "init": self.init,
            "compute_dtype": self.compute_dtype,
            "implementation": self.implementation,
        }
        return AttentionConfig(**(common | fields))

    def mlp_config(self, widening_factor: int) -> MLPConfig:
        """An MLP with the common options."""
        return MLPConfig(
            widening_factor=widening_factor,
            activation=self.activation,
            bias=self.mlp_bias,
            norm=self.norm,
            layer_norm_epsilon=self.layer_norm_epsilon,
            residual_dropout=self.residual_dropout
            if self.mlp_residual_dropout is None
            else self.mlp_residual_dropout,
            init=self.init,
            compute_dtype=self.compute_dtype,
            implementation=self.implementation,
        )
