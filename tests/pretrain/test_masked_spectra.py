"""The embedder of spectra: masks, what is missing, and the promises of every embedder."""

import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skastro import FineTuneClassifier, MaskedSpectrumEmbedder, SpectrumEncoder, Training, load, save
from skastro.pretrain.masked import MaskedSpectrum, Masks

TINY = {"n_masks": 2, "mask_length": 15, "max_epochs": 1, "batch_size": 8, "random_state": 0}


@pytest.fixture(scope="module")
def sky():
    """Two kinds of spectra, 24 rows of 100 pixels: a broad line here or there; gaps, zeros, and unequal errors."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    x = np.arange(100)
    sigma = rng.uniform(0.05, 0.3, (24, 100))
    lines = np.exp(-0.5 * ((x - np.array([30, 65])[y][:, None]) / 8) ** 2)
    X = rng.uniform(1, 5, (24, 1)) * (2 + lines) + sigma * rng.normal(size=(24, 100))
    ivar = sigma**-2
    X[3, :20], X[4, 50], ivar[5, 70:80] = np.nan, 0.0, 0.0
    return SimpleNamespace(X=X, y=y, ivar=ivar)


@pytest.fixture
def embedder():
    return MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=16), **TINY)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize(
    ("width", "count", "length", "hidden"),
    [(7781, 6, 310, 1860), (1000, 6, 60, 360), (100, 6, 60, 50), (100, 6, 20, 40), (2, 6, 60, 1), (1, 6, 60, 1)],
)
def test_masks_are_shortened_where_they_would_hide_more_than_half(width, count, length, hidden):
    flux = torch.ones(50, width)
    same, masks = Masks(count, length, torch.Generator().manual_seed(0))(flux)
    assert same is flux
    assert (masks.sum(dim=1) == hidden).all()
    assert width < 3 or len(masks.unique(dim=0)) > 1


def test_the_loss_is_that_of_hidden_pixels_and_sees_no_others():
    """The encoder gets nothing of what is hidden or missing, and the loss takes nothing of what is missing or shown."""

    class Spy(torch.nn.Module):
        def tokens(self, flux, seen, level):
            self.got = flux, seen
            return torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)

        def pool(self, tokens, mask):
            return tokens[:, 0]

        def split(self, pixels):
            return pixels.unfold(1, 20, 10)

    flux, weights = torch.arange(60.0).view(2, 30) + 1, torch.ones(2, 30)
    hidden = torch.zeros(2, 30, dtype=torch.bool)
    hidden[0, 5:8], weights[0, 7], weights[0, 5] = True, 0.0, 3.0
    objective = MaskedSpectrum(Spy(), torch.nn.Linear(4, 20, bias=False))
    loss = objective(flux, hidden, weights, torch.zeros(2, 2))
    shown, seen = objective.encoder.got
    assert torch.equal(seen, (weights > 0) & ~hidden)
    assert torch.equal(shown, flux * seen)
    assert loss.item() == pytest.approx((3 * 6**2 + 1 * 7**2) / 4)


def test_a_batch_without_anything_to_predict_costs_nothing():
    encoder = SpectrumEncoder(depth=1, width=16).build(30)
    objective = MaskedSpectrum(encoder, torch.nn.Linear(16, 20))
    hidden = torch.zeros(2, 30, dtype=torch.bool)
    loss = objective(torch.ones(2, 30), hidden, torch.ones(2, 30), torch.zeros(2, 2))
    loss.backward()
    assert loss.item() == 0
    assert encoder.embed.weight.grad.isfinite().all()


# ---------------------------------------------------------------- what is missing


def test_missing_is_missing_however_it_is_said(embedder, sky):
    """NaN, an inverse variance of zero, or both; what stands there then does not matter."""
    embedder.fit(sky.X, ivar=sky.ivar)
    gap, no_weight, garbage = sky.X.copy(), sky.ivar.copy(), sky.X.copy()
    gap[:, 40:50], no_weight[:, 40:50], garbage[:, 40:50] = np.nan, 0.0, 1e9
    rows = embedder.transform(gap, ivar=sky.ivar)
    for X, ivar in ((sky.X, no_weight), (garbage, no_weight), (gap, no_weight)):
        np.testing.assert_array_equal(embedder.transform(X, ivar=ivar), rows)
    assert not np.allclose(embedder.transform(sky.X, ivar=sky.ivar), rows)


@pytest.mark.filterwarnings("ignore:24 of 24 spectra have values")  # of ten standard deviations
def test_zero_is_a_value(embedder, sky):
    zero, gap = sky.X.copy(), sky.X.copy()
    zero[:, 40:50], gap[:, 40:50] = 0.0, np.nan
    embedder.fit(sky.X)
    assert not np.allclose(embedder.transform(zero), embedder.transform(gap))


def test_inverse_variance_counts_within_a_spectrum_only(embedder, sky):
    rows = embedder.fit_transform(sky.X, ivar=sky.ivar)
    brighter = clone(embedder).fit_transform(sky.X, ivar=sky.ivar * np.arange(1, 25)[:, None])
    np.testing.assert_allclose(brighter, rows, atol=1e-4)
    assert not np.allclose(clone(embedder).fit_transform(sky.X), rows, atol=1e-3)
    equal = clone(embedder).fit_transform(sky.X, ivar=np.full_like(sky.X, 3.0))
    np.testing.assert_allclose(equal, clone(embedder).fit_transform(sky.X), atol=1e-4)


@pytest.mark.parametrize("unit", [1e-17, 1e10])
def test_the_unit_of_the_flux_does_not_matter(embedder, sky, unit):
    embedder.set_params(training=Training(precision="fp32"))
    rows = embedder.fit_transform(sky.X, ivar=sky.ivar)
    same = clone(embedder).fit_transform(sky.X * unit, ivar=sky.ivar / unit**2)
    np.testing.assert_allclose(same, rows, atol=1e-3)


def test_the_floor_keeps_what_is_nearly_constant_small(embedder, sky):
    X = sky.X.copy()
    X[7] = 1 + 1e-6 * np.arange(100) % 2
    embedder.fit(X)
    std = np.nanstd(X, axis=1)
    assert embedder.floor_ == pytest.approx(0.1 * np.median(std))
    assert np.abs(embedder.inputs(X)["flux"][7]).max() < 1e-3


@pytest.mark.parametrize("width", [1, 2, 5, 19, 21, 33])
def test_short_spectra_are_padded(width, sky):
    X = sky.X[:, :width].copy()
    X[:4] = sky.X[:4, 25 : 25 + width]
    assert MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=16), **TINY).fit_transform(X).shape == (24, 32)


# ---------------------------------------------------------------- learning


def test_hidden_lines_are_predicted_from_the_rest(sky):
    """Two lines whose heights go together: the second, hidden, is told by the first."""
    rng = np.random.default_rng(1)
    x, height = np.arange(100), rng.choice([-1.0, 1.0], (300, 1))
    X = height * (np.exp(-0.5 * ((x - 25) / 6) ** 2) + np.exp(-0.5 * ((x - 75) / 6) ** 2))
    X = X + 0.05 * rng.normal(size=X.shape)
    embedder = MaskedSpectrumEmbedder(
        SpectrumEncoder(depth=2, width=32), n_masks=2, mask_length=25, max_epochs=25, lr=3e-3, random_state=0
    )
    embedder.fit(X[:250])
    assert embedder.history_["loss"][-1] < 0.5 * embedder.history_["loss"][0]
    gap = X[250:].copy()
    gap[:, 60:90] = np.nan
    filled = embedder.reconstruct(gap)
    np.testing.assert_array_equal(filled[:, :60], X[250:, :60])
    assert np.mean((filled - X[250:])[:, 60:90] ** 2) < 0.3 * np.mean(X[250:, 60:90] ** 2)


def test_reconstruction_fills_what_is_missing_and_leaves_the_rest(embedder, sky):
    X = np.hstack([sky.X, sky.X[:, :5]])  # five pixels at the end belong to no token
    X[8, -2:], X[9, 10:20] = np.nan, np.nan
    filled = embedder.fit(X).reconstruct(X)
    there = ~np.isnan(X)
    np.testing.assert_array_equal(filled[there], X[there])
    assert np.isfinite(filled[:, :100]).all()
    assert np.isnan(filled[8, -2:]).all()


# ---------------------------------------------------------------- composition


def test_in_a_pipeline_a_search_and_frozen(embedder, sky):
    pipe = make_pipeline(embedder, LogisticRegression())
    grid = {"maskedspectrumembedder__encoder__depth": [1, 2], "maskedspectrumembedder__training__weight_decay": [0.0]}
    assert len(GridSearchCV(pipe, grid, cv=2).fit(sky.X, sky.y).cv_results_["params"]) == 2
    before = joblib.hash(embedder.fit(sky.X))
    cross_val_score(make_pipeline(FrozenEstimator(embedder), LogisticRegression()), sky.X, sky.y, cv=2)
    assert joblib.hash(embedder) == before


def test_nested_parameters_reach_the_default_encoder_and_leave_other_defaults():
    embedder = MaskedSpectrumEmbedder().set_params(encoder__depth=6, encoder__width=768, encoder__heads=6)
    assert embedder.encoder.depth == 6
    assert MaskedSpectrumEmbedder().encoder is None


def test_inverse_variance_is_routed_without_a_request(embedder, sky):
    rows = embedder.fit_transform(sky.X, ivar=sky.ivar)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(clone(embedder), LogisticRegression()).fit(sky.X, sky.y, ivar=sky.ivar)
        direct = LogisticRegression().fit(rows, sky.y).predict_proba(rows)
        np.testing.assert_allclose(pipe.predict_proba(sky.X, ivar=sky.ivar), direct, atol=1e-6)


def test_set_output_names_the_columns(embedder, sky):
    frame = embedder.set_output(transform="pandas").fit_transform(sky.X, ivar=sky.ivar)
    assert list(frame.columns[:1]) == ["maskedspectrumembedder0"]
    assert frame.shape == (24, 32)


# ---------------------------------------------------------------- numbers


def test_same_seed_same_numbers_and_the_users_generators_stay(embedder, sky):
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (clone(embedder).fit(sky.X, ivar=sky.ivar) for _ in range(2))
    rows = first.transform(sky.X)
    np.testing.assert_array_equal(rows, second.transform(sky.X))
    assert rows.dtype == np.float32
    assert not np.array_equal(rows, clone(embedder).set_params(random_state=1).fit_transform(sky.X, ivar=sky.ivar))
    assert torch.equal(states[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_rows_do_not_depend_on_their_neighbors(embedder, sky):
    whole = embedder.fit(sky.X).set_params(batch_size=256).transform(sky.X, ivar=sky.ivar)
    for batch_size in (2, 7):
        rows = embedder.set_params(batch_size=batch_size).transform(sky.X, ivar=sky.ivar)
        np.testing.assert_allclose(rows, whole, atol=1e-5)
    alone = [embedder.transform(sky.X[[i]], ivar=sky.ivar[[i]]) for i in range(24)]
    np.testing.assert_allclose(np.concatenate(alone), whole, atol=1e-5)


def test_state_is_numbers_and_files_and_pickles_answer_the_same(embedder, sky, tmp_path):
    def leaves(value):
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list | tuple) else [value]

    rows, filled = embedder.fit(sky.X).transform(sky.X), embedder.reconstruct(sky.X)
    plain = (np.ndarray, np.generic, int, float, str, type(None), SpectrumEncoder)
    assert all(isinstance(leaf, plain) for leaf in leaves(embedder.__getstate__()))
    save(embedder, tmp_path / "spectra.skastro")
    for again in (pickle.loads(pickle.dumps(embedder)), load(tmp_path / "spectra.skastro")):
        np.testing.assert_array_equal(again.transform(sky.X), rows)
        np.testing.assert_array_equal(again.reconstruct(sky.X), filled)
    assert joblib.hash(pickle.loads(pickle.dumps(embedder))) == joblib.hash(embedder)


def test_regions_tell_where_a_line_is_and_survive_a_file(sky, tmp_path):
    """The pooling takes no part in training: the same weights, other features, also in fine-tuning and files."""
    flux, ivar, y = sky.X, sky.ivar, sky.y
    encoder = SpectrumEncoder(depth=1, width=16, pool="regions")
    embedder = MaskedSpectrumEmbedder(encoder, **TINY).fit(flux, ivar=ivar)
    usual = MaskedSpectrumEmbedder(clone(encoder).set_params(pool="avgmax"), **TINY).fit(flux, ivar=ivar)
    weights = zip(embedder.encoder_.parameters(), usual.encoder_.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in weights)
    rows = embedder.transform(flux, ivar=ivar)
    assert rows.shape == (24, 10 * 16)
    save(embedder, tmp_path / "regions.skastro")
    np.testing.assert_array_equal(load(tmp_path / "regions.skastro").transform(flux, ivar=ivar), rows)
    tuned = FineTuneClassifier(FrozenEstimator(embedder), max_epochs=1, random_state=0).fit(flux, y, ivar=ivar)
    assert tuned.predict_proba(flux, ivar=ivar).shape == (24, 2)


def test_pickle_answers_the_same_in_a_new_process_on_other_threads(embedder, sky, tmp_path):
    joblib.dump((embedder.fit(sky.X), sky.X), tmp_path / "model.pkl")
    code = (
        "import sys, joblib, numpy as np; embedder, X = joblib.load(sys.argv[1] + '/model.pkl');"
        "np.save(sys.argv[1] + '/rows.npy', embedder.transform(X))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"OMP_NUM_THREADS": "2"}, check=True, timeout=300
    )
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), embedder.transform(sky.X), atol=1e-5)


def test_parameters_set_after_fit_do_not_touch_what_was_learned(embedder, sky):
    rows = embedder.fit(sky.X).transform(sky.X)
    embedder.set_params(encoder=SpectrumEncoder(width=32), floor=3.0, n_masks=1)
    np.testing.assert_array_equal(embedder.transform(sky.X), rows)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(sky.X), rows)


def test_history_has_one_value_per_epoch_and_none_untrained(embedder, sky):
    history = embedder.set_params(max_epochs=3).fit(sky.X).history_
    assert {"loss", "lr", "samples_per_s", "embedding_std", "effective_rank"} <= history.keys()
    assert all(len(values) == 3 and np.isfinite(values).all() for values in history.values())
    assert len(embedder.set_params(max_epochs=0).fit(sky.X).history_["loss"]) == 0
    assert embedder.transform(sky.X).shape == (24, 32)


def test_interrupt_keeps_what_was_learned(embedder, sky, monkeypatch):
    from skastro.training import callbacks

    def stop(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.ScheduleCallback, "on_epoch_begin", stop)
    with pytest.raises(KeyboardInterrupt):
        embedder.set_params(max_epochs=5).fit(sky.X)
    assert len(embedder.history_["loss"]) == 1
    assert embedder.transform(sky.X).shape == (24, 32)


@pytest.mark.gpu
def test_cuda_learns_and_its_state_answers_the_same_on_the_cpu(embedder, sky):
    rows = embedder.set_params(device="cuda").fit(sky.X, ivar=sky.ivar).transform(sky.X)
    np.testing.assert_allclose(embedder.set_params(device="cpu").transform(sky.X), rows, atol=1e-4)


# ---------------------------------------------------------------- refusals


def changed(array, value, where=(5, 3)):
    array = array.copy()
    array[where] = value
    return array


REFUSALS = [
    (lambda X, ivar: (changed(X, np.nan, 6), None), {}, r"1 of 24 spectra have nothing but missing .* first is row 6"),
    (lambda X, ivar: (X, changed(ivar, 0.0, 6)), {}, r"1 of 24 spectra have nothing but missing .* first is row 6"),
    (lambda X, ivar: (X, changed(ivar, -1.0)), {}, r"ivar has 1 values that are negative.* the first in row 5"),
    (lambda X, ivar: (X, changed(ivar, np.nan)), {}, r"ivar has 1 values that are negative, NaN"),
    (lambda X, ivar: (X, ivar[:, :99]), {}, r"ivar of shape \(24, 99\) does not go with X of shape \(24, 100\)"),
    (
        lambda X, ivar: ([X[0], X[1, :90]], None),
        {},
        r"X has rows of several shapes, such as \(90,\) and \(100,\): resample them",
    ),
    (lambda X, ivar: (changed(X, np.inf), None), {}, r"Input X contains infinity"),
]
UNFIT = [
    (lambda X, ivar: (np.ones_like(X), None), {}, r"All 24 spectra are constant"),
    (lambda X, ivar: (X[:1], None), {}, r"1 sample"),
    (lambda X, ivar: (X, None), {"floor": 0.0}, r"The 'floor' parameter of MaskedSpectrumEmbedder"),
    (lambda X, ivar: (X, None), {"n_masks": 0}, r"The 'n_masks' parameter of MaskedSpectrumEmbedder"),
    (lambda X, ivar: (X, None), {"encoder": "resnet18"}, r"The 'encoder' parameter of MaskedSpectrumEmbedder"),
    (lambda X, ivar: (X, None), {"encoder": SpectrumEncoder(heads=3)}, r"divisible by heads=3"),
    (lambda X, ivar: (X, None), {"training": Training(clip=-1.0)}, r"The 'clip' parameter of Training"),
    (lambda X, ivar: (X, None), {"device": "abacus"}, r"Unknown device 'abacus'"),
]


@pytest.mark.parametrize(("change", "params", "sentence"), REFUSALS + UNFIT)
def test_bad_input_is_one_sentence_before_training(embedder, sky, change, params, sentence, monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    X, ivar = change(sky.X, sky.ivar)
    with pytest.raises(ValueError, match=sentence):
        embedder.set_params(**params).fit(X, ivar=ivar)


@pytest.mark.parametrize(("change", "params", "sentence"), REFUSALS)
@pytest.mark.parametrize("method", ["transform", "reconstruct"])
def test_bad_input_after_fit(embedder, sky, method, change, params, sentence):
    X, ivar = change(sky.X, sky.ivar)
    with pytest.raises(ValueError, match=sentence):
        getattr(embedder.fit(sky.X), method)(X, ivar=ivar)


def test_spectra_of_another_length_are_refused_and_a_refused_refit_loses_nothing(embedder, sky):
    rows = embedder.fit(sky.X).transform(sky.X)
    with pytest.raises(ValueError, match="X has 90 features, but MaskedSpectrumEmbedder is expecting 100"):
        embedder.transform(sky.X[:, :90])
    with pytest.raises(ValueError, match="constant"):
        embedder.fit(np.ones((4, 50)))
    np.testing.assert_array_equal(embedder.transform(sky.X), rows)


# ---------------------------------------------------------------- real spectra


def test_real_supernovae_are_learned_from(shared_data):
    with np.load(shared_data / "sn_spectra.npz") as data:
        flux = np.where(data["flux"] == 0, np.nan, data["flux"])[::4]
    embedder = MaskedSpectrumEmbedder(
        SpectrumEncoder(depth=1, width=32, stride=20), max_epochs=6, batch_size=32, lr=3e-3, random_state=0
    ).fit(flux)
    assert embedder.history_["loss"][-1] < 0.9 * embedder.history_["loss"][0]
    assert np.isfinite(embedder.transform(flux)).all()


def test_real_quasars_have_bad_pixels_that_do_not_matter(shared_data):
    with np.load(shared_data / "sdss_qso_epochs.npz") as data:
        flux, ivar = data["flux"][:12], data["ivar"][:12]
    embedder = MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=16), max_epochs=1, random_state=0)
    rows = embedder.fit_transform(flux, ivar=ivar)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(embedder.transform(np.where(ivar > 0, flux, 1e6), ivar=ivar), rows)
