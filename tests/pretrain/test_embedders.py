"""Our own battery on 4-D images: what scikit-learn's checks, which feed 2-D rows, cannot see."""

import io
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from estimators import IMAGE_EMBEDDERS, tiny
from numpydoc.docscrape import get_doc_object
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline
from torch import nn

import skastro
from skastro import DINOEmbedder, FixedImageEmbedder, ImageEncoder, Survey, Training, VoteSchema
from skastro.augment import Augment, Flip, GaussianNoise, InverseVarianceNoise

SMALL = {"batch_size": 8, "random_state": 0}

# It ignores y, and has the battery again with votes in test_vote_embedders.py.
pytestmark = pytest.mark.filterwarnings("ignore:No image has a vote")


@pytest.fixture(scope="module")
def sky():
    """Blobs and bars: 24 images of 3 bands, 36 pixels a side, in two classes."""
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    x = np.linspace(-1, 1, 36)
    shapes = np.stack([np.exp(-8 * (x**2 + x[:, None] ** 2)), np.exp(-8 * x**2 - 80 * x[:, None] ** 2)])
    X = shapes[y][:, None] * [[[[1.0]], [[2.0]], [[3.0]]]] + 0.05 * rng.normal(size=(24, 3, 36, 36))
    return SimpleNamespace(X=X.astype(np.float32), y=y)


@pytest.fixture(params=IMAGE_EMBEDDERS, ids=lambda cls: cls.__name__)
def embedder(request):
    return tiny(request.param, **SMALL)


def pipeline(embedder, **kwargs):
    return Pipeline([("emb", embedder), ("clf", LogisticRegression())], **kwargs)


def in_new_process(code, *args, threads=1):
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", code, *args], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------- composition


def test_pipeline_predicts(embedder, sky):
    assert pipeline(embedder).fit(sky.X, sky.y).predict(sky.X).shape == (24,)


def test_grid_search_starts_from_a_recipe_name(embedder, sky):
    grid = {"emb__augment__noise": ["passthrough", GaussianNoise()], "emb__lr": [1e-3, 3e-3]}
    search = GridSearchCV(pipeline(embedder.set_params(augment="radio")), grid, cv=2).fit(sky.X, sky.y)
    assert len(search.cv_results_["params"]) == 4
    assert embedder.augment == "radio"


def test_grid_search_reaches_a_step_and_the_rare_settings(embedder, sky):
    grid = {"emb__augment__rotate__degrees": [10, 180], "emb__training__weight_decay": [0.0]}
    search = GridSearchCV(pipeline(embedder), grid, cv=2).fit(sky.X, sky.y)
    best = search.best_estimator_["emb"]
    assert best.augment_.get_params()["rotate__degrees"] == search.best_params_["emb__augment__rotate__degrees"]


def test_frozen_embedder_is_not_refitted(embedder, sky):
    embedder.fit(sky.X, sky.y)
    before = joblib.hash(embedder)
    cross_val_score(pipeline(FrozenEstimator(embedder)), sky.X, sky.y, cv=3)
    assert joblib.hash(embedder) == before


@pytest.mark.filterwarnings("ignore:Persisting input arguments")  # joblib, of a slow disk
def test_pipeline_memory_hits_on_the_second_fit(embedder, sky, tmp_path, monkeypatch):
    fits = []
    cls = type(embedder)
    fit = cls.fit
    monkeypatch.setattr(cls, "fit", lambda self, X, y=None: fits.append(1) or fit(self, X, y))
    for _ in range(2):
        pipeline(clone(embedder), memory=joblib.Memory(tmp_path, verbose=0)).fit(sky.X, sky.y)
    assert len(fits) == 1


def test_feature_union(embedder, sky):
    union = FeatureUnion([("plain", embedder), ("turned", clone(embedder).set_params(average="dihedral"))])
    assert union.fit_transform(sky.X, sky.y).shape == (24, 2 * 736)


def noisy(embedder, step, *fit, **metadata):
    return clone(embedder).set_params(augment=Augment([("noise", step)])).fit(*fit, **metadata)


def test_the_inverse_variance_of_each_row_reaches_its_views(embedder, sky):
    ivar = np.full(sky.X.shape, 4.0)
    by_row = noisy(embedder, InverseVarianceNoise(), sky.X, sky.y, ivar=ivar)
    for_all = noisy(embedder, InverseVarianceNoise(ivar=4.0), sky.X, sky.y)
    assert np.array_equal(by_row.transform(sky.X), for_all.transform(sky.X))
    ivar[12:] = 0.0  # missing: no noise there
    partly = noisy(embedder, InverseVarianceNoise(), sky.X, sky.y, ivar=ivar)
    assert not np.array_equal(by_row.transform(sky.X), partly.transform(sky.X))


def test_inverse_variance_goes_through_a_pipeline_unasked(embedder, sky):
    recipe = Augment([("noise", InverseVarianceNoise())])
    with config_context(enable_metadata_routing=True):
        pipe = pipeline(embedder.set_params(augment=recipe)).fit(sky.X, sky.y, ivar=np.ones_like(sky.X))
    assert pipe.predict(sky.X).shape == (24,)


def test_inverse_variance_that_cannot_be_is_refused(embedder, sky):
    with pytest.raises(ValueError, match=r"ivar of shape \(24, 1, 3, 36\) does not go with images of shape"):
        noisy(embedder, InverseVarianceNoise(), sky.X, sky.y, ivar=np.ones((24, 3, 36)))
    ivar = np.ones_like(sky.X)
    ivar[5, 1, 2, 3] = -1
    with pytest.raises(ValueError, match="ivar has 1 values that are negative, NaN or infinite, the first in row 5;"):
        noisy(embedder, InverseVarianceNoise(), sky.X, sky.y, ivar=ivar)
    with pytest.warns(UserWarning, match="ivar is given, but no step of augment= takes it"):
        noisy(embedder, Flip(), sky.X, sky.y, ivar=np.ones_like(sky.X))


def test_clone_copies_parameters_and_nothing_learned(embedder, sky):
    twin = clone(embedder.fit(sky.X, sky.y))
    assert twin.get_params()["encoder"] == "test_resnet"
    assert not hasattr(twin, "encoder_")


def test_set_output_names_the_columns(embedder, sky):
    frame = embedder.set_output(transform="pandas").fit_transform(sky.X, sky.y)
    assert frame.columns[0] == f"{type(embedder).__name__.lower()}0"
    assert frame.shape == (24, 736)


@pytest.mark.parametrize("shape", [(24, 3, 36, 36), (24, 36, 36), (24, 1296)], ids=["bands", "one band", "rows"])
def test_input_of_any_dimensions(embedder, sky, shape):
    X = sky.X if len(shape) == 4 else sky.X[:, 0].reshape(shape)
    if len(shape) == 2:
        embedder.set_params(image_shape=(1, 36, 36))
    assert embedder.fit_transform(X, sky.y).shape == (24, 736)


@pytest.mark.parametrize("dtype", ["u1", "i2", ">f4", "f8", "f2"])
def test_input_of_any_real_dtype(embedder, sky, dtype):
    X = (sky.X.clip(0) * 50).astype(dtype)
    same = embedder.fit(X, sky.y).transform(X)
    np.testing.assert_allclose(embedder.transform(X.astype("f4")), same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("average", [None, "dihedral", 3])
@pytest.mark.parametrize(
    "encoder", ["test_vit", "test_convnext", ImageEncoder("test_resnet", stem="3x3", pool="avgmax")]
)
def test_encoders_and_averages(embedder, sky, encoder, average):
    embedder.set_params(encoder=encoder, average=average, size=32, augment=None)
    assert np.isfinite(embedder.fit_transform(sky.X, sky.y)).all()


def test_rotations_to_average_over_are_filled_as_the_recipe_says(embedder, sky):
    """Zeros beyond a cutout are zeros around it: in a frame of them, the same weights give the same rows."""
    embedder.set_params(average=8, normalize=None, max_epochs=0, size=36)

    def rows(images, edge):
        return clone(embedder).set_params(augment=Augment(edge=edge)).fit(images, sky.y).transform(images)

    zeros, framed = rows(sky.X, "zeros"), np.pad(sky.X, [(0, 0), (0, 0), (10, 10), (10, 10)])
    np.testing.assert_allclose(rows(framed, "border"), zeros, rtol=1e-3, atol=1e-4)
    assert not np.allclose(rows(sky.X, "border"), zeros, rtol=1e-2, atol=1e-3)


def test_dihedral_average_does_not_see_orientation(embedder, sky):
    embedder.set_params(average="dihedral").fit(sky.X, sky.y)
    turned = np.rot90(sky.X, axes=(2, 3))[..., ::-1]
    np.testing.assert_allclose(embedder.transform(sky.X), embedder.transform(turned), rtol=1e-4, atol=1e-5)


def test_a_module_works_as_encoder_and_stays_as_it_was(embedder, sky):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = module[0].weight.clone()
    embedder.set_params(encoder=module).fit(sky.X, sky.y)
    assert torch.equal(module[0].weight, before)
    again = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(again.transform(sky.X), embedder.transform(sky.X))


# ---------------------------------------------------------------- numbers


def test_same_seed_same_numbers_and_the_users_generators_stay(embedder, sky):
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (clone(embedder).fit(sky.X, sky.y) for _ in range(2))
    rows = first.transform(sky.X)
    np.testing.assert_array_equal(rows, second.transform(sky.X))
    np.testing.assert_array_equal(rows, pickle.loads(pickle.dumps(first)).transform(sky.X))
    assert not np.array_equal(rows, clone(embedder).set_params(random_state=1).fit_transform(sky.X, sky.y))
    assert torch.equal(states[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


def test_rows_do_not_depend_on_their_neighbors(embedder, sky):
    whole = embedder.fit(sky.X, sky.y).set_params(batch_size=256).transform(sky.X)
    for batch_size in (2, 7):
        np.testing.assert_allclose(embedder.set_params(batch_size=batch_size).transform(sky.X), whole, atol=1e-5)
    alone = np.concatenate([embedder.transform(row[None]) for row in sky.X])
    np.testing.assert_allclose(alone, whole, atol=1e-5)


def test_pickles_answer_the_same_in_a_new_process_on_other_threads(sky, tmp_path):
    embedders = [tiny(kind, **SMALL).fit(sky.X, sky.y) for kind in IMAGE_EMBEDDERS]
    joblib.dump((embedders, sky.X), tmp_path / "models.pkl")
    code = (
        "import sys, joblib, numpy as np; embedders, X = joblib.load(sys.argv[1] + '/models.pkl');"
        "np.savez(sys.argv[1] + '/rows.npz', *[embedder.transform(X) for embedder in embedders])"
    )
    for threads in (1, 2):
        in_new_process(code, str(tmp_path), threads=threads)
        for embedder, rows in zip(embedders, np.load(tmp_path / "rows.npz").values(), strict=True):
            np.testing.assert_allclose(rows, embedder.transform(sky.X), atol=1e-5, err_msg=type(embedder).__name__)


def test_one_and_two_threads_learn_the_same(sky, tmp_path):
    # SGD, because Adam divides by the gradient's size: where that is nearly zero, rounding becomes a whole step.
    # Smooth, because rounding tips a ReLU near zero or a tie in a max-pool, and the gradient of a ResNet jumps.
    smooth = {"encoder": "test_vit", "lr": 3e-4, "training": Training(precision="fp32", optimizer="sgd")}
    joblib.dump(([tiny(kind, **SMALL, **smooth) for kind in IMAGE_EMBEDDERS], sky.X, sky.y), tmp_path / "models.pkl")
    code = (
        "import sys, joblib, numpy as np; embedders, X, y = joblib.load(sys.argv[1] + '/models.pkl');"
        "np.savez(sys.argv[1] + '/' + sys.argv[2], *[embedder.fit_transform(X, y) for embedder in embedders])"
    )
    for threads in (1, 2):
        in_new_process(code, str(tmp_path), f"{threads}.npz", threads=threads)
    ones, twos = (np.load(tmp_path / f"{threads}.npz").values() for threads in (1, 2))
    for kind, one, two in zip(IMAGE_EMBEDDERS, ones, twos, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5, err_msg=kind.__name__)


def test_state_is_numbers_and_equal_fits_hash_alike(embedder, sky):
    def leaves(value):
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in leaves(item)]
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list | tuple) else [value]

    state = embedder.fit(sky.X, sky.y).__getstate__()
    plain = (np.ndarray, np.generic, int, float, str, type(None), Augment, ImageEncoder, VoteSchema)
    assert all(isinstance(leaf, plain) for leaf in leaves(state))
    again = pickle.loads(pickle.dumps(embedder))
    assert joblib.hash(again) == joblib.hash(embedder)


def test_parameters_set_after_fit_do_not_touch_what_was_learned(embedder, sky):
    rows = embedder.fit(sky.X, sky.y).transform(sky.X)
    embedder.set_params(encoder="test_vit", augment=None, size=20, normalize=None, survey="sdss")
    np.testing.assert_array_equal(embedder.transform(sky.X), rows)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(sky.X), rows)


def test_a_state_of_another_format_is_refused(embedder, sky):
    state = embedder.fit(sky.X, sky.y).__getstate__()
    with pytest.raises(ValueError, match=r"saved by a newer skastro; upgrade to load it\."):
        type(embedder)().__setstate__(state | {"_format": 99})
    older = rf"^This {type(embedder).__name__} was saved by an earlier, unreleased skastro: fit again and save .*\.$"
    with pytest.raises(ValueError, match=older):
        type(embedder)().__setstate__(state | {"_format": 1})
    del state["_format"]
    with pytest.raises(ValueError, match=older):
        type(embedder)().__setstate__(state)
    unfitted = pickle.loads(pickle.dumps(clone(embedder)))
    assert unfitted.get_params().keys() == embedder.get_params().keys()


def test_history_has_one_value_per_epoch(embedder, sky):
    history = embedder.set_params(max_epochs=3).fit(sky.X, sky.y).history_
    assert {"loss", "lr", "images_per_s", "embedding_std", "effective_rank"} <= history.keys()
    assert all(len(values) == 3 for values in history.values())
    assert np.isfinite(history["loss"]).all()


def test_what_the_docstring_says_is_learned_is_there(embedder, sky):
    told = {entry.name for entry in get_doc_object(type(embedder))["Attributes"]}
    assert told <= vars(embedder.fit(sky.X, sky.y)).keys()
    assert {"encoder_", "history_", "normalizer_", "provenance_", "n_features_in_"} <= told


def test_untrained_embedder_embeds(embedder, sky):
    rows = embedder.set_params(max_epochs=0).fit(sky.X, sky.y).transform(sky.X)
    assert rows.shape == (24, 736)
    assert len(embedder.history_["loss"]) == 0


def test_training_changes_the_encoder_and_the_defaults_run(embedder, sky):
    before = clone(embedder).set_params(max_epochs=0).fit(sky.X, sky.y).transform(sky.X)
    assert not np.allclose(embedder.fit(sky.X, sky.y).transform(sky.X), before)
    width = 1536 if isinstance(embedder, DINOEmbedder) else 1920
    assert type(embedder)(max_epochs=1).fit(sky.X, sky.y).transform(sky.X).shape == (24, width)


def test_interrupt_keeps_what_was_learned(embedder, sky, monkeypatch):
    from skastro.training import callbacks

    def stop(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.ScheduleCallback, "on_epoch_begin", stop)
    with pytest.raises(KeyboardInterrupt):
        embedder.set_params(max_epochs=5).fit(sky.X, sky.y)
    assert len(embedder.history_["loss"]) == 1
    assert embedder.transform(sky.X).shape == (24, 736)


def test_verbose_shows_progress(embedder, sky, capfd):
    embedder.set_params(verbose=1).fit(sky.X, sky.y)
    shown = capfd.readouterr().err
    assert all(word in shown for word in ("epoch 1/1", "loss=", "lr=", "images/s"))


def test_provenance_tells_what_was_seen(embedder, sky):
    embedder.set_params(survey=Survey(("g", "r", "z"), pixel_scale=0.262), size=32, augment=None).fit(sky.X, sky.y)
    told = embedder.provenance_
    assert told["bands"] == ["g", "r", "z"]
    assert told["pixel_scale"] == 0.262
    assert told["size"] == [32, 32]
    assert told["n_images"] == 24
    assert told["versions"]["skastro"] == skastro.__version__


def test_memory_map_is_embedded_batch_by_batch(embedder, sky, tmp_path):
    np.save(tmp_path / "sky.npy", sky.X)
    mapped = np.load(tmp_path / "sky.npy", mmap_mode="r")
    rows = embedder.fit(mapped, sky.y).transform(mapped)
    np.testing.assert_array_equal(rows, clone(embedder).fit(sky.X, sky.y).transform(sky.X))


# ---------------------------------------------------------------- refusals


def with_nan(X, value):
    X = X.copy()
    X[5, 1, 2, 3] = value
    return X


@pytest.mark.parametrize(
    ("change", "params", "sentence"),
    [
        (lambda X: with_nan(X, np.nan), {}, r"X has 1 NaN or infinite pixels .* the first in image 5; .*fill="),
        (lambda X: with_nan(X, np.inf), {}, r"X has 1 NaN or infinite pixels"),
        (lambda X: np.moveaxis(X, 1, -1), {}, r"bands last: give np.moveaxis\(X, -1, 1\)"),
        (lambda X: X, {"size": 64}, r"Images of 36 × 36 pixels are smaller than the window of 64 × 64"),
        (
            lambda X: X.reshape(24, -1),
            {"image_shape": (2, 36, 36)},
            r"Rows of 3888 values do not fold into image_shape",
        ),
        (lambda X: X.reshape(24, -1), {"image_shape": (3, 36)}, r"image_shape must be \(bands, height, width\)"),
        (lambda X: X[:1], {}, r"1 sample|one class"),
        (lambda X: np.ones_like(X), {}, r"All 24 images are constant"),
        (lambda X: np.stack([X, X], axis=1), {}, r"got 5 dimensions"),
        (lambda X: X, {"encoder": "resnet81"}, r"Unknown encoder 'resnet81': .*resnet18"),
        (lambda X: X, {"encoder": "hf-hub:someone/model"}, r"Unknown encoder"),
        (lambda X: X, {"encoder": nn.Conv2d(3, 4, 3)}, r"one row of features for each of the images"),
        (lambda X: X, {"augment": "galaxi"}, r"Unknown augmentation recipe 'galaxi'.*Did you mean 'galaxy'"),
        (lambda X: X, {"augment": Augment([("flip", "sideways")])}, r"Step 'flip' must be"),
        (lambda X: X, {"survey": "sdds"}, r"Unknown survey 'sdds'; known are sdss"),
        (lambda X: X, {"survey": "sdss"}, r"The survey has 5 bands \(u, g, r, i, z\), X has 3"),
        (lambda X: X, {"lr": -1.0}, r"The 'lr' parameter of \w+ must be a float in the range \(0.0, inf\)"),
        (lambda X: X, {"training": Training(clip=-1.0)}, r"The 'clip' parameter of Training"),
        (lambda X: X, {"device": "abacus"}, r"Unknown device 'abacus'"),
    ],
)
def test_bad_input_is_one_sentence_before_training(embedder, sky, change, params, sentence, monkeypatch):
    monkeypatch.setattr("skastro.base.train", lambda *args, **kwargs: pytest.fail("training had started"))
    X = change(sky.X)
    with pytest.raises(ValueError, match=sentence):
        embedder.set_params(**params).fit(X, sky.y[: len(X)])


def test_a_refused_refit_loses_nothing(embedder, sky):
    rows = embedder.fit(sky.X, sky.y).transform(sky.X)
    for change, params in [(lambda X: X[:, :2, :20], {"encoder": "resnet81"}), (lambda X: X, {"survey": "sdss"})]:
        with pytest.raises(ValueError, match=r"Unknown encoder|bands"):
            embedder.set_params(**params).fit(change(sky.X), sky.y)
        np.testing.assert_array_equal(embedder.transform(sky.X), rows)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda X: X[:, :2], r"X has 2 bands, but 3 were learned in fit"),
        (lambda X: np.moveaxis(X, 1, -1), r"X has 36 bands, but 3 were learned .*np.moveaxis\(X, -1, 1\)"),
        (lambda X: X[..., :20], r"Images of 36 × 20 pixels are smaller than the window of 36 × 36"),
        (lambda X: with_nan(X, np.nan), r"the first in image 5"),
    ],
)
def test_bad_input_at_transform(embedder, sky, change, sentence):
    embedder.fit(sky.X, sky.y)
    with pytest.raises(ValueError, match=sentence):
        embedder.transform(change(sky.X))


def test_some_constant_images_warn_with_a_count(embedder, sky):
    X = sky.X.copy()
    X[3:5] = 1.0
    with pytest.warns(UserWarning, match="2 of 24 images are constant"):
        embedder.fit(X, sky.y)


def test_user_callbacks_are_cloned(embedder, sky):
    from skorch.callbacks import Callback

    class Count(Callback):
        seen = 0

        def on_batch_end(self, net, **kwargs):
            type(self).seen += 1

    callback = Count()
    embedder.set_params(training=Training(callbacks=[callback])).fit(sky.X, sky.y)
    assert Count.seen == 3
    assert vars(callback) == {}


# ---------------------------------------------------------------- device


@pytest.mark.gpu
def test_cuda_learns_and_its_state_answers_the_same_on_the_cpu(embedder, sky):
    first, second = (clone(embedder).set_params(device="cuda").fit(sky.X, sky.y) for _ in range(2))
    rows = first.transform(sky.X)
    np.testing.assert_array_equal(rows, second.transform(sky.X))
    buffer = io.BytesIO()
    joblib.dump(first, buffer)
    buffer.seek(0)
    moved = joblib.load(buffer).set_params(device="cpu")
    np.testing.assert_allclose(moved.transform(sky.X), rows, atol=1e-4)


def test_recipe_of_ones_own(embedder, sky):
    embedder.set_params(augment=Augment([("flip", Flip())])).fit(sky.X, sky.y)
    assert [name for name, _ in embedder.augment_.steps] == ["flip"]


@pytest.mark.parametrize("columns", ["im", ["im"]])
def test_a_column_of_images_among_others(columns, sky):
    images = sky.X[:6]
    table = pd.DataFrame({"im": list(images), "mag": np.arange(6.0)})
    embedder = FixedImageEmbedder("test_resnet", random_state=0)
    both = ColumnTransformer([("im", embedder, columns), ("mag", "passthrough", ["mag"])])
    rows = both.set_output(transform="pandas").fit_transform(table)
    assert [rows.columns[0], rows.columns[-1]] == ["im__fixedimageembedder0", "mag__mag"]
    np.testing.assert_allclose(rows.iloc[:, :-1], embedder.fit_transform(images), atol=1e-6)
