"""Commands of the pages are ones that their programs understand; they are parsed, and not run."""

import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perceiver_jax.train import command_line
from tests.conftest import ROOT
from tests.docs.markdown_pages import READER, name, pages, text

OWN_TEST = ("docs/bring_your_own_modality.md", "docs/migrating/", "notebooks/")
"""Pages whose commands another file of tests knows."""
PLACEHOLDERS = {"SEED": "0", "N": "1"} | {f"${name}": "1" for name in ("JOB", "SERVICE", "SHARED")}
PLACEHOLDERS |= {"$PODS": "2", "$JOB_COMPLETION_INDEX": "1"}
"""What stands for values in commands of the pages, and a value."""
PARSE = ("ArgumentParser", "fetch_command", "command_line", "show_config")
"""What a program that takes arguments has in its source."""

# Runs each as `python -m` does, in a process of its own, as far as its arguments are understood.
SERVER = """
import argparse, json, os, runpy, sys
from absl import flags
import ml_collections.config_flags
from perceiver_jax.config import from_dict
from perceiver_jax.train import command_line
from perceiver_jax.train.config import ExperimentConfig

parse = argparse.ArgumentParser.parse_args

def parsed(self, arguments=None, namespace=None):
    parse(self, arguments)
    os._exit(0)

def refused(self, message):
    unfinished = mention and message.startswith("the following arguments are required")
    os.write(2, message.encode())
    os._exit(0 if unfinished else 2)

def checked(main, stopped):
    if getattr(flags.FLAGS, "config", None) is not None:
        from_dict(ExperimentConfig, flags.FLAGS.config)
    os._exit(0)

argparse.ArgumentParser.parse_args = parsed
argparse.ArgumentParser.error = refused
command_line.run_command = checked

for module, arguments, mention in json.load(sys.stdin):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 2)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        os._exit(3)  # it came to an end without reading its arguments
    os.close(write)
    with os.fdopen(read, "rb") as said:
        message = said.read().decode()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), message]), flush=True)
"""


def commands(page):
    """(program, arguments, whether it is mentioned within a sentence) on a page."""
    for token in READER.parse(text(page)):
        inline = [child.content for child in token.children or () if child.type == "code_inline"]
        shown = token.content if token.type == "fence" and token.info in ("", "shell") else ""
        for line in shown.replace("\\\n", " ").splitlines() + inline:
            if found := re.search(r"(?:^|[ /])python (?:-m )?((?:benchmarks/)?[\w./]+)(.*)", line):
                program, arguments = found[1], found[2].split(" | ")[0]
                if arguments.count('"') % 2:  # the command is itself in quotes
                    arguments = arguments.rstrip('"')
                yield program, tuple(shlex.split(filled(arguments), comments=True)), line in inline


def filled(arguments):
    """The arguments with values in place of placeholders, and the first of {several,choices}."""
    arguments = re.sub(r"\{(\w+),[^}]*\}", r"\1", arguments)
    return re.sub(r"\$?\b[A-Z_]+\b", lambda word: PLACEHOLDERS.get(word[0], word[0]), arguments)


PAGES = [page for page in pages() if not name(page).startswith(OWN_TEST)]
FOUND = sorted({(name(page), *command) for page in PAGES for command in commands(page)})
FILES = [(page, program) for page, program, *_ in FOUND if program.endswith(".py")]
MODULES = [found for found in FOUND if not found[1].endswith(".py") and found[1] != "pytest"]


def source(module):
    """The file that `python -m` runs."""
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{module}.__main__")
    assert spec is not None, f"there is no {module}"
    return Path(spec.origin)


def takes_arguments(module):
    return any(word in source(module).read_text(encoding="utf-8") for word in PARSE)


MISTAKES = [
    ("perceiver_jax.run", ("fill-mask", "--source=x", "--tops=3", "text")),
    ("perceiver_jax.run", ("fill-masks", "--source=x", "text")),
    ("interop", ("convert", "--from", "deepmind", "x")),
    ("perceiver_jax.train.main", ("--config=imagenet_b",)),
    ("perceiver_jax.train.main", ("--config=mnist", "--config.num_step=3")),
    ("perceiver_jax.train.main", ("--config=mnist", "--config.optimizer.name=adan")),
    ("perceiver_jax.train.main", ("--config=mnist:smokee",)),
    ("perceiver_jax.train.evaluate", ("--work_dir=x",)),
    ("perceiver_jax.data.imagenet", ("--archived=x",)),
    ("benchmarks", ("mnist*", "--round", "x")),
]
ASKED = [command for command in MODULES if takes_arguments(command[1])]


@pytest.fixture(scope="module")
def answers():
    """{(program, arguments, whether only mentioned): (exit code, what was said)}."""
    asked = [command[1:] for command in ASKED] + [(*command, False) for command in MISTAKES]
    done = subprocess.run(
        [sys.executable, "-c", SERVER],
        input=json.dumps(asked),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(asked), done.stderr
    return dict(zip(asked, found, strict=True))


def test_commands_are_understood(answers):
    assert len(ASKED) > 40
    refused = {(page, *command): answers[tuple(command)] for page, *command in ASKED}
    assert not {
        command: message
        for command, (code, message) in refused.items()
        if code != 0 and not only_named(command)
    }


def only_named(command):
    """Whether a sentence names a program, and not how it is called."""
    _, _, arguments, mention = command
    return mention and not arguments


def test_a_command_that_would_not_run_is_found(answers):
    assert not [command for command in MISTAKES if answers[(*command, False)][0] == 0]


def test_a_program_that_reads_no_arguments_is_given_none():
    assert not [command for command in MODULES if command[2] and not takes_arguments(command[1])]


def test_scripts_are_there():
    assert FILES and not [(page, file) for page, file in FILES if not (ROOT / file).is_file()]


def test_fields_that_are_set_are_fields_of_shipped_configs():
    known = {"config"}
    for config in command_line.shipped_configs():
        tree = importlib.import_module(f"configs.{config}").get_config()
        groups = [("config", tree.to_dict())]
        for path, group in groups:
            known |= {f"{path}.{field}" for field in group}
            groups += [(f"{path}.{k}", v) for k, v in group.items() if isinstance(v, dict)]
    set_there = {
        (name(page), field)
        for page in pages()
        for field in re.findall(r"--(config\.[\w.]*\w)", text(page))
    }
    assert len(set_there) > 40
    named = {(page, field) for page, field in set_there if not field.endswith(".X")}
    assert not {(page, field) for page, field in named if field not in known}
