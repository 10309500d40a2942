"""Notes to how they go on, and `python -m perceiver_jax.run generate-music`."""

import dataclasses
import wave

import jax
import numpy as np
import pytest

from perceiver_jax import models, run
from perceiver_jax.beam_search import BeamSearch
from perceiver_jax.card import ModelCard, MusicPreprocessing, TextPreprocessing
from perceiver_jax.contrastive_search import ContrastiveSearch
from perceiver_jax.data.music import PAD_ID, Note, decode, encode, read_midi, write_midi
from perceiver_jax.errors import UserError
from perceiver_jax.generate import generate
from perceiver_jax.models import CausalSequenceConfig
from perceiver_jax.models.release import read, release
from perceiver_jax.pipelines.music_generation import MusicGeneration
from perceiver_jax.pretrained import open_source
from perceiver_jax.sampling import GREEDY, Sampling

WILD = Sampling(temperature=4.0)
TUNE = [Note(60, 40, 0.0, 0.5), Note(64, 80, 0.5, 1.0), Note(67, 100, 1.0, 3.25)]
LONG = [Note(40 + i % 40, 80, i / 4, i / 4 + 0.2) for i in range(40)]


@pytest.fixture(scope="session")
def music_release(random_model):
    """A function that makes a random model of events; arguments are fields of its config."""

    def make(card=ModelCard(music=MusicPreprocessing()), **fields):  # noqa: B008
        sizes = {"vocab_size": 389, "max_seq_len": 40, "max_latents": 16, "num_channels": 16}
        config = CausalSequenceConfig(
            **{"num_heads": 2, "num_self_attention_layers": 1} | sizes | fields
        )
        found = release(random_model(lambda: models.build(config, jax.random.key(0))))
        return dataclasses.replace(found, card=card)

    return make


@pytest.fixture(scope="module")
def released(music_release):
    return music_release()


def made_by(released, prompt, num_new, num_latents):
    """Events of the model itself, as the pipeline samples them."""
    (made,) = generate(
        released.model(),
        [prompt],
        max_new_tokens=num_new,
        num_latents=num_latents,
        sampling=WILD,
        key=jax.random.key(5),
    )
    assert (made != PAD_ID).all()
    return made


def test_a_piece_begins_as_given_and_goes_on_as_the_model_says(released):
    piece = MusicGeneration(released)(TUNE, max_new_tokens=60, sampling=WILD, seed=5)
    events = encode(TUNE)
    assert piece == decode(np.concatenate([events, made_by(released, events, 60, None)]))
    assert piece[:3] == decode(events) and len(piece) > 6


def test_of_music_longer_than_the_context_the_end_is_seen(released):
    events = encode(LONG)
    assert len(events) > 80
    with pytest.warns(UserWarning, match=f"music of {len(events)} tokens .* first .* not seen"):
        piece = MusicGeneration(released)(LONG, max_new_tokens=30, sampling=WILD, seed=5)
    made = made_by(released, events[-40:], 30, 16)
    # All that was given is kept all the same.
    assert piece == decode(np.concatenate([events, made]))


def test_the_continuation_alone_begins_with_the_end_of_what_was_given(released):
    settings = {"max_new_tokens": 60, "sampling": WILD, "seed": 5}
    whole = MusicGeneration(released)(TUNE, **settings)
    alone = MusicGeneration(released)(TUNE, only_continuation=True, **settings)
    end = TUNE[-1].end
    later = [note._replace(start=note.start - end, end=note.end - end) for note in whole]
    wanted = [note for note in later if note.start >= -1e-9]
    assert [note.pitch for note in alone] == [note.pitch for note in wanted]
    np.testing.assert_allclose(np.array(alone), np.array(wanted), atol=1e-9)


def test_the_first_new_notes_are_as_hard_as_the_last_that_were_given(music_release, monkeypatch):
    module = "perceiver_jax.pipelines.music_generation.generate"
    monkeypatch.setattr(module, lambda *args, **settings: [np.array([72, 260, 200])])
    (note,) = MusicGeneration(music_release())(TUNE, only_continuation=True)
    assert note == Note(72, 100, 0.0, 0.05)


def test_padding_is_never_made_however_probable(music_release, monkeypatch):
    released = music_release(output_bias=True)
    (path,) = [path for path in released.arrays if path.endswith("output_adapter/bias")]
    bias = np.zeros(389, np.float32)
    bias[PAD_ID] = 1e4
    likely = dataclasses.replace(released, arrays={**released.arrays, path: bias})
    prompt = encode(TUNE)
    made = generate(likely.model(), [prompt], max_new_tokens=5, sampling=GREEDY)[0]
    assert made.tolist() == [PAD_ID] * 5
    # Padding tells nothing: the piece would be what was given.
    piece = MusicGeneration(likely)(TUNE, max_new_tokens=60, sampling=WILD)
    assert len(piece) > 6
    seen = []

    def record(*args, **settings):
        seen.extend(generate(*args, **settings))
        return seen[-1:]

    monkeypatch.setattr("perceiver_jax.pipelines.music_generation.generate", record)
    for search in (BeamSearch(num_beams=2), ContrastiveSearch(top_k=389, penalty_alpha=0.9)):
        MusicGeneration(likely)(TUNE, max_new_tokens=5, search=search)
    assert len(seen) == 2 and PAD_ID not in np.concatenate(seen)


@pytest.mark.parametrize(
    "card, every_velocity",
    [
        (ModelCard(), True),
        (ModelCard(music=MusicPreprocessing()), False),
        (ModelCard(music=MusicPreprocessing(every_velocity=True)), True),
    ],
)
def test_the_card_tells_the_vocabulary_and_none_is_that_of_krasserm(
    music_release, monkeypatch, card, every_velocity
):
    notes = [Note(60, 80, 0.0, 0.5), Note(64, 80, 0.5, 1.0)]
    seen = []

    def record(model, prompts, **settings):
        seen.extend(prompts)
        return [np.array([72, 300])]

    monkeypatch.setattr("perceiver_jax.pipelines.music_generation.generate", record)
    MusicGeneration(music_release(card))(notes)
    np.testing.assert_array_equal(seen[0], encode(notes, every_velocity=every_velocity))
    assert len(encode(notes)) < len(encode(notes, every_velocity=True))


def test_the_card_goes_with_a_release(released, tmp_path):
    card = ModelCard(music=MusicPreprocessing(every_velocity=True))
    dataclasses.replace(released, card=card).save(tmp_path / "release")
    assert MusicGeneration(read(tmp_path / "release")).every_velocity


def test_the_card_goes_on_to_whoever_opens_a_release(music_release, tmp_path):
    card = ModelCard(music=MusicPreprocessing(every_velocity=False))
    dataclasses.replace(music_release(), card=card).save(tmp_path)
    assert open_source(f"ours:{tmp_path}").card.music == card.music


def test_other_models_are_refused(music_release, text_release):
    with pytest.raises(UserError, match="^a masked language model .* continues no music"):
        MusicGeneration(text_release())
    with pytest.raises(UserError, match="this model has 262 ids, and music 389"):
        MusicGeneration(music_release(ModelCard(), vocab_size=262))
    of_texts = ModelCard(text=TextPreprocessing())
    with pytest.raises(UserError, match="continues texts, not music"):
        MusicGeneration(music_release(of_texts))


def test_nothing_to_begin_with_and_nothing_made_are_refused(released, monkeypatch):
    music = MusicGeneration(released)
    with pytest.raises(UserError, match="give some notes to begin with"):
        music([])
    with pytest.raises(UserError, match="num_latents=17 is not between 1 and max_latents=16"):
        music(TUNE, num_latents=17)
    module = "perceiver_jax.pipelines.music_generation.generate"
    monkeypatch.setattr(module, lambda *args, **settings: [np.array([300])])
    with pytest.raises(UserError, match="made no note in 1 events"):
        music(TUNE, only_continuation=True, max_new_tokens=1)


# ---- The command ---------------------------------------------------------------------------------


@pytest.fixture
def files(released, tmp_path):
    """The command's arguments for a model and a prompt below tmp_path, and that folder."""
    released.save(tmp_path / "release")
    write_midi(TUNE, tmp_path / "in.mid")
    common = ["--max-new-tokens=60", "--temperature=4", "--seed=5"]
    return ["generate-music", f"--source=ours:{tmp_path / 'release'}", *common], tmp_path


def test_the_command_writes_midi_and_sound(files, released, capsys):
    command, folder = files
    out, sound = folder / "new" / "out.mid", folder / "out.wav"
    assert run.main([*command, f"--out={out}", f"--render={sound}", f"{folder / 'in.mid'}"]) == 0
    wanted = MusicGeneration(released)(TUNE, max_new_tokens=60, sampling=WILD, seed=5)
    np.testing.assert_allclose(np.array(read_midi(out)), np.array(wanted), atol=2e-3)
    with wave.open(str(sound)) as file:
        assert file.getnframes() / file.getframerate() >= max(note.end for note in wanted)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{out}: {len(wanted):,} notes, ") and printed[1] == str(sound)


def test_the_command_writes_the_continuation_alone(files, released):
    command, folder = files
    out = folder / "out.mid"
    assert run.main([*command, "--only-continuation", f"--out={out}", f"{folder / 'in.mid'}"]) == 0
    settings = {"max_new_tokens": 60, "sampling": WILD, "seed": 5}
    wanted = MusicGeneration(released)(TUNE, only_continuation=True, **settings)
    np.testing.assert_allclose(np.array(read_midi(out)), np.array(wanted), atol=2e-3)


@pytest.mark.parametrize(
    "options, search",
    [
        (["--num-beams=2"], BeamSearch(num_beams=2)),
        (["--penalty-alpha=0.9", "--top-k=3"], ContrastiveSearch(top_k=3, penalty_alpha=0.9)),
    ],
)
def test_the_command_searches(files, released, options, search):
    (task, source, *_), folder = files
    out = folder / "out.mid"
    command = [task, source, "--max-new-tokens=8", f"--out={out}", *options, f"{folder / 'in.mid'}"]
    assert run.main(command) == 0
    wanted = MusicGeneration(released)(TUNE, max_new_tokens=8, search=search)
    np.testing.assert_allclose(np.array(read_midi(out)), np.array(wanted), atol=2e-3)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--out={}/out.mid", "{}/none.mid"], "none.mid cannot be read"),
        (["--out={}/in.mid", "{}/in.mid"], "are not different files"),
        (["--out={}/out.mid", "--render={}/out.mid", "{}/in.mid"], "are not different files"),
        (["--out={}/release", "{}/in.mid"], "release is a MIDI file; end it in .mid or .midi"),
        (["--out={}/folder.mid", "{}/in.mid"], "folder.mid is a folder; name a file in it"),
        (["--out={}/out.mid", "{}/release/config.json"], "is no MIDI file"),
        (["--out={}/out.mid", "--top-p=2", "{}/in.mid"], "top_p=2.0 is not in"),
        (["--out={}/out.mid", "--num-beams=2", "{}/in.mid"], "--temperature would draw"),
    ],
)
def test_mistakes_of_the_command_are_answered_in_a_sentence(files, capsys, arguments, words):
    command, folder = files
    (folder / "folder.mid").mkdir(exist_ok=True)
    before = sorted(folder.rglob("*"))
    assert run.main([*command, *(word.format(folder) for word in arguments)]) == 1
    errors = capsys.readouterr().err
    assert words in errors and "Traceback" not in errors
    assert sorted(folder.rglob("*")) == before


def test_music_has_no_end_by_which_lengths_could_be_compared(files, capsys):
    (task, source, *_), folder = files
    command = [task, source, "--num-beams=2", "--length-penalty=2", f"--out={folder / 'out.mid'}"]
    with pytest.raises(SystemExit):
        run.main([*command, f"{folder / 'in.mid'}"])
    assert "unrecognized arguments: --length-penalty=2" in capsys.readouterr().err
