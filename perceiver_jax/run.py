"""`python -m perceiver_jax.run TASK --source=… INPUT`: models on files and texts."""

if __name__ == "__main__":  # before what takes long to import
    from perceiver_jax.command import stop_without_trace

    stop_without_trace()

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perceiver_jax.command import add_source_arguments, compilation_told_as, run_command
from perceiver_jax.run_frames import add_evaluate_flow, add_optical_flow, add_reconstruct


def classify_image(options: argparse.Namespace) -> None:
    """Prints the most probable classes of each image, and draws where the model looked."""
    from perceiver_jax.errors import UserError
    from perceiver_jax.pipelines.attention_plots import figure_files, write_figure
    from perceiver_jax.pipelines.image_classification import ImageClassification, image_files
    from perceiver_jax.pretrained import open_source

    files = image_files(options.image)
    figures: Sequence[Path | None] = [None] * len(files)
    if options.attention is not None:
        figures = figure_files(options.attention, files)
    elif options.latents is not None:
        raise UserError("--latents are those that --attention=OUT draws; give that as well")
    classify = ImageClassification(open_source(options.source, options.step))
    if options.attention is not None:
        classify.check_attention(options.latents)
    for file, guesses, out in zip(files, classify(files, options.top), figures, strict=True):
        print(file)
        for label, probability in guesses:
            print(f"  {probability:7.2%}  {label}")
        if out is not None:
            label, probability = guesses[0]
            title = f"{file.name}: {label}, {probability:.1%}"
            write_figure(classify.attention(file).figure(title, latents=options.latents), out)
            print(f"  attention: {out}")


def fill_mask(options: argparse.Namespace) -> None:
    """Prints the most probable fills of every gap of each text."""
    from perceiver_jax.pipelines.mask_filling import MaskFilling
    from perceiver_jax.pipelines.texts import gather_texts
    from perceiver_jax.pretrained import open_source

    texts = gather_texts(options.text, options.file, options.lines)
    fill = MaskFilling(open_source(options.source, options.step), options.tokenizer)
    for text in texts:
        print(_shown(text))
        gaps = fill(text, options.top)
        for i, fills in enumerate(gaps, start=1):
            if len(gaps) > 1:
                print(f"  mask {i}")
            for word, probability in fills:
                print(f"  {probability:7.2%}  {word}")


def sentiment(options: argparse.Namespace) -> None:
    """Prints the most probable class of each text."""
    from perceiver_jax.pipelines.text_classification import TextClassification
    from perceiver_jax.pipelines.texts import gather_texts
    from perceiver_jax.pretrained import open_source

    texts = gather_texts(options.text, options.file, options.lines)
    classify = TextClassification(open_source(options.source, options.step), options.tokenizer)
    for text, labels in zip(texts, classify(texts, options.top), strict=True):
        for label, probability in labels:
            print(f"{probability:7.2%}  {label}  {_shown(text)}")


def generate_text(options: argparse.Namespace) -> None:
    """Prints each text with its continuation; of one text as it is made, without beam search."""
    from perceiver_jax.pipelines.text_generation import TextGeneration
    from perceiver_jax.pipelines.texts import gather_texts
    from perceiver_jax.pretrained import open_source

    texts = gather_texts(options.text, options.file, options.lines)
    settings = generation_settings(options, checked_length_penalty(options))
    generation = TextGeneration(open_source(options.source, options.step), options.tokenizer)
    settings["stop_tokens"] = [generation.reader.token_id(token) for token in options.stop_token]
    settings["stop_texts"] = options.stop
    with compilation_told_as("the programs that generate"):
        print_continuations(generation, texts, settings, at_once=options.num_beams is not None)


def print_continuations(
    generation: Any, texts: Sequence[str], settings: dict[str, Any], *, at_once: bool
) -> None:
    """Prints one text piece by piece, unless it comes at once, and several as whole ones."""
    if len(texts) == 1:
        if at_once:
            pieces = iter(generation(texts, **settings))
        else:
            pieces = generation.stream(texts[0], **settings)
        first = next(pieces, "")
        print(texts[0] + first, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    for text, continuation in zip(texts, generation(texts, **settings), strict=True):
        print(text + continuation, end="\n\n")


def generate_music(options: argparse.Namespace) -> None:
    """Writes a MIDI file that begins as the given one, and its sound where that is asked for."""
    from perceiver_jax.data.music import read_midi, render_wav, write_midi
    from perceiver_jax.pipelines.music_generation import MusicGeneration
    from perceiver_jax.pretrained import open_source

    check_music_files(options.prompt, options.out, options.render)
    settings = generation_settings(options)
    notes = read_midi(options.prompt)
    generation = MusicGeneration(open_source(options.source, options.step))
    with compilation_told_as("the programs that generate"):
        piece = generation(notes, only_continuation=options.only_continuation, **settings)
    write_midi(piece, options.out)
    print(f"{options.out}: {len(piece):,} notes, {max(note.end for note in piece):.1f} s")
    if options.render is not None:
        render_wav(piece, options.render)
        print(options.render)


def checked_length_penalty(options: argparse.Namespace) -> float:
    """Of the hypotheses of beam search; raises a UserError where it would make no difference."""
    from perceiver_jax.errors import UserError

    if options.length_penalty is None:
        return 1.0
    if options.num_beams is None:
        raise UserError("--length-penalty compares beams; give their number, as in --num-beams=4")
    if not options.stop_token:
        raise UserError(
            "--length-penalty compares continuations of different lengths, and without a stop "
            "token all have --max-new-tokens; give one, as in --stop-token=."
        )
    return options.length_penalty


def generation_settings(options: argparse.Namespace, length_penalty: float = 1.0) -> dict[str, Any]:
    """What `add_generation_arguments` asks for; raises a UserError where it does not go together.

    As in transformers, `num_beams` means beam search, and `penalty_alpha` with `top_k` contrastive.
    """
    from perceiver_jax.beam_search import BeamSearch
    from perceiver_jax.contrastive_search import ContrastiveSearch
    from perceiver_jax.errors import UserError
    from perceiver_jax.sampling import Sampling

    drawn = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
    search = None
    if options.penalty_alpha is not None:
        if options.num_beams is not None:
            raise UserError("--num-beams and --penalty-alpha are two searches; give one of them")
        if options.top_k is None:
            raise UserError(
                "--penalty-alpha chooses among the most probable tokens; give their number as "
                "well, as in --top-k=4"
            )
        search = ContrastiveSearch(top_k=drawn.pop("top_k"), penalty_alpha=options.penalty_alpha)
    elif options.num_beams is not None:
        search = BeamSearch(num_beams=options.num_beams, length_penalty=length_penalty)
    given = {name: value for name, value in drawn.items() if value is not None}
    if search is not None and given:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UserError(f"{names} would draw tokens at random, and a search does not; leave it out")
    return {
        "max_new_tokens": options.max_new_tokens,
        "num_latents": options.num_latents,
        "sampling": Sampling(**given),
        "search": search,
        "refill": options.refill,
        "seed": options.seed,
    }


def check_music_files(prompt: Path, out: Path, render: Path | None) -> None:
    """Raises a UserError where a file would be lost, or is called like one of another kind."""
    from perceiver_jax.errors import UserError

    if out.suffix.lower() not in (".mid", ".midi"):
        hint = "; sound goes to --render" if out.suffix.lower() == ".wav" else ""
        raise UserError(f"--out={out} is a MIDI file; end it in .mid or .midi{hint}")
    files = [file.resolve() for file in (prompt, out, render) if file is not None]
    if len(set(files)) < len(files):
        raise UserError(
            f"{prompt}, --out={out} and --render={render} are not different files; what is written "
            "would replace another; choose other names"
        )
    for file in (out, render):
        if file is not None and file.is_dir():
            raise UserError(f"{file} is a folder; name a file in it")


def add_generation_arguments(task: argparse.ArgumentParser) -> None:
    """The options of tasks that continue something."""
    task.add_argument(
        "--max-new-tokens", type=positive, default=256, help="most new tokens (default: 256)"
    )
    task.add_argument(
        "--num-latents",
        type=positive,
        help="latents to begin with, the last tokens of the prompt and no more than it has "
        "(default: half of the model's, or what a long prompt needs)",
    )
    task.add_argument(
        "--temperature",
        type=float,
        help="below 1 the probable becomes more so, 0 takes the most probable (default: 1)",
    )
    task.add_argument(
        "--top-k",
        type=positive,
        help="draw from the k most probable tokens only, or choose among them by --penalty-alpha",
    )
    task.add_argument(
        "--top-p", type=float, help="draw from the most probable tokens that reach this probability"
    )
    task.add_argument(
        "--penalty-alpha",
        type=float,
        help="contrastive search among the --top-k most probable tokens: how much likeness to what "
        "came before counts against probability, from 0 to 1",
    )
    task.add_argument(
        "--num-beams",
        type=positive,
        help="beam search: follow so many continuations at once, and take the best in the end",
    )
    task.add_argument(
        "--refill",
        choices=("half", "every"),
        default="half",
        help="when latents are used up, keep the newer half and go on with a cache, or compute all "
        "anew at every token (default: half)",
    )
    task.add_argument("--seed", type=seed, default=0, help="of the random choice (default: 0)")


def _shown(text: str) -> str:
    """A text on one line, its beginning if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


def add_text_arguments(task: argparse.ArgumentParser) -> None:
    """The options of tasks that read texts."""
    add_source_arguments(task, "deepmind:weights.pickle")
    task.add_argument(
        "--file",
        type=Path,
        action="append",
        default=[],
        help="a file that is one text; - for standard input",
    )
    task.add_argument(
        "--lines", type=Path, action="append", default=[], help="a file with a text on each line"
    )
    task.add_argument("--tokenizer", help="where the source does not tell: a tokenizer file")
    task.add_argument("text", nargs="*", help="texts")


def add_music_arguments(task: argparse.ArgumentParser) -> None:
    """The options of the task that reads and writes music."""
    add_source_arguments(task, "krasserm:model.ckpt")
    task.add_argument("--out", type=Path, required=True, help="MIDI file to write")
    task.add_argument("--render", type=Path, help="WAV file to write as well")
    task.add_argument(
        "--only-continuation",
        action="store_true",
        help="write what the model adds, without what it was given",
    )
    task.add_argument(
        "prompt",
        type=Path,
        help="MIDI file to continue; of one longer than the model takes, it sees the end",
    )


def add_top_argument(task: argparse.ArgumentParser, top: int, what: str) -> None:
    """How many results are shown."""
    task.add_argument("--top", type=positive, default=top, help=f"how many {what} (default: {top})")


def seed(text: str) -> int:
    """A whole number of 32 bits, for argparse."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 0 to 2**32 - 1")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number from 0 on, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 0 on")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    """Whole numbers from 0 on with commas between them, for argparse."""
    return [not_negative(number) for number in text.split(",")]


class TaskLines(argparse.HelpFormatter):
    """Help with each task on a line; its base forgets that tasks are indented."""

    def add_argument(self, action):
        """As its base does, with that room."""
        super().add_argument(action)
        self._action_max_length += self._indent_increment


class TaskParser(argparse.ArgumentParser):
    """The parser of a task, which itself refuses what it does not know, with its own usage."""

    def parse_known_args(self, args=None, namespace=None):
        """As its base does, but nothing may be left over."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [argument.partition("=")[0] for argument in unknown]
            near = [difflib.get_close_matches(n, self._option_string_actions, n=1) for n in names]
            hints = [f"did you mean {match}?" for matches in near for match in matches]
            self.error("; ".join([f"unrecognized arguments: {' '.join(unknown)}", *hints]))
        return found, unknown


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the task; returns the exit code.

    Without arguments it prints the tasks.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m perceiver_jax.run",
        description=__doc__,
        formatter_class=TaskLines,
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True, parser_class=TaskParser)

    task = tasks.add_parser("classify-image", help="images to the most probable classes")
    add_source_arguments(task, "deepmind:weights.pystate")
    add_top_argument(task, 5, "classes")
    task.add_argument(
        "--attention",
        type=Path,
        metavar="OUT",
        help="draw where the model looked: a .png, .pdf or .svg file for one image, or a folder "
        "(a name without ending) that gets a .png for each",
    )
    task.add_argument(
        "--latents",
        type=whole_numbers,
        metavar="I,J,…",
        help="which latents --attention draws, counted from 0 (default: those that the answer "
        "draws on most)",
    )
    task.add_argument("image", type=Path, nargs="+", help="image files, or folders of them")
    task.set_defaults(run=classify_image)

    task = tasks.add_parser("fill-mask", help="texts with [MASK] to the most probable words")
    add_top_argument(task, 5, "words for each mask")
    add_text_arguments(task)
    task.set_defaults(run=fill_mask)

    task = tasks.add_parser("sentiment", help="texts to their class: positive, negative")
    add_top_argument(task, 1, "classes")
    add_text_arguments(task)
    task.set_defaults(run=sentiment)

    task = tasks.add_parser("generate-text", help="texts to their continuations")
    add_generation_arguments(task)
    task.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end a continuation where it contains this text, and leave that out; may be repeated; "
        "not with --num-beams",
    )
    task.add_argument(
        "--stop-token",
        action="append",
        default=[],
        metavar="TOKEN",
        help="end a continuation with this token, and leave it out: a text that is one token, a "
        "special token as the tokenizer spells it, or an id; may be repeated",
    )
    task.add_argument(
        "--length-penalty",
        type=float,
        help="of beam search with --stop-token: log probabilities are divided by the length to "
        "this power, so above 0 favours long continuations (default: 1)",
    )
    add_text_arguments(task)
    task.set_defaults(run=generate_text)

    task = tasks.add_parser("generate-music", help="a MIDI file to its continuation")
    add_generation_arguments(task)
    add_music_arguments(task)
    task.set_defaults(run=generate_music)

    add_optical_flow(tasks, positive, not_negative)
    add_evaluate_flow(tasks, positive)
    add_reconstruct(tasks, positive)

    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(arguments)
    return run_command(lambda: options.run(options))


if __name__ == "__main__":
    sys.exit(main())
