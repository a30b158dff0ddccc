"""Every public name has a numpydoc docstring that matches its signature, and a place on the API page."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest
from numpydoc.validate import validate

import skastro

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
    for name in ("base.restored_on_error", "encoders.patches.hidden_patches", "training.device.local_seed")
}
MODULES = ["skastro", *(module.name for module in pkgutil.walk_packages(skastro.__path__, "skastro."))]
MODULES.remove("skastro._registry")  # which nobody but the package reads
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


@pytest.mark.skipif(not API.exists(), reason="the pages are not part of an installed package")
def test_every_public_name_is_on_the_api_page():
    listed = {line.strip().removeprefix(".. py:data:: ") for line in API.read_text().splitlines()}
    assert {name for name, _ in public() if name.rpartition(".")[2] not in listed} == set()
