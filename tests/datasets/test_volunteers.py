"""Laws of the simulated volunteers."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skastro.datasets import galaxies as universe
from skastro.datasets import make_survey
from skastro.datasets.volunteers import cast_votes, vote_probabilities
from skastro.votes import VoteSchema, get_schema

NAMES = ["simulated", "gz_rings"]
each_schema = pytest.mark.parametrize("name", NAMES)
TINY = {"bands": "r", "size": 4, "random_state": 5}


@pytest.fixture(scope="module")
def galaxies():
    return universe.population(400, seed=3)


@each_schema
def test_images_do_not_depend_on_what_is_asked(name):
    plain, asked = make_survey(6, size=16, random_state=1), make_survey(6, size=16, schema=name, random_state=1)
    assert plain.images.tobytes() == asked.images.tobytes()
    assert set(asked) - set(plain) == {"votes", "vote_probabilities"}
    for key in ("target", "redshift", "magnitudes", "properties"):
        assert_array_equal(plain[key], asked[key])
    assert asked.DESCR.startswith(plain.DESCR)
    assert "no person saw these galaxies" in asked.DESCR.removeprefix(plain.DESCR)


def test_without_a_schema_no_more_is_drawn_than_before():
    """Of a generator that is handed in: two seeds."""
    mine, reference = np.random.RandomState(0), np.random.RandomState(0)
    make_survey(2, bands="r", size=4, random_state=mine)
    reference.randint(2**31, size=2)
    assert mine.randint(2**31) == reference.randint(2**31)


@each_schema
def test_same_seed_same_votes_and_the_global_generator_is_left_alone(name):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (make_survey(40, **TINY, schema=name).votes for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(make_survey(40, **(TINY | {"random_state": 6}), schema=name).votes)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@each_schema
@pytest.mark.parametrize("n_volunteers", [(5, 40), (0, 3), 10])
def test_larger_survey_begins_with_the_smaller(name, n_volunteers):
    small, large = (make_survey(n, **TINY, schema=name, n_volunteers=n_volunteers) for n in (9, 31))
    pd.testing.assert_frame_equal(large.votes[:9], small.votes)
    pd.testing.assert_frame_equal(large.vote_probabilities[:9], small.vote_probabilities)


@each_schema
def test_votes_do_not_depend_on_the_telescope(name):
    first = make_survey(9, bands="gi", size=4, noise=0, seeing=0, schema=name, random_state=5)
    pd.testing.assert_frame_equal(first.votes, make_survey(9, **TINY, schema=name).votes)


@each_schema
@pytest.mark.parametrize("n_volunteers", [(5, 40), (0, 3), [7, 7], 10])
def test_volunteers_walk_down_the_tree_of_one_campaign(name, n_volunteers):
    schema = get_schema(name)
    votes = make_survey(60, **TINY, schema=name, n_volunteers=n_volunteers).votes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schema.validate(votes, n=60)
    totals = schema.totals(votes)
    for question, pairs in schema.parents.items():
        if pairs:
            assert_array_equal(totals[question], sum(votes[f"{parent}_{answer}"] for parent, answer in pairs))
    campaigns = {root: root.rpartition("-")[2] for root in schema.roots}
    shown = totals[schema.roots].T.groupby(campaigns).max().T
    assert ((shown > 0).sum(axis=1) <= 1).all()
    assert shown.sum(axis=1).between(np.min(n_volunteers), np.max(n_volunteers)).all()
    assert (shown > 0).any().all()
    for campaign in shown:
        roots = [root for root in schema.roots if campaigns[root] == campaign]
        assert (totals[roots].eq(shown[campaign], axis=0)).all(axis=None)


@each_schema
def test_probabilities_sum_to_one_and_are_never_certain(name, galaxies):
    schema = get_schema(name)
    for block in schema.by_question(vote_probabilities(galaxies, schema)).values():
        assert_allclose(block.sum(axis=1), 1)
        assert (block > 0.05 / (2 * block.shape[1])).all(axis=None)


@each_schema
def test_many_volunteers_have_the_probabilities_for_fractions(name, galaxies):
    schema = get_schema(name)
    probabilities = vote_probabilities(galaxies, schema)
    votes = cast_votes(probabilities, schema, 5000, seed=0)
    asked = np.repeat(schema.totals(votes).to_numpy(), schema.sizes, axis=1)
    spread = np.sqrt(probabilities * (1 - probabilities) / np.maximum(asked, 1))
    pull = ((schema.fractions(votes) - probabilities) / spread).to_numpy()[asked > 100]
    assert np.abs(pull).max() < 6
    assert abs(pull.mean()) < 0.1
    assert abs(pull.std() - 1) < 0.1


def test_the_formula_written_slowly():
    galaxy = universe.population(1, seed=0).assign(bar=0.3, redshift=0.12)
    flux = universe.fluxes(galaxy, np.array([6231.0]), np.array([2.285])).sum()
    r, z = 22.5 - 2.5 * np.log10(flux), 0.12
    confusion = 0.05 + 0.45 / (1 + np.exp(-((r - 18) / 0.8 + (z - 0.1) / 0.05)))
    expected = [(1 - confusion) + confusion / 2, confusion / 2]
    given = vote_probabilities(galaxy, VoteSchema({"bar": ["yes", "no"]}))
    assert_allclose(given.to_numpy()[0], expected)


@pytest.mark.parametrize("worse", [{"redshift": 0.25}, {"log_mass": 9.0}])
def test_far_and_faint_galaxies_confuse(worse, galaxies):
    near = galaxies.assign(redshift=0.05, log_mass=10.6)
    rings = get_schema("gz_rings")
    clear, confused = (vote_probabilities(sample, rings).max(axis=1) for sample in (near, near.assign(**worse)))
    assert (confused < clear).all()


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("elliptical", "smooth-or-featured-first_smooth"),
        ("spiral", "has-spiral-arms-first_yes"),
        ("barred spiral", "bar-second_yes"),
        ("edge-on", "disk-edge-on-first_yes"),
        ("merger", "merging-second_yes"),
        ("ring", "ring_yes"),
    ],
)
def test_each_kind_is_seen_for_what_it_is(kind, answer, galaxies):
    schema = get_schema("simulated") + get_schema("gz_rings")
    of_kind = galaxies["target"] == universe.KINDS.index.get_loc(kind)
    says_so = vote_probabilities(galaxies, schema)[answer] > 0.5
    assert says_so[of_kind].mean() > 0.95


def test_ten_volunteers_find_the_rings():
    sky = make_survey(400, **TINY, schema="gz_rings", n_volunteers=10)
    majority = sky.votes["ring_yes"] > sky.votes["ring_no"]
    truth = sky.target_names[sky.target] == "ring"
    assert 0.95 < (majority == truth).mean() <= 1


def test_pretraining_votes_never_ask_about_rings():
    assert not any("ring" in question for question in get_schema("simulated").questions)


def test_a_campaign_of_ones_own():
    schema = VoteSchema(
        {"bar-mine": ["no", "yes"], "merging-mine": ["yes", "no"]}, {"merging-mine": ("bar-mine", "no")}
    )
    sky = make_survey(30, **TINY, schema=schema, n_volunteers=8)
    assert list(sky.votes.columns) == schema.columns
    assert_array_equal(sky.votes[["bar-mine_no", "bar-mine_yes"]].sum(axis=1), np.full(30, 8))
    theirs = make_survey(30, **TINY, schema="simulated").vote_probabilities
    assert_array_equal(sky.vote_probabilities["bar-mine_yes"], theirs["bar-second_yes"])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"schema": "rings"}, "Unknown schema 'rings'; known are gz2"),
        ({"schema": 3}, "The 'schema' parameter of make_survey"),
        ({"schema": VoteSchema({"bar": ["yes"]})}, "Question 'bar' must have a list of at least two answers"),
        (
            {"schema": "gz2"},
            "volunteers answer 'smooth-or-featured-gz2' with featured, smooth; got smooth, featured-or-",
        ),
        (
            {"schema": VoteSchema({"odd": ["yes", "no"]})},
            "volunteers cannot answer 'odd'; they know smooth-or-featured",
        ),
        ({"n_volunteers": -1}, "n_volunteers must be a whole number or two in ascending order, from 0; got -1"),
        ({"n_volunteers": (5, 3)}, "n_volunteers must be a whole number or two in ascending order"),
        ({"n_volunteers": (1, 2, 3)}, "n_volunteers must be a whole number or two in ascending order"),
        ({"n_volunteers": (1.5, 2)}, "n_volunteers must be a whole number or two in ascending order"),
        ({"n_volunteers": 1.5}, "The 'n_volunteers' parameter of make_survey"),
    ],
)
def test_what_cannot_be_simulated_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_survey(2, **(TINY | {"schema": "gz_rings"} | wrong))
