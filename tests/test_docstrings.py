"""Every public name has a numpydoc docstring that matches its signature, and a place on the API page."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from pydoc import locate

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import skastro
from skastro._docs import documented as complete

# What we take for style and leave to judgment; every other code of numpydoc is an error.
ALLOWED = {
    "ES01": "no extended summary: a good first line is often enough",
    "EX01": "no example: a method is shown by its class, a callback by none",
    "RT03": "a return value without description: its type may say it all",
    "SA01": "no See Also: links stand where they help",
    "SS05": "no third person: takes plural nouns ('Parameters of …') for verbs",
}
EXCUSED = {
    (f"skastro.{name}", "YD01"): "a context manager that yields nothing"
    for name in (
        "base.fitting",
        "encoders.patches.hidden_patches",
        "hub.asking",
        "inputs.restored_on_failure",
        "ranks.alone",
        "ranks.shared",
        "training.callbacks.Monitor.interruptible",
        "training.checkpoints.resumable",
        "training.process.bfloat16",
        "training.process.local_seed",
        "training.process.own_state",
        "training.process.repeatable_cudnn",
        "training.process.Randomness.installed",
        "training.tasks.tell_fit",
        "training.tasks.tell_inner_fit",
    )
}
WALKED = [module.name for module in pkgutil.walk_packages(skastro.__path__, "skastro.")]
MODULES = ["skastro", *(name for name in WALKED if "._" not in name)]
# The modules that users import from; names of the others are for those who build on the package, or internal.
OFFERING = [
    "skastro",
    "skastro.augment",
    "skastro.cards",
    "skastro.datasets",
    "skastro.downstream",
    "skastro.embedding",
    "skastro.explorer",
    "skastro.hub",
    "skastro.losses",
    "skastro.maps",
    "skastro.metrics",
    "skastro.model_selection",
    "skastro.papers",
    "skastro.persistence",
    "skastro.plotting",
    "skastro.preprocessing",
    "skastro.pretrain",
    "skastro.pretrained",
    "skastro.search",
    "skastro.stretches",
    "skastro.survey",
    "skastro.surveys",
    "skastro.votes",
    "skastro.weights",
]
API = Path(__file__).parents[1] / "docs" / "api.rst"


def public():
    """Each public object once, by the full name of the place where it is defined."""
    for module in MODULES:
        for name in import_module(module).__all__:
            value = getattr(import_module(module), name)
            if getattr(value, "__module__", module) == module:
                yield f"{module}.{name}", value


def documented():
    """Public classes, their methods, and functions; a method that inherits its docstring is its parent's."""
    for name, value in public():
        if inspect.isclass(value):
            yield name
            methods = {key: inspect.unwrap(getattr(member, "__func__", member)) for key, member in vars(value).items()}
            yield from (
                f"{name}.{key}"
                for key, member in methods.items()
                if not key.startswith("_") and inspect.isfunction(member) and member.__module__ == value.__module__
                if member.__doc__ or not inspect.getdoc(getattr(value, key))
            )
        elif callable(value):
            yield name


def defaults():
    """Each default that a docstring tells, as it is told and as it is."""
    for name in documented():
        value = locate(name)
        for entry in get_doc_object(value)["Parameters"]:
            _, told, default = entry.type.partition("default=")
            for parameter in entry.name.split(", ") if told else ():
                actual = inspect.signature(value).parameters[parameter].default
                yield f"{name}({parameter})", eval(default, vars(inspect.getmodule(value))), actual


def errors(name):
    for code, sentence in validate(name)["errors"]:
        if code in ALLOWED or (name, code) in EXCUSED:
            continue
        if code == "PR01" and "'*args'" in sentence:  # a torch module without a constructor of its own
            continue
        yield f"{code} {sentence}"


def test_every_module_says_what_is_public():
    assert [module for module in MODULES if not hasattr(import_module(module), "__all__")] == []


def test_docstrings_match_signatures():
    names = list(documented())
    wrong = {name: found for name in names if (found := list(errors(name)))}
    assert not wrong, "\n".join(f"{name}: {sentence}" for name, found in wrong.items() for sentence in found)
    assert len(names) > 80


def test_defaults_in_docstrings_are_those_of_signatures():
    told = list(defaults())
    assert [(name, here, there) for name, here, there in told if here != there and repr(here) != repr(there)] == []
    assert len(told) > 500


def test_a_completed_docstring_keeps_its_own_words_and_the_order_of_the_signature():
    class Bare:
        """Learn."""

        def __init__(self, lr=0.5, other=1):
            pass

    class Mixed(Bare):
        """Learn.

        Parameters
        ----------
        low, high : int, default=1
            Limits.
        lr : float, default=2
            My own.

        Attributes
        ----------
        mine_ : int
            Mine.

        Notes
        -----
        End.
        """

        size_: tuple

        def __init__(self, device, low=1, lr=2, verbose=True, encoder="x", high=1):
            pass

    assert complete(Bare).__doc__ == (
        "Learn.\n\nParameters\n----------\nlr : float, default=0.5\n    Peak learning rate.\n"
    )
    heads = [line for line in complete(Mixed).__doc__.splitlines() if line and not line.startswith(("    ", "-"))]
    assert heads == [
        "Learn.",
        "Parameters",
        "device : str",
        "low, high : int, default=1",
        "lr : float, default=2",
        "verbose : int, default=True",
        'encoder : str, ImageEncoder or nn.Module, default="x"',
        "Attributes",
        "mine_ : int",
        "size_ : tuple of int",
        "Notes",
        "End.",
    ]
    assert "My own." in Mixed.__doc__


def test_a_completed_docstring_hides_no_parameter_that_is_not_there():
    class Wrong:
        """Learn.

        Parameters
        ----------
        learning_rate : float, default=1
            My own.
        """

        def __init__(self, lr=1):
            pass

    assert complete(Wrong).__doc__.splitlines()[-2:] == ["learning_rate : float, default=1", "    My own."]


@pytest.mark.skipif(not API.exists(), reason="the pages are not part of an installed package")
def test_whatever_users_import_is_on_the_api_page():
    listed = {line.strip().removeprefix(".. py:data:: ") for line in API.read_text().splitlines()}
    offered = {f"{module}.{name}" for module in OFFERING for name in import_module(module).__all__}
    assert {name for name in offered if name.rpartition(".")[2] not in listed} == set()
    assert len(offered) > 150
