"""What the loop around perceiver-io's model does with its cache."""

import pytest

from benchmarks import causal_peer

pytestmark = [pytest.mark.parity, pytest.mark.reference]


class Counting:
    """A model that says the number of tokens before, and notes what it was called with."""

    max_latents, max_seq_len, max_prefix_len = 4, 8, 4

    def __init__(self):
        self.calls = []

    def __call__(self, ids, *, prefix_len, kv_cache):
        import types

        import torch

        longer = [tuple(torch.cat([x, x[:, :1]], 1) for x in layer) for layer in kv_cache]
        self.calls.append((prefix_len, *(layer[0].shape[1] for layer in longer)))
        logits = torch.nn.functional.one_hot(ids + 1, 50)
        return types.SimpleNamespace(logits=logits, kv_cache=longer)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_caches_are_cut_as_upstream_cuts_them(torch):
    model = Counting()
    cache = [(torch.zeros(1, n, 2),) * 2 for n in (5, 2)]
    made = causal_peer.decode(model, torch.tensor([[7]]), cache, prefix_len=3, num_new=6)
    assert made.tolist() == [[8, 9, 10, 11, 12, 13]]
    # (prefix, cells of the cross-attention, cells of a layer), the new token included
    grows = [(3, 6, 3), (3, 7, 4)]
    slides = [(4, 8, 4)] * 4
    assert model.calls == grows + slides
