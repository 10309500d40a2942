"""Which shipped configs make models that another implementation has, for refusals to say so."""

TAKEN: dict[str, tuple[str, ...]] = {
    "deepmind": (
        "ar_copy_131k",
        "ar_imagenet64",
        "imagenet_a",
        "imagenet_conv",
        "imagenet_learned",
        "mlm_bytes",
        "optical_flow",
        "video_autoencoding",
    ),
    "huggingface": ("imagenet_a", "mlm_bytes", "optical_flow", "video_autoencoding"),
    "krasserm": (
        "ar_copy_32",
        "bach",
        "clm_bytes",
        "clm_c4",
        "clm_small",
        "digits",
        "mlm_small",
        "mnist",
        "symbolic_audio_giantmidi",
        "symbolic_audio_maestro",
        "text_classifier",
    ),
    "lucidrains": (),
}
"""By format, names of configs whose models it takes as they are."""


def taken_by(format: str) -> str:  # noqa: A002
    """A sentence on the shipped configs whose models a format takes."""
    names = ", ".join(TAKEN[format]) or "none"
    return (
        f"Of the shipped configs '{format}' takes the models of: {names} (docs/interop.md says of "
        "each config which formats take it)"
    )
