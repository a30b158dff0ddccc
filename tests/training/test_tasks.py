"""What scikit-learn's callbacks are told of each fit, and that they change nothing else."""

import copy
import pickle
import re
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
from estimators import ESTIMATORS, TINY, tiny
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from test_seeds import IMAGES, LABELS, SPECTRA, TRAINED, VALUES, data, make

from skastro import (
    AstroCLIPEmbedder,
    DirichletClassifier,
    FineTuneClassifier,
    ImageEncoder,
    SimCLREmbedder,
    Training,
    embed,
    load,
    save,
)
from skastro._registry import CALLBACKS
from skastro.base import BaseModel
from skastro.persistence import without_callbacks
from skastro.training import fingerprints

sklearn_callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
ROWS = np.arange(12)


class Recorder:
    """Note what it is told, by names of estimator and task and the task's number."""

    def __init__(self, stop=None, fail=None):
        self.stop, self.fail = stop, fail
        self.told = []

    def setup(self, estimator, context):
        self.note("setup", context)

    def on_fit_task_begin(self, estimator, context):
        self.note("begin", context)

    def on_fit_task_end(self, estimator, context):
        self.note("end", context)
        return (context.task_name, context.task_id) == self.stop

    def teardown(self, estimator, context):
        self.note("teardown", context)

    def note(self, what, context):
        self.told.append((what, context.estimator_name, context.task_name, context.task_id, context.max_subtasks))
        if what == self.fail:
            raise ValueError(f"{what} fails")

    def of(self, what):
        return [f"{estimator} {task} {number}" for kind, estimator, task, number, _ in self.told if kind == what]


class Traveler(Recorder):
    """One that goes along to the estimators inside."""

    max_propagation_depth = None


class Locked(Recorder):
    """One that no pickle takes."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Break(Callback):
    """Break a fit off after a step of an epoch."""

    def __init__(self, error, epoch=1):
        self.error = error
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise self.error


def configured(name, **params):
    estimator = make(name, random_state=0, max_epochs=2, **params)
    return estimator.set_params(n_estimators=1) if "n_estimators" in estimator.get_params() else estimator


def settings(*callbacks, **more):
    return Training(precision="fp32", threads=1, callbacks=[*callbacks], **more)


def answer(estimator):
    X = data(estimator, ROWS)["X"]
    return estimator.transform(X) if hasattr(estimator, "transform") else estimator.predict(X)


def simclr(**params):
    return tiny(SimCLREmbedder, **{"batch_size": 4, "max_epochs": 3, "random_state": 0} | params)


def kept(estimator):
    return vars(estimator).keys() & CALLBACKS


# ---------------------------------------------------------------- every estimator that trains


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.filterwarnings("ignore:No image has a vote")
def test_callbacks_are_told_of_each_epoch_and_change_no_number(name):
    plain, recorder = configured(name), Recorder()
    told = clone(plain).set_callbacks(recorder)
    for estimator in (plain, told):
        estimator.fit(**data(estimator, ROWS))
    kind = type(plain).__name__
    epochs = [(what, kind, "epoch", number, 0) for number in (0, 1) for what in ("begin", "end")]
    assert recorder.told == [
        ("setup", kind, "fit", 0, None),
        ("begin", kind, "fit", 0, 2),
        *epochs,
        ("end", kind, "fit", 0, 2),
        ("teardown", kind, "fit", 0, 2),
    ]
    np.testing.assert_array_equal(answer(told), answer(plain))
    assert (kept(plain), kept(told)) == (set(), {"_skl_callbacks"})


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.filterwarnings("ignore:No image has a vote")
def test_a_clone_a_pickle_and_a_model_file_of_what_has_callbacks(name, tmp_path):
    recorder = Recorder()
    fitted = configured(name).set_callbacks(recorder)
    fitted.fit(**data(fitted, ROWS))
    assert clone(fitted)._skl_callbacks == [recorder]
    again = pickle.loads(pickle.dumps(fitted))
    assert again._skl_callbacks[0].told == recorder.told
    save(fitted, tmp_path / "model.skastro")
    assert fitted._skl_callbacks == [recorder]
    loaded = load(tmp_path / "model.skastro")
    assert kept(loaded) == set()
    for estimator in (again, loaded):
        np.testing.assert_array_equal(answer(estimator), answer(fitted))


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.filterwarnings("ignore:No image has a vote")
def test_callbacks_are_let_go_when_a_fit_breaks_off(error, name):
    recorder = Recorder()
    estimator = configured(name, training=settings(Break(error))).set_callbacks(recorder)
    before = dict(vars(estimator))
    with pytest.raises(error):
        estimator.fit(**data(estimator, ROWS))
    kind = type(estimator).__name__
    assert (recorder.of("begin"), recorder.of("end")) == ([f"{kind} fit 0", f"{kind} epoch 0"], [])
    assert recorder.of("teardown") == [f"{kind} fit 0"]
    assert kept(estimator) == {"_skl_callbacks"}
    if error is ValueError:
        assert vars(estimator) == before
    else:
        assert len(answer(estimator)) == len(ROWS)  # what was learned stays
    estimator.set_params(training=settings()).fit(**data(estimator, ROWS))
    assert recorder.told[-1][0] == "teardown"


def test_every_estimator_that_is_a_model_takes_callbacks():
    taking = {cls for cls in ESTIMATORS if hasattr(cls, "set_callbacks")}
    assert taking == {cls for cls in ESTIMATORS if issubclass(cls, BaseModel)} | {DirichletClassifier}
    assert {type(TINY[name]) for name in TRAINED} < taking


@pytest.mark.parametrize("name", ["SimCLREmbedder", "FineTuneClassifier", "FixedImageEmbedder"])
def test_a_fit_that_trains_nothing_is_told_of_too(name):
    recorder, estimator = Recorder(), clone(TINY[name])
    if "max_epochs" in estimator.get_params():
        estimator.set_params(max_epochs=0)
    estimator.set_callbacks(recorder).fit(**data(estimator, ROWS))
    assert recorder.of("begin") == recorder.of("end") == recorder.of("teardown") == [f"{name} fit 0"]


# ---------------------------------------------------------------- callbacks that fail or stop


@pytest.mark.parametrize("what", ["setup", "begin", "end", "teardown"])
def test_a_callback_that_fails_costs_the_fit_and_nothing_else(what):
    failing, other = Recorder(fail=what), Recorder()
    estimator = simclr().fit(IMAGES).set_callbacks(other, failing)
    before = dict(vars(estimator))
    with pytest.raises(ValueError, match=f"{what} fails"):
        estimator.fit(IMAGES)
    assert vars(estimator) == before
    assert other.of("teardown") == failing.of("teardown") == ["SimCLREmbedder fit 0"]


def test_a_teardown_that_fails_costs_no_checkpoint(tmp_path):
    estimator = simclr(training=settings(checkpoint=tmp_path)).set_callbacks(Recorder(fail="teardown"))
    with pytest.raises(ValueError, match="teardown fails"):
        estimator.fit(IMAGES)
    recorder = Recorder()
    estimator.set_callbacks(recorder).fit(IMAGES)
    assert "epoch" not in str(recorder.told)  # none was trained again
    np.testing.assert_array_equal(estimator.transform(IMAGES), simclr(training=settings()).fit_transform(IMAGES))


def test_a_callback_may_stop_training():
    recorder = Recorder(stop=("epoch", 1))
    estimator = simclr().set_callbacks(recorder).fit(IMAGES)
    assert len(estimator.history_["loss"]) == 2
    assert recorder.of("end") == [f"SimCLREmbedder {task}" for task in ("epoch 0", "epoch 1", "fit 0")]


def finetuner(**params):
    encoder = ImageEncoder("test_resnet")
    settings = {"max_epochs": 9, "early_stopping": True, "n_iter_no_change": 1, "batch_size": 4, "random_state": 0}
    return FineTuneClassifier(encoder, validation_fraction=0.25, **settings | params)


def test_stopped_by_a_callback_the_epoch_has_been_validated_and_the_best_one_stays():
    stopped = finetuner().set_callbacks(Recorder(stop=("epoch", 0))).fit(IMAGES, LABELS)
    assert len(stopped.history_["validation_loss"]) == len(stopped.history_["loss"]) == 1
    untrained = finetuner(max_epochs=0).fit(IMAGES, LABELS)
    assert (stopped.predict_proba(IMAGES) != untrained.predict_proba(IMAGES)).any()


def test_the_epoch_that_early_stopping_ends_is_told_of():
    recorder = Recorder()
    tuned = finetuner(lr=1e-9).set_callbacks(recorder).fit(IMAGES, LABELS)  # learns nothing, so it stops soon
    epochs = len(tuned.history_["loss"])
    assert epochs < 9
    assert recorder.of("end") == [
        *(f"FineTuneClassifier epoch {epoch}" for epoch in range(epochs)),
        "FineTuneClassifier fit 0",
    ]
    assert recorder.of("begin")[1:] == recorder.of("end")[:-1]


# ---------------------------------------------------------------- checkpoints and identities


def test_callbacks_are_no_part_of_what_a_checkpoint_belongs_to():
    plain = simclr().fit(IMAGES)
    told = copy.deepcopy(plain).set_callbacks(Recorder())
    for wrap in (lambda estimator: estimator, FrozenEstimator, lambda estimator: FineTuneClassifier(clone(estimator))):
        one, other = ([*fingerprints.describe("encoder", wrap(each))] for each in (plain, told))
        assert one == other


def test_callbacks_do_not_tell_a_model_from_another(tmp_path):
    embedder = simclr().fit(IMAGES)
    rows = embed(embedder, IMAGES, tmp_path / "plain.npy", verbose=0)
    plain = joblib.hash(embedder)
    pipe = make_pipeline(embedder.set_callbacks(Locked())).set_callbacks(Locked())
    with without_callbacks(pipe):
        assert joblib.hash(embedder) == plain
    again = embed(embedder, IMAGES, tmp_path / "told.npy", verbose=0)
    np.testing.assert_array_equal(np.load(again), np.load(rows))
    assert kept(embedder) == kept(pipe) == {"_skl_callbacks"}


@pytest.mark.parametrize("folder", ["", "{fit}"])
def test_a_fit_that_goes_on_with_callbacks_tells_all_epochs(folder, tmp_path):
    given = {"checkpoint": str(tmp_path / folder), "checkpoint_every": 0}
    with pytest.raises(KeyboardInterrupt):
        simclr(training=settings(Break(KeyboardInterrupt, epoch=2), **given)).fit(IMAGES)
    recorder = Recorder()
    went_on = simclr(training=settings(**given)).set_callbacks(recorder).fit(IMAGES)
    assert recorder.of("end") == [f"SimCLREmbedder {task}" for task in ("epoch 0", "epoch 1", "epoch 2", "fit 0")]
    np.testing.assert_array_equal(went_on.transform(IMAGES), simclr(training=settings()).fit_transform(IMAGES))
    assert [*tmp_path.iterdir()] == []


def test_there_is_no_model_to_score_in_the_middle_of_its_training():
    monitor = sklearn_callback.ScoringMonitor(scoring="accuracy")
    finetuner(max_epochs=1).set_callbacks(monitor).fit(IMAGES, LABELS)
    with pytest.raises(ValueError, match="No logs to retrieve"):
        monitor.get_logs()


# ---------------------------------------------------------------- several trainings in one fit


def trained(estimator, task, number, epochs):
    return [*(f"{estimator} epoch {epoch}" for epoch in range(epochs)), f"{estimator} {task} {number}"]


def test_each_flow_is_a_task():
    recorder = Recorder()
    flows = clone(TINY["FlowPosterior"]).set_params(max_epochs=2, n_estimators=2).set_callbacks(recorder)
    flows.fit(SPECTRA[:, :3], VALUES)
    kind = "FlowPosterior"
    assert recorder.of("end") == [*trained(kind, "train", 0, 2), *trained(kind, "train", 1, 2), f"{kind} fit 0"]


def test_callbacks_go_along_to_the_encoder_that_a_fine_tuner_trains_first():
    stays, goes = Recorder(), Traveler()
    tuner = FineTuneClassifier(simclr(), max_epochs=2, batch_size=4, random_state=0).set_callbacks(stays, goes)
    tuner.fit(IMAGES, LABELS)
    kind = "FineTuneClassifier"
    tuned = trained(kind, "train", 1, 2)
    assert goes.of("end") == [*trained("SimCLREmbedder", "fit", 0, 3), *tuned, f"{kind} fit 0"]
    assert stays.of("end") == [f"{kind} pretrain 0", *tuned, f"{kind} fit 0"]
    assert goes.of("setup") == goes.of("teardown") == [f"{kind} fit 0"]
    assert kept(tuner.embedder_) == set()


def test_callbacks_go_along_to_the_sides_that_an_alignment_trains_first():
    stays, goes, own = Recorder(), Traveler(), Recorder()
    sides = simclr(max_epochs=2).set_callbacks(own), tiny(type(TINY["MaskedSpectrumEmbedder"]), max_epochs=1)
    clip = AstroCLIPEmbedder(*sides, embedding_dim=8, max_epochs=2, batch_size=4, random_state=0)
    clip.set_callbacks(stays, goes).fit(IMAGES, SPECTRA)
    images, spectra = trained("SimCLREmbedder", "fit", 0, 2), trained("MaskedSpectrumEmbedder", "fit", 1, 1)
    aligned = [*trained("AstroCLIPEmbedder", "train", 2, 2), "AstroCLIPEmbedder fit 0"]
    assert goes.of("end") == [*images, *spectra, *aligned]
    assert stays.of("end") == ["AstroCLIPEmbedder pretrain 0", "AstroCLIPEmbedder pretrain 1", *aligned]
    assert own.of("end") == images  # and nothing of the sketch that refuses what cannot be used


def test_callbacks_stay_with_a_frozen_embedder_whose_copy_is_tuned():
    embedder = simclr().set_callbacks(Locked()).fit(IMAGES)
    tuner = FineTuneClassifier(FrozenEstimator(embedder), max_epochs=1, batch_size=4).fit(IMAGES, LABELS)
    sides = FrozenEstimator(embedder), TINY["MaskedSpectrumEmbedder"].encoder
    clip = AstroCLIPEmbedder(*sides, train_backbones=True, embedding_dim=8, max_epochs=1, batch_size=4)
    clip.fit(IMAGES, SPECTRA)
    assert kept(tuner.embedder_) == kept(clip.embedders_[0].embedder.estimator) == set()
    assert kept(embedder) == {"_skl_callbacks"}
    assert len(embedder._skl_callbacks[0].of("setup")) == 1


# ---------------------------------------------------------------- votes


def test_each_iteration_of_a_head_of_votes_is_a_task():
    plain, recorder = DirichletClassifier().fit(SPECTRA, LABELS), Recorder()
    told = DirichletClassifier().set_callbacks(recorder).fit(SPECTRA, LABELS)
    kind, iterations = "DirichletClassifier", told.n_iter_ + 1  # the last finds that nothing is left to do
    assert recorder.of("end") == [*(f"{kind} iteration {number}" for number in range(iterations)), f"{kind} fit 0"]
    assert recorder.of("begin")[1:] == recorder.of("end")[:-1]
    np.testing.assert_array_equal(told.predict_proba(SPECTRA), plain.predict_proba(SPECTRA))
    stopped = DirichletClassifier().set_callbacks(Recorder(stop=("iteration", 1))).fit(SPECTRA, LABELS)
    assert stopped.n_iter_ == 2 < told.n_iter_


@pytest.mark.filterwarnings("ignore:L-BFGS has not converged")
def test_iterations_are_no_more_than_allowed():
    recorder = Recorder()
    DirichletClassifier(max_iter=2).set_callbacks(recorder).fit(SPECTRA, LABELS)
    assert recorder.of("begin") == ["DirichletClassifier " + task for task in ("fit 0", "iteration 0", "iteration 1")]
    assert sorted(recorder.of("end")) == sorted(recorder.of("begin"))


# ---------------------------------------------------------------- scikit-learn's own tools


def pipeline():
    return make_pipeline(simclr(), DirichletClassifier())


def test_callbacks_go_along_into_folds():
    recorder, grid = Traveler(), {"simclrembedder__lr": [1e-3, 1e-2]}
    GridSearchCV(pipeline(), grid, cv=2).set_callbacks(recorder).fit(IMAGES, LABELS)
    assert recorder.of("end").count("SimCLREmbedder epoch 2") == 5  # folds, and the refit
    alone = Recorder()
    cross_val_score(make_pipeline(simclr().set_callbacks(alone), LogisticRegression()), IMAGES, LABELS, cv=2)
    assert alone.of("end") == 2 * trained("SimCLREmbedder", "fit", 0, 3)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_search_whose_fits_fail_ends():
    recorder, grid = Traveler(), {"training": [settings(), settings(Break(ValueError))]}
    search = GridSearchCV(simclr(), grid, cv=2, scoring=lambda estimator, X: 0.0).set_callbacks(recorder)
    with pytest.warns(FitFailedWarning, match="2 fits failed"):
        search.fit(IMAGES)
    assert recorder.of("end").count("SimCLREmbedder epoch 2") == 3
    assert recorder.of("end")[-1] == "GridSearchCV fit 0"


def test_a_fitted_search_with_callbacks_at_every_level_is_saved_without_them(tmp_path):
    search = GridSearchCV(pipeline(), {"simclrembedder__lr": [1e-3, 1e-2]}, cv=2)
    search.estimator.set_callbacks(Recorder())
    search.estimator[0].set_callbacks(Recorder())
    search.set_callbacks(Recorder()).fit(IMAGES, LABELS)
    save(search, tmp_path / "search.skastro")
    again = load(tmp_path / "search.skastro")
    for estimator in (again, again.estimator, again.estimator[0], again.best_estimator_, again.best_estimator_[0]):
        assert kept(estimator) == set()
    assert [*map(kept, (search, search.best_estimator_, search.best_estimator_[0]))] == 3 * [{"_skl_callbacks"}]
    np.testing.assert_array_equal(again.predict(IMAGES), search.predict(IMAGES))


def test_memory_of_a_pipeline_holds_what_was_fitted_with_callbacks(tmp_path):
    pipe, recorder = pipeline().set_params(memory=str(tmp_path)), Traveler()
    plain = clone(pipe).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(
        pipe.set_callbacks(recorder).fit(IMAGES, LABELS).predict_proba(IMAGES), plain.predict_proba(IMAGES)
    )
    assert "SimCLREmbedder" not in str(recorder.told)  # found there


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_progress_bar_shows_the_fits_inside_folds_and_moves_with_their_epochs(n_jobs, capsys, monkeypatch):
    rich = pytest.importorskip("rich")
    from sklearn.callback._progressbar import RichProgressMonitor

    moved, end = [], RichProgressMonitor._on_task_end

    def noted(self, task):
        path = task["path"]
        end(self, task)
        if len(path) == 4:  # the search, its fits, one of them, an epoch
            moved.append(self.root_rich_task.get_descendants(path)[-2].progress)

    monkeypatch.setattr(RichProgressMonitor, "_on_task_end", noted)
    monkeypatch.setattr(rich.get_console(), "width", 200)
    search = GridSearchCV(simclr(), {"lr": [1e-3, 1e-2]}, cv=2, n_jobs=n_jobs, scoring=lambda estimator, X: 0.0)
    search.set_callbacks(sklearn_callback.ProgressBar()).fit(IMAGES)
    text = capsys.readouterr().out
    for fit in range(4):
        assert re.search(rf"GridSearchCV - candidate-split-evaluation \| SimCLREmbedder - fit #{fit} .*100%", text)
    assert re.search(r"GridSearchCV - refit-with-best-params \| SimCLREmbedder - fit #1 .*100%", text)
    assert sorted(moved) == pytest.approx(sorted(4 * [1 / 3, 2 / 3, 1]))


# ---------------------------------------------------------------- scikit-learn without callbacks

WITHOUT = """
import sys
import numpy as np
import skops.io, sklearn.model_selection
sys.modules["sklearn.callback"] = None
from skastro import DirichletClassifier, SimCLREmbedder
from skastro.training import Training
assert not hasattr(SimCLREmbedder, "set_callbacks")
X = np.load(sys.argv[1])
embedder = SimCLREmbedder(
    "test_resnet", max_epochs=3, batch_size=4, hidden_dim=16, projection_dim=8, random_state=0,
    training=Training(precision="fp32", threads=1),
)
rows = embedder.fit_transform(X)
np.save(sys.argv[2], rows)
DirichletClassifier().fit(rows, np.arange(len(X)) % 2)
"""


def test_without_callbacks_in_scikit_learn_all_is_as_ever(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    command = [sys.executable, "-W", "error", "-c", WITHOUT, tmp_path / "images.npy", tmp_path / "rows.npy"]
    subprocess.run(command, check=True)
    embedder = simclr(batch_size=4, training=settings())
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), embedder.fit_transform(IMAGES))
