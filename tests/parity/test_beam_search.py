"""Beam search finds what that of transformers finds, with the same probabilities.

- transformers is given the logits of our own model's whole calls; what is compared is the search.
"""

import numpy as np
import pytest

from perceiver_jax.beam_search import BeamSearch, beam_search
from perceiver_jax.prompts import Request
from tests.continuations import log_probabilities, make_model, prompt

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("offline")]

STOP, MOST = (3, 7, 21), 10


def theirs(model, tokens, num_latents, settings):
    """Tokens and scores of hypotheses, the best first."""
    import torch
    from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutput

    class Ours(PreTrainedModel, GenerationMixin):
        config_class = PretrainedConfig
        _supports_cache_class = False

        def __init__(self):
            super().__init__(PretrainedConfig(vocab_size=model.config.vocab_size))
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, **ignored):
            new = input_ids[:, len(tokens) :].tolist()
            log_p = log_probabilities(model, tokens, new, num_latents)
            return CausalLMOutput(logits=torch.tensor(log_p)[:, None])

    generation = GenerationConfig(
        max_new_tokens=MOST,
        eos_token_id=list(STOP),
        pad_token_id=0,
        do_sample=False,
        num_return_sequences=settings["num_beams"],
        return_dict_in_generate=True,
        output_scores=True,
        use_cache=False,
        **settings,
    )
    inputs = torch.tensor([tokens])
    made = Ours().generate(
        inputs, attention_mask=torch.ones_like(inputs), generation_config=generation
    )
    return made.sequences[:, len(tokens) :].numpy(), made.sequences_scores.numpy()


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("length, num_latents, num_beams", [(5, 2, 4), (17, 4, 2)])
def test_hypotheses_are_those_of_transformers(
    random_model, length, num_latents, num_beams, length_penalty, early_stopping
):
    model, tokens = make_model(random_model), prompt(length)
    settings = {
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
    }
    request = Request.checked(
        model.config,
        [tokens],
        max_new_tokens=MOST,
        num_latents=num_latents,
        stop_tokens=STOP,
        suppress_tokens=(),
        refill="half",
    )
    (got,) = beam_search(model, request, BeamSearch(**settings))
    sequences, scores = theirs(model, tokens, num_latents, settings)
    assert len(got) == num_beams
    np.testing.assert_allclose([one.score for one in got], scores, rtol=1e-4)
    for one, wanted in zip(got, sequences, strict=True):
        assert one.tokens.tolist() == wanted[: len(one.tokens)].tolist()
        assert len(one.tokens) == MOST or one.tokens[-1] in STOP
