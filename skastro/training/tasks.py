"""The tasks of a fit, which scikit-learn's callbacks are told of where its version has them: fits inside it, epochs."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from sklearn.base import BaseEstimator

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9
    CallbackSupportMixin = with_callbacks = object

__all__ = ["CallbackSupport", "Tasks", "copy_fitted", "tell_fit", "tell_inner_fit", "tell_trainings"]


class CallbackSupport(CallbackSupportMixin):
    """Base of what takes scikit-learn's callbacks by ``set_callbacks``; of nothing where its version has none."""


@contextmanager
def tell_fit(estimator: BaseEstimator) -> Iterator[None]:
    """Report the fit inside a block to scikit-learn's callbacks, and detach them however it ends.

    What tasks it has is told when it is known: by `tell_trainings`, else by the only training.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted.
    """
    if not hasattr(estimator, "_init_callback_context") or _root(estimator) is not None:  # told of by a block around
        yield
        return
    with ExitStack() as stack:
        stack.callback(with_callbacks(lambda estimator: None), estimator)  # the public way to let go
        root = estimator._init_callback_context(max_subtasks=None)
        yield
        _begin(root, estimator, 0)
        root.call_on_fit_task_end(estimator=estimator)


def tell_trainings(estimator: BaseEstimator, count: int) -> None:
    """Tell callbacks that a fit has several trainings, its own and those of estimators inside it.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted.
    count : int
        Number of trainings. Of the only one, the epochs are tasks of the fit itself.
    """
    if count > 1 and (root := _root(estimator)) is not None:
        _begin(root, estimator, count)


@contextmanager
def tell_inner_fit(estimator: BaseEstimator, inner: Any) -> Iterator[None]:
    """Tell callbacks of the fit of an estimator inside another's, if told of several, and pass them on to it.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted.
    inner : estimator
        Being fitted inside the block.
    """
    root = _root(estimator)
    if root is None or root.max_subtasks is None:
        yield
        return
    task = root.subcontext(task_name="pretrain")
    with task.propagate_callback_context(inner):
        task.call_on_fit_task_begin(estimator=estimator)
        yield
        task.call_on_fit_task_end(estimator=estimator)


class Tasks:
    """The tasks of one training, all of a kind, of which callbacks are told one by one inside a block.

    Parameters
    ----------
    estimator : BaseEstimator
        Being fitted.
    name : str
        What a task is called.

    Attributes
    ----------
    begun : int
        Number of tasks that have begun.
    """

    def __init__(self, estimator: BaseEstimator, name: str) -> None:
        self.estimator = estimator
        self.name = name
        self.count = self.begun = 0
        self.whole: Any = None  # what the tasks are parts of
        self.current: Any = None

    def start(self, count: int) -> None:
        """Begin the training.

        Parameters
        ----------
        count : int
            Number of tasks, at most.
        """
        self.count, root = count, _root(self.estimator)
        if root is not None and root.max_subtasks is None:
            self.whole = _begin(root, self.estimator, count)
        elif root is not None:
            self.whole = root.subcontext(task_name="train", max_subtasks=count)
            self.whole.call_on_fit_task_begin(estimator=self.estimator)

    def begin(self) -> None:
        """Begin the next task."""
        self.begun += 1
        if self.whole is not None:
            self.current = self.whole.subcontext(task_name=self.name)
            self.current.call_on_fit_task_begin(estimator=self.estimator)

    def end(self) -> bool:
        """End the task, if one has begun.

        Returns
        -------
        bool
            Whether a callback asks to stop.
        """
        current, self.current = self.current, None
        return current is not None and current.call_on_fit_task_end(estimator=self.estimator)

    def next(self, x: Any) -> None:
        """End the task and begin the next, for SciPy's optimizers, which tell only of ends.

        Parameters
        ----------
        x : ndarray
            Where the optimizer is; ignored.

        Raises
        ------
        StopIteration
            If a callback asks to stop.
        """
        if self.end():
            raise StopIteration
        if self.begun < self.count:
            self.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self.end()  # the last one, if it was cut short
            if self.whole is not None and self.whole is not _root(self.estimator):
                self.whole.call_on_fit_task_end(estimator=self.estimator)


def copy_fitted(estimator: Any) -> Any:
    """Copy an estimator that will not be fitted again: without its callbacks, of which many cannot be copied.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    Returns
    -------
    estimator
    """
    callbacks = vars(estimator).get("_skl_callbacks")
    copied = copy.deepcopy(estimator, {id(callbacks): callbacks})
    vars(copied).pop("_skl_callbacks", None)
    return copied


def _root(estimator: BaseEstimator) -> Any:
    """Find the task that is the whole fit, where scikit-learn keeps it."""
    return vars(estimator).get("_callback_fit_ctx")


def _begin(root: Any, estimator: BaseEstimator, count: int) -> Any:
    """Begin the whole fit, unless it has, which is when the number of its tasks is known."""
    if root.max_subtasks is None:
        root.max_subtasks = count
        root.call_on_fit_task_begin(estimator=estimator)
    return root
