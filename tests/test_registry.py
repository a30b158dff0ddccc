"""A method is one file and one name in the registry: what is forgotten there, or in the batteries, is found here."""

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest
from estimators import ESTIMATORS, IMAGE_EMBEDDERS, REGISTERED, TINY
from sklearn.base import BaseEstimator, TransformerMixin

import skastro
from skastro import SimCLREmbedder, _registry, preprocessing
from skastro.base import BaseEmbedder

MODULES = [module.name for module in pkgutil.walk_packages(skastro.__path__, "skastro.")]
CLASSES = [
    name for table in (_registry.EXPORTED, _registry.FURTHER) for names in table.values() for name in names.split()
]


def is_base(cls):
    """Tell what is only inherited from: it is abstract, or has neither a constructor nor a ``fit``."""
    return inspect.isabstract(cls) or (cls.__init__ is object.__init__ and not hasattr(cls, "fit"))


def unregistered():
    """Full names of the public classes that scikit-learn could build and that the registry leaves out."""
    found = set()
    for home in MODULES:
        for name, cls in vars(import_module(home)).items():
            if isinstance(cls, type) and issubclass(cls, BaseEstimator) and cls.__module__ == home:
                found |= set() if name.startswith("_") or is_base(cls) else {f"{home}.{name}"}
    return found - REGISTERED.keys()


def test_every_public_estimator_and_specification_is_registered():
    assert unregistered() == set()


def a_transformer():
    return type("Forgotten", (TransformerMixin, BaseEstimator), {"fit": lambda self, X, y=None: self})


def an_embedder():
    return type("Forgotten", (SimCLREmbedder,), {})


def a_specification():
    return type("Forgotten", (BaseEstimator,), {"__init__": lambda self, depth=1: setattr(self, "depth", depth)})


def an_embedder_of_something_else():
    return type("Forgotten", (BaseEmbedder,), {"fit": lambda self, X, y=None: self})


@pytest.mark.parametrize("make", [a_transformer, an_embedder, a_specification, an_embedder_of_something_else])
def test_one_that_is_not_registered_is_found(make, monkeypatch):
    cls = make()
    cls.__module__ = preprocessing.__name__
    monkeypatch.setattr(preprocessing, "Forgotten", cls, raising=False)
    assert unregistered() == {"skastro.preprocessing.Forgotten"}


def test_every_registered_class_is_defined_where_the_registry_says_and_named_once():
    assert {f"{cls.__module__}.{cls.__name__}" for cls in REGISTERED.values()} == REGISTERED.keys()
    assert len(CLASSES) == len({*CLASSES})
    for table in (_registry.EXPORTED, _registry.FURTHER, _registry.FUNCTIONS, _registry.METRICS):
        assert [*table] == sorted(table)
        assert all(names.split() == sorted(names.split()) for names in table.values())


def test_every_estimator_has_a_tiny_configuration():
    assert {cls.__name__ for cls in ESTIMATORS} == {name.partition(",")[0] for name in TINY}
    assert {cls.__name__ for cls in ESTIMATORS} <= TINY.keys()
    assert all(type(TINY[name]).__name__ == name.partition(",")[0] for name in TINY)


def test_every_embedder_is_registered_as_one():
    assert {cls for cls in REGISTERED.values() if cls.__name__.endswith("Embedder")} == {
        cls for cls in REGISTERED.values() if issubclass(cls, BaseEmbedder)
    }
    assert len(IMAGE_EMBEDDERS) >= 6


def test_the_package_offers_what_is_exported():
    assert {*skastro.__all__} <= {*dir(skastro)}
    offered = {}
    exec("from skastro import *", offered)
    for name in skastro.__all__:
        assert offered[name] is getattr(import_module(skastro.HOMES[name]), name)
    with pytest.raises(AttributeError, match="'skastro' has no attribute 'BYOLEmbeder'"):
        skastro.BYOLEmbeder  # noqa: B018


def test_importing_the_package_loads_neither_torch_nor_scikit_learn():
    code = "import sys, skastro; print(sorted({'torch', 'sklearn', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
