"""Zoobot whole: encoder and head of one checkpoint give its concentrations, and fine-tuning goes on from both."""

import ast
import json

import numpy as np
import pytest
import torch
from checkpoints import checkpoint, difference, fixture, needs_fixtures

import skastro
from skastro import FineTuneClassifier, ImageEncoder
from skastro.downstream import DirichletHead
from skastro.losses import dirichlet_multinomial_nll

# The fixture's votes are random numbers, for questions that nobody came to as well.
pytestmark = [needs_fixtures, pytest.mark.filterwarnings("ignore:.*a question has votes though")]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    npz = fixture("zoobot_tree")
    told = json.loads(str(npz["hyper_parameters"]))
    told["question_answer_pairs"] = ast.literal_eval(str(told["question_answer_pairs"]))
    file = tmp_path_factory.mktemp("zoobot") / "zoobot.ckpt"
    torch.save({**checkpoint(npz), "hyper_parameters": told}, file)
    return str(file)


def zoobot(path, schema="gz_decals_dr5", **kwargs):
    encoder = ImageEncoder("efficientnet_b0", pool="avg", weights=path)
    settings = {"head_norm": None, "normalize": None, "max_epochs": 0, "batch_size": 2, "augment": None} | kwargs
    return FineTuneClassifier(encoder, head=DirichletHead(schema, weights=path), random_state=0, **settings)


def test_it_predicts_the_concentrations_of_the_original(path, tmp_path):
    npz = fixture("zoobot_tree")
    model = zoobot(path).fit(npz["input"], npz["votes"])
    assert difference(model.predict_concentrations(npz["input"]), npz["output"]) < 1e-5
    assert list(model.classes_) == npz["answers"].tolist()
    skastro.save(model, tmp_path / "zoobot.skastro")
    again = skastro.load(tmp_path / "zoobot.skastro")
    np.testing.assert_array_equal(again.predict_proba(npz["input"]), model.predict_proba(npz["input"]))


def test_the_loss_of_its_votes_is_the_originals():
    npz = fixture("zoobot_tree")
    sizes = [int(end - start + 1) for start, end in npz["question_index_groups"]]
    concentrations, votes = (torch.from_numpy(npz[name]).double() for name in ("output64", "votes"))
    loss = dirichlet_multinomial_nll(concentrations, votes, sizes, reduction="none")
    assert difference(loss.numpy(), npz["loss"]) < 1e-6


def test_fine_tuning_goes_on_from_its_last_layers(path):
    npz = fixture("zoobot_tree")
    model = zoobot(path, n_layers=1, max_epochs=1, lr=1e-3).fit(npz["input"], npz["votes"])
    moved = difference(model.predict_concentrations(npz["input"]), npz["output"])
    assert 1e-5 < moved < 0.5


def test_a_head_for_other_votes_is_refused(path):
    npz = fixture("zoobot_tree")
    with pytest.raises(ValueError, match=r"gives 34 answers \(smooth-or-featured-dr5_smooth, .* are for 2 \(ring_yes"):
        zoobot(path, "gz_rings").fit(npz["input"], [[8, 2], [1, 9]])
    with pytest.raises(ValueError, match=r"gives 34 answers .* are for 34 .*smooth-or-featured-dr8"):
        zoobot(path, "gz_decals_dr8").fit(npz["input"], npz["votes"])
    with pytest.raises(ValueError, match="set head_norm=None"):
        zoobot(path, head_norm="layer").fit(npz["input"], npz["votes"])


def test_a_checkpoint_without_a_head_is_refused(path, tmp_path):
    npz = fixture("zoobot_tree")
    kept = {name: value for name, value in checkpoint(npz)["state_dict"].items() if name.startswith("encoder")}
    torch.save({"state_dict": kept}, tmp_path / "encoder.ckpt")
    model = zoobot(path).set_params(head__weights=str(tmp_path / "encoder.ckpt"))
    with pytest.raises(ValueError, match=r"not those of this head: 2 missing \(weight, bias\)"):
        model.fit(npz["input"], npz["votes"])
