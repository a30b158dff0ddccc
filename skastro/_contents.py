"""What a model file holds, checked before any of it is built, and what compiled code will follow, checked after.

Before: the members' sizes, the headers of the arrays, the identities by which skops shares nodes, the arrays of
decision trees. After: indices that scikit-learn and NumPy follow without looking.
"""

import json
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.ensemble._forest import BaseForest
from sklearn.neighbors import BallTree, KDTree, KNeighborsClassifier
from sklearn.neighbors._base import NeighborsBase
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import NODE_DTYPE, Tree

from skastro._arrays import array_header

__all__ = ["ABOUT", "Headers", "check_built", "check_nodes", "items", "nodes", "read"]

ABOUT = "skastro.json"  # the member of a file that states its format
OLDEST_PROTOCOL = 2  # of skops: older ones select older, laxer nodes, and no file of ours has them
TWISTER_WORDS = 624
# Of compiled objects that take a tuple as it is: they look for what it lacks, and follow None.
COMPILED = {"sklearn.metrics._dist_metrics", "sklearn.neighbors._ball_tree", "sklearn.neighbors._kd_tree"}
SAMPLE_WEIGHT = 12  # its place in the state of a neighbor tree, where None is in place

Headers = dict[str, tuple[tuple[int, ...], np.dtype]]


def read(file: BinaryIO) -> tuple[dict[str, Any], dict[str, Any], Headers]:
    """Read all of a file but its arrays, after every member has passed its checksum.

    Parameters
    ----------
    file : binary file
        Open for reading.

    Returns
    -------
    schema : dict
        The tree of nodes.
    about : dict
        What the file states of itself.
    headers : dict of str to tuple
        Shape and dtype of each array, by the name of its member.

    Raises
    ------
    Exception
        Of any kind, if the file is not one of ours or is damaged.
    """
    with ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != ZIP_STORED for member in members):
            raise BadZipFile("Compressed members can unpack to any size, and save writes none.")
        if sum(member.file_size for member in members) > file.seek(0, 2):
            raise BadZipFile("The members are larger than the file.")
        if archive.testzip() is not None:
            raise BadZipFile("A checksum is wrong.")
        headers = {}
        for member in members:
            if member.filename.endswith(".npy"):
                with archive.open(member) as array:
                    headers[member.filename] = array_header(array, member.file_size)
        schema = json.loads(archive.read("schema.json"))
        about = json.loads(archive.read(ABOUT)) if ABOUT in archive.namelist() else {"format": 1}
    if schema["protocol"] < OLDEST_PROTOCOL or not isinstance(about["format"], int):
        raise ValueError("The protocol is too old, or the format no number.")
    return schema, about, headers


def items(value: Any) -> list[Any]:
    """List what a container holds; nothing for what is none.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    list
    """
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(np.asarray(value).flat)
    return []


def nodes(part: Any) -> Iterator[dict[str, Any]]:
    """List every dictionary that skops could take for a node, wherever it hides.

    Parameters
    ----------
    part : object
        A tree of nodes, as JSON has it.

    Yields
    ------
    dict
    """
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and "__loader__" in part:
            yield part
        waiting.extend(items(part))


def check_nodes(schema: dict[str, Any], headers: Headers) -> None:
    """Refuse nodes that would build other things than they say, or reach compiled code in a foreign shape.

    Parameters
    ----------
    schema : dict
        A tree of trusted nodes.
    headers : dict
        Shape and dtype of each array.

    Raises
    ------
    ValueError
        If the nodes are not those that `save` writes.
    """
    _check_identities(schema, headers)
    for node in nodes(schema):
        if "file" in node and not (node["__id__"] and node["file"] == f"{node['__id__']}.npy" in headers):
            raise ValueError("an array is not in the member of its name")  # else one member could be read many times
        if node["__loader__"] == "TreeNode":
            _check_tree(node, headers)
        elif node["__loader__"] == "LossNode" and node["content"]["content"]:
            raise ValueError("a loss has a state, beside its arguments")
        elif node["__loader__"] == "ObjectNode" and node["__module__"] in COMPILED:
            _check_state(node, headers)


def _check_identities(schema: dict[str, Any], headers: Headers) -> None:
    """Refuse different things under one identity: skops would build the first in place of the others.

    What is left unfolds to no more than is written: nothing holds itself, or names a part in fewer words.
    """
    numbers: dict[Any, int] = {}  # of everything that is written, equal ones once
    known: dict[Any, int] = {}  # by identity

    def number(part: Any) -> int:
        key: Any = (type(part), part)
        if isinstance(part, list):
            key = tuple([number(item) for item in part])
        if isinstance(part, dict):  # arrays that look alike are alike here: an estimator copies some when it is saved
            file = part.get("file")
            shown = part | {"file": str(headers.get(file))} if isinstance(file, str) else part
            key = tuple([(name, number(item)) for name, item in shown.items() if name != "__id__"])
        found = numbers.setdefault(key, len(numbers))
        if isinstance(part, dict) and "__id__" in part and known.setdefault(part["__id__"], found) != found:
            raise ValueError("two parts have one identity")
        return found

    number(schema)


def _check_tree(node: dict[str, Any], headers: Headers) -> None:
    """Compare the counts of a decision tree with the shapes of its arrays."""
    if node["content"]["__loader__"] != "DictNode":
        raise ValueError("a decision tree has no state")
    state = node["content"]["content"]
    n_features, classes, n_outputs = node["__reduce__"]["args"]["content"]
    _count(n_features), _count(state["max_depth"])
    rows, outputs = _count(state["node_count"]), _count(n_outputs)
    arrays = [_header(array, headers) for array in (state["nodes"], state["values"], classes)]
    (nodes_shape, nodes_type), (values_shape, values_type), (classes_shape, classes_type) = arrays
    shaped = (nodes_shape, values_shape[:-1], classes_shape) == ((rows,), (rows, outputs), (outputs,))
    if not shaped or (nodes_type.names, values_type.kind, classes_type.kind) != (NODE_DTYPE.names, "f", "i"):
        raise ValueError("a decision tree has arrays of foreign shapes")


def _check_state(node: dict[str, Any], headers: Headers) -> None:
    """Compare the state of a compiled object with that of a new one: as many parts, and arrays for arrays."""
    kind = getattr(import_module(node["__module__"]), node["__class__"])
    fresh, parts = kind.__new__(kind).__getstate__(), node["content"]["content"]
    if node["content"]["__loader__"] != "TupleNode" or len(parts) != len(fresh):
        raise ValueError(f"a {kind.__name__} has a foreign state")
    for wanted, part in zip(fresh[:SAMPLE_WEIGHT], parts, strict=False):
        if isinstance(wanted, np.ndarray) and len(_header(part, headers)[0]) != wanted.ndim:
            raise ValueError(f"a {kind.__name__} has an array of another number of axes")


def _header(node: dict[str, Any], headers: Headers) -> tuple[tuple[int, ...], np.dtype]:
    if node["__class__"] != "ndarray" or node.get("file") not in headers:
        raise ValueError(f"a tree or a distance has a {node['__class__']} in place of an array")
    return headers[node["file"]]


def _count(node: dict[str, Any]) -> int:
    number = json.loads(node["content"])
    if node["__loader__"] != "JsonNode" or type(number) is not int or not 0 <= number < 1 << 62:
        raise ValueError(f"a decision tree has a count of {number}")
    return number


def check_built(parts: Iterable[Any]) -> None:
    """Refuse indices that compiled code would follow out of bounds; build neighbor trees anew from their points.

    Parameters
    ----------
    parts : iterable
        Everything inside an estimator.

    Raises
    ------
    ValueError
        If an index leads outside.
    """
    for part in parts:
        if isinstance(part, Tree) and not _is_sound(part):
            raise ValueError("it holds a decision tree whose indices lead outside it")
        if isinstance(part, BaseDecisionTree | BaseForest | IsolationForest) and not _same_features(part):
            raise ValueError("it holds a forest whose trees take other features than it")
        if isinstance(part, BallTree | KDTree):  # the same points make the same tree
            data, _, _, _, leaf_size, *_, metric, _ = part.__getstate__()
            part.__setstate__(type(part)(data, leaf_size=leaf_size, metric=metric).__getstate__())
        if isinstance(part, NeighborsBase) and hasattr(part, "_fit_X") and not _same_rows(part):
            raise ValueError("it holds neighbors whose targets are others than their points'")
        if isinstance(part, np.random.RandomState) and not _is_inside(part):
            raise ValueError("it holds a random state whose position is outside it")


def _is_inside(state: np.random.RandomState) -> bool:
    """Check the place in the Mersenne twister's words, which NumPy follows without looking."""
    return 0 <= state.get_state(legacy=False)["state"]["pos"] <= TWISTER_WORDS


def _same_features(part: Any) -> bool:
    """Check that trees read no further than the rows they are given are long."""
    if isinstance(part, BaseDecisionTree):
        return not hasattr(part, "tree_") or part.tree_.n_features == part.n_features_in_
    width = getattr(part, "_max_features", getattr(part, "n_features_in_", None))
    chosen = getattr(part, "estimators_features_", [])
    trees = getattr(part, "estimators_", [])
    return all(tree.n_features_in_ == width for tree in trees) and all(len(some) == width for some in chosen)


def _same_rows(part: Any) -> bool:
    """Check that points are as long as the rows to come, and have a target each: votes are counted by known classes."""
    points = part._fit_X
    if points.ndim != 2 or points.shape[1] != part.n_features_in_:
        return False
    targets = getattr(part, "_y", points)
    voting = isinstance(part, KNeighborsClassifier) and not part.outputs_2d_
    known = not voting or (targets.min() >= 0 and targets.max() < len(part.classes_))
    return len(targets) == len(points) and known


def _is_sound(tree: Tree) -> bool:
    """Check the indices that compiled code follows without looking: children come later, features exist."""
    if not 1 <= tree.node_count == tree.capacity:
        return False
    children = np.stack([tree.children_left, tree.children_right])
    leaf = (children == -1).all(axis=0)
    later = ((children > np.arange(tree.node_count)) & (children < tree.node_count)).all(axis=0)
    known = (tree.feature >= 0) & (tree.feature < tree.n_features)
    if not (leaf | later & known).all():
        return False
    depth, level = -1, np.zeros(1, dtype=np.intp)
    while level.size:
        depth, level = depth + 1, np.unique(children[:, level[~leaf[level]]])
    return depth == tree.max_depth
