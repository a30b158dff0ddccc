"""Laws of vote schemas, for every campaign, and the trees' counts as published."""

import pickle
import subprocess
import sys
from html.parser import HTMLParser

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone

import skastro
from skastro.votes import SCHEMAS, VoteSchema, get_schema

each_schema = pytest.mark.parametrize("name", SCHEMAS)
COUNTS = {
    "gz2": (10, 30),
    "gz_decals_dr12": (10, 30),
    "gz_decals_dr5": (10, 34),
    "gz_decals_dr8": (10, 34),
    "gz_desi": (10, 34),
    "gz_hubble": (12, 34),
    "gz_hubble_v2": (9, 28),
    "gz_candels": (11, 32),
    "gz_cosmic_dawn": (13, 45),
    "gz_euclid": (13, 46),
    "gz_jwst": (12, 39),
    "gz_jwst_cosmos": (11, 36),
    "gz_ukidss": (10, 30),
    "gz_rings": (1, 2),
    "simulated": (10, 24),
    "gz_evo": (65, 206),
    "gz_evo_public": (63, 194),
}
FEW = VoteSchema(
    {"shape": ["smooth", "disc", "star"], "bar": ["yes", "no"], "odd": ["yes", "no"]},
    {"bar": ("shape", "disc"), "odd": [("shape", "smooth"), ("shape", "disc")]},
)
VOTES = np.array([[2, 7, 1, 6, 1, 0, 9], [0, 0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 5, 0]])


def walk(schema, n=6, volunteers=7, seed=0):
    """Counts of volunteers who each walk down the tree, one at a time."""
    rng = np.random.default_rng(seed)
    votes = np.zeros((n, schema.n_answers), dtype=int)
    came = np.zeros((n, schema.n_questions), dtype=int)
    place = {name: i for i, name in enumerate(schema.columns)}
    numbers = {question: i for i, question in enumerate(schema.questions)}
    for i in range(n):
        for _ in range(volunteers):
            given = set()
            for question, pairs in schema.parents.items():
                if not pairs or given.intersection(pairs):
                    answer = rng.choice(list(schema.questions[question]))
                    given.add((question, str(answer)))
                    votes[i, place[f"{question}_{answer}"]] += 1
                    came[i, numbers[question]] += 1
    return votes, came


# The campaigns


@pytest.mark.parametrize("name", COUNTS)
def test_published_numbers_of_questions_and_answers(name):
    schema = get_schema(name)
    assert (schema.n_questions, schema.n_answers) == COUNTS[name]
    assert len(schema.sizes) == schema.n_questions
    assert sum(schema.sizes) == len(schema.columns) == len(set(schema.columns))


def test_every_campaign_is_counted():
    assert set(COUNTS) == set(SCHEMAS)


SMOOTH_OR_FEATURED = [("smooth-or-featured", "smooth"), ("smooth-or-featured", "featured-or-disk")]


@pytest.mark.parametrize(
    ("name", "question", "parents"),
    [
        ("gz2", "bar-gz2", [("disk-edge-on-gz2", "no")]),
        ("gz2", "has-spiral-arms-gz2", [("disk-edge-on-gz2", "no")]),
        ("gz2", "bulge-size-gz2", [("disk-edge-on-gz2", "no")]),
        ("gz2", "how-rounded-gz2", [("smooth-or-featured-gz2", "smooth")]),
        ("gz_ukidss", "bulge-shape-ukidss", [("disk-edge-on-ukidss", "yes")]),
        ("gz_desi", "merging", SMOOTH_OR_FEATURED),
        ("gz_decals_dr12", "merging-dr12", [(f"{parent}-dr12", answer) for parent, answer in SMOOTH_OR_FEATURED]),
        ("gz_hubble", "spiral-winding-hubble", [("has-spiral-arms-hubble", "yes")]),
        ("gz_hubble", "disk-edge-on-hubble", [("clumpy-appearance-hubble", "no")]),
        ("gz_hubble_v2", "disk-edge-on-hubble", [("smooth-or-featured-hubble", "features")]),
        ("gz_candels", "spiral-arm-count-candels", [("has-spiral-arms-candels", "yes")]),
        ("gz_evo", "clump-count-candels", [("clumpy-appearance-candels", "yes")]),
        ("gz_cosmic_dawn", "artifact-cd", [("problem-cd", "artifact")]),
        ("gz_jwst", "clumps-jwst", []),
        ("gz_rings", "ring", []),
    ],
)
def test_published_trees(name, question, parents):
    assert get_schema(name).parents[question] == parents


def test_columns_are_named_as_in_the_catalogs():
    assert get_schema("gz_decals_dr5").columns[-4:] == [
        "merging-dr5_none",
        "merging-dr5_minor-disturbance",
        "merging-dr5_major-disturbance",
        "merging-dr5_merger",
    ]
    first, second = (get_schema(name).columns for name in ("gz_decals_dr12", "gz_decals_dr5"))
    assert get_schema("gz_evo").columns[: len(first + second)] == first + second


def test_the_public_tables_lack_the_clumps_of_the_paper():
    paper, public = (get_schema(name).questions for name in ("gz_evo", "gz_evo_public"))
    assert [question for question in paper if question not in public] == ["clump-count-candels", "clump-count-hubble"]
    assert public.items() <= paper.items()


@each_schema
def test_a_schema_is_plain_values_and_the_table_is_never_handed_out(name):
    before = joblib.hash(SCHEMAS[name])
    assert joblib.hash(clone(SCHEMAS[name])) == joblib.hash(get_schema(name)) == before
    get_schema(name).set_params(dependencies=None).questions.clear()
    assert joblib.hash(SCHEMAS[name]) == before


@each_schema
def test_names_of_columns_hold_the_whole_schema_but_its_tree(name):
    schema = get_schema(name)
    read = VoteSchema.from_columns(schema.columns, schema.dependencies)
    assert {question: tuple(answers) for question, answers in read.questions.items()} == schema.questions
    assert read.columns == VoteSchema.from_columns(pd.DataFrame(columns=schema.columns)).columns == schema.columns
    assert read.parents == schema.parents


@each_schema
def test_copies_and_files_give_the_same_schema(name, tmp_path):
    schema = get_schema(name)
    skastro.save(schema, tmp_path / "schema.skastro")
    for copy in (pickle.loads(pickle.dumps(schema)), skastro.load(tmp_path / "schema.skastro")):
        assert repr(copy) == repr(schema)
        assert (copy.columns, copy.parents, copy.roots) == (schema.columns, schema.parents, schema.roots)
        assert joblib.hash(copy) == joblib.hash(schema)


def test_a_hash_sees_the_order_of_the_columns():
    turned = VoteSchema(dict(reversed(FEW.questions.items())), FEW.dependencies)
    assert joblib.hash(turned) != joblib.hash(FEW)


def test_an_unknown_schema_is_refused_with_the_list():
    assert get_schema(FEW) is FEW
    for unknown in ("gz3", None, 3):
        with pytest.raises(ValueError, match=r"Unknown schema .*; known are gz2, .*, or give a VoteSchema"):
            get_schema(unknown)


def test_importing_votes_loads_no_torch():
    code = "import sys, skastro.votes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The tree


@each_schema
def test_parents_stand_before_those_that_wait_for_them(name):
    schema = get_schema(name)
    seen = []
    for question, pairs in schema.parents.items():
        assert {parent for parent, _ in pairs} <= set(seen)
        assert all(answer in schema.questions[parent] for parent, answer in pairs)
        seen.append(question)
    assert sorted(seen) == sorted(schema.questions)
    assert schema.roots == [question for question in schema.questions if not schema.parents[question]] != []


@each_schema
def test_the_picture_of_the_tree_names_each_question_once(name):
    schema = get_schema(name)
    title, *lines = repr(schema).splitlines()
    assert title == f"VoteSchema of {schema.n_questions} questions with {schema.n_answers} answers"
    assert sorted(line.split(":")[0].split(",")[0].strip() for line in lines) == sorted(schema.questions)
    depth = {line.split(":")[0].split(",")[0].strip(): len(line) - len(line.lstrip()) for line in lines}
    for question, pairs in schema.parents.items():
        assert depth[question] == (depth[pairs[0][0]] + 2 if pairs else 0)


class Balance(HTMLParser):
    """Checks that what opens is closed, and collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@each_schema
def test_html_has_the_lines_of_the_text(name):
    schema = get_schema(name)
    parser = Balance()
    parser.feed(schema._repr_html_())
    assert not parser.open
    assert parser.text == [line.strip() for line in repr(schema).splitlines()]
    assert schema._repr_mimebundle_() == {"text/plain": repr(schema), "text/html": schema._repr_html_()}


def test_text_of_a_tree():
    assert repr(FEW).splitlines()[1:] == [
        "shape: smooth, disc, star",
        "  bar, if disc: yes, no",
        "  odd, if smooth or disc: yes, no",
    ]
    across = VoteSchema({"a": ["x", "y"], "b": ["x", "y"], "c": ["x<", "y"]}, {"c": [("a", "x"), ("b", "y")]})
    assert "  c, if x or b = y: x<, y" in repr(across)
    assert "x&lt;, y" in across._repr_html_()


class Holder(BaseEstimator):
    def __init__(self, schema=None):
        self.schema = schema


def test_an_estimator_may_hold_one():
    holder = Holder(get_schema("gz_evo"))
    assert str(holder).startswith("Holder(schema=VoteSchema(")
    assert "VoteSchema" in holder._repr_html_()
    assert clone(holder).schema.columns == holder.schema.columns
    assert holder.set_params(schema__dependencies=None).schema.roots == list(holder.schema.questions)


@pytest.mark.parametrize("malformed", [None, {}, {"a": "yes"}, {"a": ["x"]}])
def test_a_malformed_schema_can_still_be_looked_at(malformed):
    schema = VoteSchema(malformed)
    assert repr(schema) == f"VoteSchema(questions={malformed!r})"
    assert "VoteSchema" in schema._repr_html_()


@pytest.mark.parametrize(
    ("questions", "dependencies", "sentence"),
    [
        (None, None, "questions must be a mapping from at least one question to its answers; got None"),
        ({}, None, "questions must be a mapping from at least one question"),
        ({"a": "yes"}, None, "Question 'a' must have a list of at least two answers; got 'yes'"),
        ({"a": ["yes"]}, None, "Question 'a' must have a list of at least two answers"),
        ({"a": 2}, None, "Question 'a' must have a list of at least two answers; got 2"),
        ({"a": [1, 2]}, None, "Questions and answers must be strings"),
        ({"a": ["x", "y", "x"]}, None, "Question 'a' has the answer 'x' twice"),
        ({"a": ["b_x", "y"], "a_b": ["x", "y"]}, None, "Two answers have the same column name, 'a_b_x'"),
        ({"a": ["x", "y"]}, [], "dependencies must be a mapping"),
        ({"a": ["x", "y"]}, {"b": ("a", "x")}, "dependencies has 'b', which is not a question"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": None}, "dependency of 'b' must be .parent, answer. or a list"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": []}, "dependency of 'b' must be"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": "a_x"}, "dependency of 'b' must be"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": ("a",)}, "dependency of 'b' must be"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": [("a", "x"), None]}, "dependency of 'b' must be"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": [1, 2]}, "dependency of 'b' must be"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": ["ab", "cd"]}, "depends on 'ab', which is not a question"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": ("c", "x")}, "Question 'b' depends on 'c', which is not a question"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"b": ("a", "z")}, "depends on 'z', which is not an answer to 'a'"),
        ({"a": ["x", "y"]}, {"a": ("a", "x")}, "depend on each other in a circle: a → a"),
        ({"a": ["x", "y"], "b": ["x", "y"]}, {"a": ("b", "x"), "b": ("a", "x")}, "in a circle: . → . → ."),
    ],
)
def test_a_malformed_schema_is_refused_by_everything_that_computes(questions, dependencies, sentence):
    schema = VoteSchema(questions, dependencies)
    computes = [
        schema.check,
        *(lambda name=name: getattr(schema, name) for name in ("columns", "sizes", "n_answers", "parents", "roots")),
        *(
            lambda name=name: getattr(schema, name)(np.zeros((1, 4)))
            for name in ("validate", "totals", "fractions", "entropy", "labeled", "asked", "by_question")
        ),
        lambda: schema + FEW,
        lambda: FEW + schema,
    ]
    for compute in computes:
        with pytest.raises(ValueError, match=sentence):
            compute()


def test_names_that_cannot_be_split_are_refused():
    with pytest.raises(ValueError, match="columns must be named question_answer; 'id' has no underscore"):
        VoteSchema.from_columns(["id", "bar_yes", "bar_no"])
    with pytest.raises(ValueError, match="Question 'arms_more_than' has one answer, '4': names are split at the last"):
        VoteSchema.from_columns(["arms_one", "arms_two", "arms_more_than_4"])
    with pytest.raises(ValueError, match="The columns of a question must stand side by side"):
        VoteSchema.from_columns(["a_x", "b_x", "a_y", "b_y"])
    with pytest.raises(ValueError, match="Question 'a' has the answer 'x' twice"):
        VoteSchema.from_columns(["a_x", "a_x"])


def test_schemas_add_up():
    both = FEW + get_schema("gz2")
    assert both.columns == FEW.columns + get_schema("gz2").columns
    assert both.parents == FEW.parents | get_schema("gz2").parents
    with pytest.raises(ValueError, match="must not share a question; both have 'shape'"):
        FEW + FEW
    with pytest.raises(TypeError):
        FEW + 1


# Votes


@each_schema
def test_numbers_are_those_of_slow_loops(name):
    schema = get_schema(name)
    votes, came = walk(schema)
    votes[1] = came[1] = 0
    totals, fractions, entropy = schema.totals(votes), schema.fractions(votes), schema.entropy(votes)
    for i, row in enumerate(votes):
        answers = iter(range(schema.n_answers))
        for q, size in enumerate(schema.sizes):
            columns = [next(answers) for _ in range(size)]
            total = sum(row[a] for a in columns)
            assert totals[i, q] == total == came[i, q]
            expected = [row[a] / total if total else np.nan for a in columns]
            assert_allclose(fractions[i, columns], expected)
            assert_allclose(
                entropy[i, q], -sum(f * np.log(f) for f in expected if f > 0) if total else np.nan, atol=1e-12
            )
    assert_array_equal(schema.labeled(votes), [i != 1 for i in range(len(votes))])


@each_schema
def test_probability_of_being_asked_is_the_share_who_came(name):
    schema = get_schema(name)
    votes, came = walk(schema, volunteers=9)
    assert_allclose(schema.asked(schema.fractions(votes)), came / 9, atol=1e-12)


@each_schema
def test_roots_are_always_asked_and_nan_leads_nowhere(name):
    schema = get_schema(name)
    asked = schema.asked(np.full((2, schema.n_answers), np.nan))
    assert_array_equal(asked, [[float(question in schema.roots) for question in schema.questions]] * 2)


def test_probability_of_being_asked_is_at_most_one():
    either = VoteSchema({"a": ["x", "y"], "b": ["x", "y"], "c": ["x", "y"]}, {"c": [("a", "x"), ("b", "x")]})
    assert_allclose(either.asked([[0.9, 0.1, 0.8, 0.2, 0, 0], [0.2, 0.8, 0.1, 0.9, 0, 0]])[:, 2], [1.0, 0.3])
    for wrong in (-0.1, 1.1, np.inf):
        with pytest.raises(ValueError, match=r"fractions must lie between 0 and 1; 1 of 6 are not, .* column 'b_y'"):
            either.asked([[0.5, 0.5, 0.5, wrong, 0.5, 0.5]])


def test_published_example_of_a_tree():
    """Half say featured, half of those face on, half of those spiral: an eighth is asked how tight the arms are."""
    schema = get_schema("gz_desi")
    halves = np.full((1, schema.n_answers), 0.5)
    asked = dict(zip(schema.questions, schema.asked(halves)[0], strict=True))
    assert asked["disk-edge-on"] == 0.5
    assert asked["has-spiral-arms"] == asked["edge-on-bulge"] == 0.25
    assert asked["spiral-winding"] == 0.125
    assert asked["merging"] == 1


@each_schema
def test_tables_are_matched_by_name_and_keep_their_index(name):
    schema = get_schema(name)
    votes, _ = walk(schema)
    table = pd.DataFrame(votes, columns=schema.columns, index=[f"galaxy {i}" for i in range(len(votes))])
    shuffled = table.sample(frac=1, axis=1, random_state=0)
    assert_array_equal(schema.validate(shuffled), votes)
    assert_array_equal(schema.labeled(shuffled), schema.labeled(votes))
    for method, names in [("totals", schema.questions), ("fractions", schema.columns), ("entropy", schema.questions)]:
        given = getattr(schema, method)(shuffled)
        assert list(given.index) == list(table.index)
        assert list(given.columns) == list(names)
        assert_array_equal(given, getattr(schema, method)(votes))
    fractions = schema.fractions(shuffled)
    assert_array_equal(schema.asked(fractions.iloc[:, ::-1]), schema.asked(fractions.to_numpy()))
    assert list(schema.asked(fractions).columns) == list(schema.questions)


@each_schema
@pytest.mark.parametrize("kind", ["array", "tensor", "table", "passes"])
def test_a_split_puts_together_again(name, kind):
    schema = get_schema(name)
    votes, _ = walk(schema, n=2)
    given = {
        "array": votes,
        "tensor": torch.from_numpy(votes),
        "table": pd.DataFrame(votes, columns=schema.columns).iloc[:, ::-1],
        "passes": votes[np.newaxis],
    }[kind]
    blocks = schema.by_question(given)
    assert list(blocks) == list(schema.questions)
    assert tuple(block.shape[-1] for block in blocks.values()) == schema.sizes
    assert {type(block) for block in blocks.values()} == {type(given)}
    assert_array_equal(np.concatenate([np.asarray(block) for block in blocks.values()], axis=-1).reshape(2, -1), votes)


def test_a_split_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"values must have 7 columns; the shape is \(2, 3\)"):
        FEW.by_question(np.zeros((2, 3)))


@pytest.mark.parametrize("dtype", [bool, "uint8", ">i4", "float32", object, "Int64"])
def test_whole_numbers_of_every_type_pass(dtype):
    table = pd.DataFrame(VOTES, columns=FEW.columns)
    if dtype == "Int64":
        given, expected = table.astype(dtype), VOTES
    else:
        given = VOTES.astype(dtype)
        expected = given.astype(np.int64)
    counts = FEW.validate(given, n=3)
    assert counts.dtype == np.int64
    assert_array_equal(counts, expected)
    assert not np.shares_memory(counts, np.asarray(given))


@pytest.mark.parametrize("as_table", [False, True])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "votes must be finite, and zero where nobody was asked; 2 of 21 are not, the first in row 1"),
        (np.inf, "votes must be finite"),
        (-1, "votes must be at least 0; 2 of 21 are not, the first in row 1, column 'bar_no'"),
        (0.5, "votes must be whole numbers; 2 of 21 are not, the first in row 1, column 'bar_no'"),
    ],
)
def test_what_is_no_count_is_refused_with_its_place(value, sentence, as_table):
    votes = VOTES.astype(float)
    votes[1:, 4] = value
    given = pd.DataFrame(votes, columns=FEW.columns) if as_table else votes
    for method in (FEW.validate, FEW.totals, FEW.fractions, FEW.entropy, FEW.labeled):
        with pytest.raises(ValueError, match=sentence):
            method(given)


def test_missing_values_of_a_table_are_refused():
    table = pd.DataFrame(VOTES, columns=FEW.columns).astype("Int64")
    table.iloc[2, 0] = pd.NA
    with pytest.raises(ValueError, match=r"votes must be finite.* 1 of 21 are not, the first in row 2"):
        FEW.validate(table)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (VOTES[:, :-1], r"votes must have 7 columns, one per answer of the schema; the shape is \(3, 6\)"),
        (VOTES[0], r"the shape is \(7,\)"),
        ([[1, 2], [3]], "votes must be a table of numbers"),
        ([["x"] * 7], "votes must be a table of numbers"),
        (pd.DataFrame(VOTES, columns=FEW.columns).drop(columns="bar_no"), "they came without bar_no"),
        (pd.DataFrame(VOTES, columns=FEW.columns).assign(id=1), "they came with id"),
        (pd.DataFrame(VOTES), "came without shape_smooth, shape_disc, shape_star and 4 more and with 0, 1, 2 and 4"),
        (pd.DataFrame(VOTES, columns=FEW.columns)[[*FEW.columns, "bar_no"]], "votes has the column 'bar_no' twice"),
    ],
)
def test_other_tables_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        FEW.validate(given)


def test_another_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="votes must have a row for each of the 5 objects; they have 3 rows"):
        FEW.validate(VOTES, n=5)


def test_answers_to_questions_that_nobody_came_to_are_one_warning():
    votes = VOTES.copy()
    votes[1:, 4:] = 1
    with pytest.warns(UserWarning, match="3 times a question has votes though .* first is 'bar' in row 1") as found:
        FEW.validate(votes)
    assert len(found) == 1
    assert found[0].filename == __file__


def test_more_votes_than_led_to_a_question_are_told_unless_few_rows_have_them():
    disc = np.arange(2, 42)
    votes = np.stack([45 - disc, disc, disc // 2, disc - disc // 2], axis=1)
    schema = VoteSchema({"shape": ["smooth", "disc"], "bar": ["yes", "no"]}, {"bar": ("shape", "disc")})
    schema.validate(votes)
    few, many = votes.copy(), votes.copy()
    few[:4, 2] += 1
    schema.validate(few)
    schema.validate(few[:5])
    many[3:, [0, 1]] = votes[3:, [1, 0]]  # swapped
    with pytest.warns(UserWarning, match=r"^'bar' has more votes than .* lead to it in 19 rows, the first is row 21\."):
        schema.validate(many)


def test_schemas_ask_for_no_metadata():
    assert not hasattr(VoteSchema, "set_split_request")
