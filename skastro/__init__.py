"""Self-supervised learning for astronomical data as ordinary scikit-learn estimators."""

from importlib import import_module
from typing import Any

from skastro._registry import EXPORTED, FUNCTIONS

__version__ = "0.1.0"

# Each name is imported when first used, so that `import skastro` loads no torch.
HOMES = {name: home for table in (EXPORTED, FUNCTIONS) for home, names in table.items() for name in names.split()}

__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'skastro' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
