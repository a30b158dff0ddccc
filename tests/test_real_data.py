"""What real data and processes bring, over every estimator that trains: the same numbers, or one clear sentence."""

import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from estimators import IMAGE_EMBEDDERS, tiny
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from skastro import (
    AstroCLIPEmbedder,
    FineTuneClassifier,
    FineTuneRegressor,
    FixedImageEmbedder,
    FixedSpectrumEmbedder,
    FlowPosterior,
    ImageEncoder,
    MaskedSpectrumEmbedder,
    Training,
)
from skastro.preprocessing import Deredden

pytestmark = pytest.mark.filterwarnings("ignore:No image has a vote")

FP32 = Training(precision="fp32")
ENCODER = ImageEncoder("test_resnet")
TUNERS = [
    FineTuneClassifier(ENCODER, max_epochs=1, batch_size=32, random_state=0),
    FineTuneRegressor(ENCODER, max_epochs=1, batch_size=32, random_state=0),
]
OF_IMAGES = [*(tiny(cls, random_state=0) for cls in [*IMAGE_EMBEDDERS, FixedImageEmbedder]), *TUNERS]
OF_SPECTRA = [tiny(cls, random_state=0) for cls in (MaskedSpectrumEmbedder, FixedSpectrumEmbedder)]


def name_of(estimator):
    return type(estimator).__name__


@pytest.fixture(params=OF_IMAGES, ids=name_of)
def images(request):
    """An estimator of images, not fitted."""
    return clone(request.param)


@pytest.fixture(params=OF_SPECTRA, ids=name_of)
def spectra(request):
    """An embedder of spectra, not fitted."""
    return clone(request.param)


@pytest.fixture(scope="module")
def sky():
    """Images of 3 bands in two classes, and spectra of the same objects."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    X = rng.normal(size=(40, 3, 32, 32)) + 3 * y[:, None, None, None] * np.hanning(32)[:, None]
    flux = 5 + rng.normal(size=(40, 80)) + y[:, None] * np.linspace(0, 3, 80)
    return SimpleNamespace(X=X.astype(np.float32), y=y, z=0.1 + 0.2 * y + 0.01 * rng.normal(size=40), flux=flux)


def fitted(estimator, X, sky, **metadata):
    target = sky.z if isinstance(estimator, FineTuneRegressor) else sky.y
    return clone(estimator).fit(X, target, **metadata)


def answer(model, X, **metadata):
    if hasattr(model, "transform"):
        return model.transform(X, **metadata)
    return (model.predict_proba if is_classifier(model) else model.predict)(X, **metadata)


def in_new_process(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------- one bad row


def with_star(X, times, row=7):
    X = X.copy()
    X[row, :, 14:18, 14:18] = X.max() * times
    return X


def test_a_saturated_star_is_told_and_harms_neither_statistics_nor_batch_norm(images, sky):
    with pytest.warns(UserWarning, match="1 of 40 images have values .* the first is row 7") as caught:
        model = fitted(images, with_star(sky.X, 1e4), sky)
    assert len([w for w in caught if "far out" in str(w.message)]) == 1
    plain = fitted(images, sky.X, sky)
    for (name, star), ordinary in zip(
        model.encoder_.named_buffers(), dict(plain.encoder_.named_buffers()).values(), strict=True
    ):
        if name.endswith("running_var"):
            assert float((star.median() / ordinary.median()).clamp(min=1)) < 2
    learned, usual = ((m if hasattr(m, "normalizer_") else m.embedder_).normalizer_ for m in (model, plain))
    np.testing.assert_allclose(learned["std"], usual["std"], rtol=0.05)


def test_accuracy_with_a_star_is_that_without(sky):
    y = np.arange(160) % 2
    X = np.random.default_rng(1).normal(size=(160, 1, 24, 24))
    X[y == 1] += 6 * np.hanning(24)[:, None] * np.hanning(24)
    tuner = FineTuneClassifier("test_resnet", max_epochs=6, batch_size=16, lr=2e-3, random_state=0, training=FP32)

    def accuracy(Z):
        with warnings.catch_warnings(action="ignore"):
            return tuner.fit(Z[:100], y[:100]).score(X[100:], y[100:])

    assert accuracy(X) == 1
    assert min(accuracy(with_star(X, times)) for times in (10, 1000)) >= 0.97


def test_a_cosmic_ray_that_flattens_its_spectrum_is_told(spectra, sky):
    flux = sky.flux.copy()
    flux[[4, 9], 11] = 1e5
    with warnings.catch_warnings(record=True, action="always") as told:
        fitted(spectra, flux, sky)
    assert any("2 of 40 spectra have one pixel" in str(w.message) and "row 4" in str(w.message) for w in told)
    flux[[4, 9], 11] = np.nan
    with warnings.catch_warnings(action="error"):
        fitted(spectra, flux, sky)


# ---------------------------------------------------------------- missing


def test_masked_images_are_refused_as_nan_is(images, sky):
    masked = np.ma.masked_greater(np.where(sky.X > 3.5, 1e6, sky.X), 1e5)
    with pytest.raises(ValueError, match=f"X has {masked.mask.sum()} NaN or infinite pixels in images 0 to 39"):
        fitted(images, masked, sky)
    model = fitted(images, sky.X, sky)
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        answer(model, masked)


@pytest.mark.parametrize("missing", ["mask", "null", "ivar"])
def test_missing_pixels_of_spectra_are_nan_whatever_stands_there(spectra, missing, sky):
    gaps = np.zeros(sky.flux.shape, dtype=bool)
    gaps[:, 30:40] = True
    blank, ivar = np.where(gaps, np.nan, sky.flux), {}
    if missing == "mask":
        given = np.ma.masked_array(np.where(gaps, 1e4, sky.flux), gaps)
    elif missing == "null":
        given = pl.DataFrame(np.where(gaps, np.nan, sky.flux)).fill_nan(None)
    else:
        given, ivar = np.where(gaps, np.inf, sky.flux), {"ivar": np.where(gaps, 0.0, 1.0)}
        given[:, 35] = -1e300
    model, plain = fitted(spectra, given, sky, **ivar), fitted(spectra, blank, sky)
    assert model.floor_ == plain.floor_
    np.testing.assert_array_equal(answer(model, given, **ivar), answer(plain, blank))


def test_a_masked_inverse_variance_is_zero(spectra, sky):
    gaps = np.zeros(sky.flux.shape, dtype=bool)
    gaps[:, 30:40] = True
    masked = np.ma.masked_array(np.where(gaps, -99.0, 1.0), gaps)
    model, plain = (
        fitted(spectra, sky.flux, sky, ivar=masked),
        fitted(spectra, sky.flux, sky, ivar=np.where(gaps, 0.0, 1.0)),
    )
    np.testing.assert_array_equal(answer(model, sky.flux, ivar=masked), answer(plain, sky.flux, ivar=masked.filled(0)))


def test_a_masked_row_is_a_missing_modality(sky):
    flux = np.ma.masked_array(sky.flux, mask=False)
    flux[:6] = np.ma.masked
    model = tiny(AstroCLIPEmbedder, random_state=0).fit(sky.X, flux)
    assert model.n_pairs_ == 34
    assert np.isnan(model.transform(sky.X, flux)[1][:6]).all()
    X = np.ma.masked_array(sky.X, mask=False)
    X[30:] = np.ma.masked
    assert clone(model).fit(X, flux).n_pairs_ == 24


# ---------------------------------------------------------------- units


def test_images_in_any_unit_train_alike(images, sky):
    X = sky.X.astype(np.float64)
    plain = answer(fitted(images, X, sky), X)
    for unit in (1e-30, 1e40):
        np.testing.assert_allclose(answer(fitted(images, X * unit, sky), X * unit), plain, rtol=1e-5, atol=1e-5)
    assert plain.std(axis=0).mean() > 0


@pytest.mark.parametrize("normalize", ["standard", "asinh"])
@pytest.mark.parametrize("unit", [1e-17, 1e22])
def test_units_that_float32_rounds_otherwise_train_nearly_alike(unit, normalize, sky):
    tuner = clone(TUNERS[0]).set_params(training=FP32, normalize=normalize)
    X = sky.X.astype(np.float64)
    plain, other = answer(fitted(tuner, X, sky), X), answer(fitted(tuner, X * unit, sky), X * unit)
    np.testing.assert_allclose(other, plain, atol=1e-3)


@pytest.mark.parametrize("unit", [1e-30, 1e-17, 1e40])
def test_spectra_in_any_unit_train_alike(spectra, unit, sky):
    spectra.set_params(training=FP32)
    ivar = np.full(sky.flux.shape, 4.0)
    plain = answer(fitted(spectra, sky.flux, sky, ivar=ivar), sky.flux, ivar=ivar)
    scaled = {"ivar": ivar / unit**2}
    other = answer(fitted(spectra, sky.flux * unit, sky, **scaled), sky.flux * unit, **scaled)
    np.testing.assert_allclose(other, plain, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- containers and layout

CONTAINERS = {
    "list": list,
    "column": lambda X: pd.Series(list(X), index=range(100, 100 + len(X))),
    "polars": lambda X: pl.Series(values=X, dtype=pl.Array(pl.Float32, X.shape[1:])),
    "tensor": torch.tensor,
    "big-endian": lambda X: X.astype(">f4"),
    "unmasked": np.ma.masked_array,
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_any_container_gives_the_same(container, sky):
    images, spectra = (tiny(cls, random_state=0) for cls in (FixedImageEmbedder, FixedSpectrumEmbedder))
    flux = sky.flux.astype(np.float32)
    for estimator, X in ((images, sky.X), (spectra, flux), (TUNERS[0], sky.X)):
        plain, other = fitted(estimator, X, sky), fitted(estimator, container(X), sky)
        np.testing.assert_array_equal(answer(other, container(X)), answer(plain, X))


def test_images_of_two_sizes_are_refused_in_one_sentence(images, sky):
    with pytest.raises(ValueError, match=r"X has rows of several shapes, such as .*: cut or pad them to one size"):
        fitted(images, [*sky.X[:20], *sky.X[20:, :1]], sky)


def test_spectra_of_two_lengths_are_refused_in_one_sentence(spectra, sky):
    with pytest.raises(ValueError, match=r"X has rows of several shapes, such as .*: resample them onto one grid"):
        fitted(spectra, [*sky.flux[:20], *sky.flux[20:, :70]], sky)


def test_bands_last_are_read_when_said_and_refused_when_not(images, sky):
    plain = fitted(images, sky.X[:, :, :, :28], sky)
    last = np.moveaxis(sky.X[:, :, :, :28], 1, -1)
    model = fitted(clone(images).set_params(bands_axis=-1), last, sky)
    np.testing.assert_array_equal(answer(model, last), answer(plain, sky.X[:, :, :, :28]))
    rows = clone(images).set_params(bands_axis=-1, image_shape=(3, 32, 28))
    np.testing.assert_array_equal(
        answer(fitted(rows, last.reshape(40, -1), sky), last.reshape(40, -1)), answer(plain, sky.X[:, :, :, :28])
    )
    with pytest.raises(ValueError, match=r"shape \(40, 32, 28, 3\) looks to have its bands last: .* bands_axis=-1"):
        fitted(images, last, sky)


# ---------------------------------------------------------------- state of the process


DROPPING = FineTuneClassifier(ImageEncoder("test_resnet", drop_path=0.5), max_epochs=1, batch_size=16)
CLIP, FLOW = tiny(AstroCLIPEmbedder), tiny(FlowPosterior)
TRAINED = {name_of(estimator): estimator for estimator in [*OF_IMAGES, *OF_SPECTRA, CLIP, FLOW]}
TRAINED["stochastic depth"] = DROPPING


def fit_and_answer(name, seed, sky):
    """Fit an estimator by a seed, and let it answer."""
    model = clone(TRAINED[name]).set_params(random_state=seed)
    if name == "AstroCLIPEmbedder":
        return model.fit(sky.X, sky.flux).transform(sky.X)
    if name == "FlowPosterior":
        return model.fit(sky.flux[:, :3], sky.z).predict(sky.flux[:, :3])
    X = sky.flux if name in map(name_of, OF_SPECTRA) else sky.X
    return answer(fitted(model, X, sky), X)


@pytest.mark.parametrize("name", TRAINED)
def test_fits_in_threads_equal_those_one_after_another(name, sky):
    fit = partial(fit_and_answer, name, sky=sky)
    alone = [fit(0), fit(1)]
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(fit, (0, 1)))
    np.testing.assert_array_equal(beside, alone)
    assert not np.array_equal(alone[0], alone[1])


@pytest.fixture
def strange_state():
    """Torch in a state that other code may have left it in; restored afterwards."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def usual(sky):
    return {name: fit_and_answer(name, 0, sky) for name in TRAINED}


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.usefixtures("strange_state")
def test_any_global_state_of_torch_gives_the_same_numbers(name, usual, sky):
    state = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.get_num_threads()
    np.testing.assert_array_equal(fit_and_answer(name, 0, sky), usual[name])
    assert state == (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
    )


@pytest.mark.usefixtures("strange_state")
def test_a_pickle_is_read_in_any_global_state_of_torch(sky):
    model = fitted(OF_IMAGES[0], sky.X, sky)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(sky.X), model.transform(sky.X))


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_images_pass_as_arrays_whatever_container_rows_come_in(container, sky):
    ebv = np.full(40, 0.1)

    def pipe():
        return make_pipeline(Deredden("legacy"), tiny(IMAGE_EMBEDDERS[0], random_state=0), LogisticRegression())

    with config_context(enable_metadata_routing=True):
        plain = pipe().fit(sky.X, sky.y, ebv=ebv)
        told = pipe().set_output(transform=container).fit(sky.X, sky.y, ebv=ebv)
        rows, expected = (model[:-1].transform(sky.X, ebv=ebv) for model in (told, plain))
        np.testing.assert_array_equal(np.asarray(rows), expected)
        # scikit-learn solves in float64 where rows come from polars, else in float32.
        answers, expected = (model.predict_proba(sky.X, ebv=ebv) for model in (told, plain))
        np.testing.assert_allclose(answers, expected, rtol=1e-3)
        told.set_output(transform=container)  # fitted too
        assert isinstance(told[0].transform(sky.X, ebv=ebv), np.ndarray)
    with config_context(enable_metadata_routing=True, transform_output=container):
        model = pipe().fit(sky.X, sky.y, ebv=ebv)
        np.testing.assert_allclose(model.predict_proba(sky.X, ebv=ebv), answers, rtol=1e-5)
        rows = Deredden("legacy").set_output(transform=container).fit(sky.X[:, :, 0, 0])
        assert type(rows.transform(sky.X[:, :, 0, 0], ebv=ebv)).__module__.startswith(container)


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_a_container_asked_for_everywhere_changes_no_number(container, sky):
    clip = tiny(AstroCLIPEmbedder, random_state=0)
    tuner = FineTuneClassifier(FrozenEstimator(fitted(OF_IMAGES[0], sky.X, sky)), max_epochs=1, random_state=0)
    plain = clone(clip).fit(sky.X, sky.flux).transform(sky.X), clone(tuner).fit(sky.X, sky.y).predict_proba(sky.X)
    with config_context(transform_output=container):
        embedding = clone(clip).fit(sky.X, sky.flux).transform(sky.X)
        np.testing.assert_array_equal(np.asarray(embedding), plain[0])
        np.testing.assert_array_equal(clone(tuner).fit(sky.X, sky.y).predict_proba(sky.X), plain[1])


def test_tensors_under_array_api_dispatch_are_read_as_arrays():
    out = in_new_process(
        """
import numpy as np, sklearn, torch, warnings
from skastro import MaskedSpectrumEmbedder, SimCLREmbedder, SpectrumEncoder
rng = np.random.default_rng(0)
X, S = rng.normal(size=(24, 1, 32, 32)).astype("f4"), rng.normal(size=(24, 80)).astype("f4")
emb = SimCLREmbedder("test_resnet", max_epochs=1, batch_size=16, random_state=0)
spec = MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=16), max_epochs=1, random_state=0)
plain = emb.fit(X).transform(X), spec.fit(S).transform(S)
with sklearn.config_context(array_api_dispatch=True):
    T, U = torch.tensor(X), torch.tensor(S)
    print(np.array_equal(emb.fit(T).transform(T), plain[0]), np.array_equal(spec.fit(U).transform(U), plain[1]))
""",
        SCIPY_ARRAY_API="1",
    )
    assert out.split() == ["True", "True"]


def test_a_forked_pool_works_after_a_fit_on_two_threads():
    out = in_new_process(
        """
import multiprocessing as mp
import numpy as np
from skastro import SimCLREmbedder
X = np.random.default_rng(0).normal(size=(48, 1, 32, 32)).astype("f4")
emb = SimCLREmbedder("test_resnet", max_epochs=1, batch_size=16, random_state=0).fit(X)
alone = emb.transform(X)
def embed(rows): return emb.transform(X[rows])
def again(seed): return emb.set_params(random_state=seed).fit(X).transform(X).shape
with mp.get_context("fork").Pool(2) as pool:  # its workers are daemons
    parts = pool.map_async(embed, [slice(0, 24), slice(24, 48)]).get(60)
    print(np.allclose(np.concatenate(parts), alone, atol=1e-5), pool.map_async(again, [0, 1]).get(60))
""",
        OMP_NUM_THREADS="2",
    )
    assert out.startswith("True [(48, 736), (48, 736)]")


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("estimator", [OF_IMAGES[0], TUNERS[0], OF_SPECTRA[0]], ids=name_of)
def test_an_interrupt_before_training_loses_nothing(estimator, sky, monkeypatch):
    X = sky.flux if estimator is OF_SPECTRA[0] else sky.X
    model = fitted(estimator, X, sky)
    before, state = answer(model, X), dict(vars(model))
    monkeypatch.setattr(type(model), "_train", interrupt)
    target = sky.y
    monkeypatch.setattr("skastro.modalities.base.feature_width", interrupt)
    monkeypatch.setattr("skastro.downstream.tuning.feature_width", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:20] * 3, target[:20])
    assert vars(model) == state
    np.testing.assert_array_equal(answer(model, X), before)


@pytest.mark.parametrize("estimator", [OF_IMAGES[0], TUNERS[0], OF_SPECTRA[0]], ids=name_of)
def test_an_interrupt_before_the_first_step_loses_nothing(estimator, sky, monkeypatch):
    X = sky.flux if estimator is OF_SPECTRA[0] else sky.X
    model = fitted(estimator, X, sky)
    before, state = answer(model, X), dict(vars(model))
    monkeypatch.setattr("skastro.training.loop.ArrayDataset", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X[:20] * 3, sky.y[:20])
    assert vars(model) == state
    np.testing.assert_array_equal(answer(model, X), before)


def test_an_interrupted_first_fit_before_training_is_not_fitted(images, sky, monkeypatch):
    monkeypatch.setattr("skastro.modalities.images.learn_pixels", interrupt)
    with pytest.raises(KeyboardInterrupt):
        images.fit(sky.X, sky.y)
    with pytest.raises(Exception, match="not fitted"):
        check_is_fitted(images)
