"""The hub, against a stand-in of it on this machine: what goes up comes back, and failures are one sentence."""

import base64
import json
import re
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from time import perf_counter

import huggingface_hub
import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skastro
from skastro import FineTuneClassifier, FixedImageEmbedder, Survey, hub, load, model_card, push_to_hub, save
from skastro.cli import main
from skastro.datasets import make_survey
from skastro.hub import fetch, hub_name
from skastro.persistence import describe

REPO = "kind/galaxies"
X = np.random.default_rng(0).normal(size=(60, 4))
y = (X[:, 0] > 0).astype(int)


class Answers(BaseHTTPRequestHandler):
    """The few addresses of the hub that `huggingface_hub` asks for an upload in one commit and a download."""

    def log_message(self, *args):
        """Stay quiet."""

    def do_HEAD(self):
        self.resolve()

    do_GET = do_HEAD  # noqa: N815

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append(self.path)
        if self.server.status:
            return self.refuse(self.server.status, "", "No.")
        if self.path == "/api/validate-yaml":
            front = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            known = front.get("license") in (None, "mit")
            errors = [] if known else [{"message": '"license" must be one of [mit]'}]
            return self.tell({"warnings": [], "errors": errors}, 400 if errors else 200)
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        repo_id, task = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path).groups()
        if task == "preupload":
            asked = json.loads(body)["files"]
            return self.tell(
                {"files": [{"path": x["path"], "uploadMode": "regular", "shouldIgnore": False} for x in asked]}
            )
        return self.commit(repo_id, [json.loads(line) for line in body.splitlines()])

    def create(self, asked):
        repo_id = f"{asked['organization']}/{asked['name']}"
        known = repo_id in self.server.repositories
        self.server.repositories.setdefault(repo_id, [])
        self.server.created[repo_id] = asked
        return self.tell({"url": f"{constants.ENDPOINT}/{repo_id}"}, 409 if known else 200)

    def commit(self, repo_id, lines):
        files = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
        commits = self.server.repositories[repo_id]
        commits.append(({**commits[-1][0], **files} if commits else files, lines[0]["value"]["summary"]))
        oid = f"{len(commits):040x}"
        return self.tell({"commitUrl": f"{constants.ENDPOINT}/{repo_id}/commit/{oid}", "commitOid": oid})

    def resolve(self):
        if self.path.startswith("/api/models/"):  # whether there is a repository that may not be created
            return self.refuse(401, "RepoNotFound")
        repo_id, revision, filename = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path).groups()
        commits = self.server.repositories.get(repo_id)
        if repo_id in self.server.gated:
            return self.refuse(403, "GatedRepo")
        if commits is None:
            return self.refuse(401, "RepoNotFound")
        number = len(commits) if revision == "main" else int(revision, 16) if len(revision) == 40 else 0
        if not 0 < number <= len(commits):
            return self.refuse(404, "RevisionNotFound")
        if (content := commits[number - 1][0].get(filename)) is None:
            return self.refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", f"{number:040x}")
        self.send_header("ETag", f'"{number:040x}-{filename}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return self.command == "GET" and self.wfile.write(content)

    def tell(self, answer, status=200):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, code, message="It is not here."):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


class StandIn(ThreadingHTTPServer):
    """The hub on this machine, with its repositories in memory: each a list of commits, files and message."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories, self.created, self.gated, self.posts, self.status = {}, {}, set(), [], 0
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Go to another machine: one with an empty cache."""

    def change(name):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / name))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    change("first machine")
    return change


@pytest.fixture
def server(machine, monkeypatch):
    server = StandIn()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    yield server
    server.stop()
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def sky():
    return make_survey(30, bands="grz", size=20, random_state=0)


@pytest.fixture(scope="module")
def embedder(sky):
    survey = Survey(sky.bands, pixel_scale=sky.pixel_scale)
    return FixedImageEmbedder("test_resnet", survey=survey, random_state=0).fit(sky.images)


@pytest.fixture
def model():
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(X, y)


class Center(TransformerMixin, BaseEstimator):
    """A step of the user's own."""

    def fit(self, X, y=None):
        self.mean_ = np.mean(X, axis=0)
        return self

    def transform(self, X):
        return X - self.mean_


CENTER = f"{Center.__module__}.Center"


def test_what_is_pushed_predicts_the_same_elsewhere(server, machine, embedder, sky):
    pipe = make_pipeline(FrozenEstimator(embedder), LogisticRegression(max_iter=500)).fit(sky.images, sky.target)
    address = push_to_hub(pipe, REPO, license="mit", scores={"accuracy": 0.9}, message="First light")
    assert address == f"{constants.ENDPOINT}/{REPO}/commit/{1:040x}"
    [(files, message)] = server.repositories[REPO]
    assert message == "First light"
    assert files.keys() == {"README.md", "model.skastro"}
    card = model_card(pipe, repo_id=REPO, license="mit", scores={"accuracy": 0.9})
    assert files["README.md"].decode() == card
    machine("second machine")
    assert_array_equal(load(f"hf-hub:{REPO}").predict(sky.images), pipe.predict(sky.images))


def test_what_the_cache_has_needs_no_hub(server, machine, model):
    push_to_hub(model, REPO)
    load(f"hf-hub:{REPO}")
    server.stop()
    assert_array_equal(load(f"hf-hub:{REPO}").predict(X), model.predict(X))
    assert describe(f"hf-hub:{REPO}")["skastro"] == skastro.__version__


@pytest.mark.parametrize(
    "work", [load, describe, lambda name: fetch(REPO, "model.skastro")], ids=["load", "describe", "fetch"]
)
def test_without_the_hub_another_machine_is_told_at_once(server, machine, model, work):
    push_to_hub(model, REPO)
    machine("second machine")
    server.stop()
    start = perf_counter()
    with pytest.raises(ConnectionError) as told:
        work(f"hf-hub:{REPO}")
    assert perf_counter() - start < 5
    assert str(told.value) == (
        f"Cannot download model.skastro of {REPO}, since {constants.ENDPOINT} cannot be reached: "
        "connect once, or give a local file."
    )


def test_offline_mode_is_kept(server, model, monkeypatch):
    push_to_hub(model, REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(server.posts)
    with pytest.raises(ConnectionError, match=r"while HF_HUB_OFFLINE is set: unset it and connect once, or give a "):
        load(f"hf-hub:{REPO}")
    with pytest.raises(ConnectionError, match=rf"^Cannot upload to {REPO} while HF_HUB_OFFLINE is set: unset it and "):
        push_to_hub(model, REPO)
    assert len(server.posts) == asked


def test_a_name_that_is_looked_up_forever_is_given_up(machine, monkeypatch):
    found = Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found.wait() and [])
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    with pytest.raises(ConnectionError, match=r"since https://hub\.example cannot be reached"):
        fetch(REPO, "model.skastro")
    found.set()


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_proxy_is_asked_in_place_of_the_hub(server, monkeypatch, scheme):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("https_proxy", f"{scheme}127.0.0.1:{server.server_port}")
    assert hub._reachable("https://hub.invalid")
    server.stop()
    assert not hub._reachable("https://hub.invalid")


def test_a_commit_is_loaded_by_its_hash(server, model):
    first = push_to_hub(model, REPO).rpartition("/")[2]
    second = push_to_hub(Ridge().fit(X, y), REPO).rpartition("/")[2]
    assert [type(load(f"hf-hub:{REPO}@{revision}")).__name__ for revision in (first, second)] == ["Pipeline", "Ridge"]
    assert isinstance(load(f"hf-hub:{REPO}"), Ridge)
    push_to_hub(model, REPO)
    assert isinstance(load(f"hf-hub:{REPO}"), Ridge)  # of the cache, which is not looked up again


def test_a_file_of_another_name_is_fetched(server, model):
    push_to_hub(model, REPO, filename="probe.skastro")
    with pytest.raises(FileNotFoundError, match=rf"^Cannot download model\.skastro of {REPO}: there is no such file; "):
        load(f"hf-hub:{REPO}")
    assert_array_equal(load(fetch(REPO, "probe.skastro")).predict(X), model.predict(X))
    assert f'load(fetch("{REPO}", "probe.skastro"))' in fetch(REPO, "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("hf-hub:kind/nothing", FileNotFoundError, r"kind/nothing: there is no such repository that you may see; .*"),
        (f"hf-hub:{REPO}@v9", FileNotFoundError, rf"{REPO} at revision v9: there is no such revision; see .*"),
        ("hf-hub:kind/gated", PermissionError, r"kind/gated, which is gated: accept its terms at .*/kind/gated and .*"),
    ],
)
def test_what_the_hub_does_not_have_is_told_in_one_sentence(server, model, name, error, words):
    push_to_hub(model, REPO)
    server.gated.add("kind/gated")
    with pytest.raises(error, match=rf"^Cannot download model\.skastro of {words}\.$") as told:
        load(name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, ValueError, r"the hub refuses it \(No\)"),
        (401, PermissionError, r"the hub refuses the token; log in with huggingface_hub\.login\(\), .*"),
        (403, PermissionError, r"the hub refuses the token; log in with huggingface_hub\.login\(\), .*"),
        (500, ConnectionError, r"the hub is busy \(status 500\); try again later"),
    ],
)
def test_a_refused_upload_is_told_in_one_sentence(server, model, status, error, words):
    server.status = status
    with pytest.raises(error, match=rf"^Cannot upload to {REPO}: {words}\.$") as told:
        push_to_hub(model, REPO)
    assert "\n" not in str(told.value)


def test_a_card_that_the_hub_does_not_take_is_told_in_one_sentence(server, model):
    with pytest.raises(ValueError, match=rf"^Cannot upload to {REPO}: .*\"license\" must be one of \[mit\]$") as told:
        push_to_hub(model, REPO, license="mine")
    assert "\n" not in str(told.value)
    assert server.repositories[REPO] == []


def test_a_hub_that_breaks_off_is_told_in_one_sentence(server, model, monkeypatch):
    monkeypatch.setattr(Answers, "do_POST", lambda self: self.connection.close())
    with pytest.raises(ConnectionError, match=rf"^Cannot upload to {REPO}, since the connection broke: try again\.$"):
        push_to_hub(model, REPO)


def test_an_upload_without_a_token_says_to_log_in(server, model, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
    with pytest.raises(PermissionError, match=r"without a token: log in with huggingface_hub\.login\(\)\.$"):
        push_to_hub(model, REPO, token=True)


@pytest.mark.parametrize("name", ["a/b/c", "a b/c", "a--b/c", "/b", "a/", ""])
def test_a_bad_name_of_a_repository_is_refused_before_the_hub_is_asked(server, model, name):
    for work in (lambda: fetch(name, "model.skastro"), lambda: push_to_hub(model, name)):
        with pytest.raises(ValueError, match=r"is not the name of a Hugging Face repository: give owner/name, of"):
            work()
    assert server.posts == []


def test_an_upload_names_owner_and_kind_of_file(server, model):
    with pytest.raises(ValueError, match="'galaxies' is not the name of a Hugging Face repository: give owner/name"):
        push_to_hub(model, "galaxies")
    with pytest.raises(ValueError, match=r"^filename= must end in \.skastro, 'README\.md' does not\.$"):
        push_to_hub(model, REPO, filename="README.md")
    assert server.posts == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hf-hub:a/b", ("a/b", None)),
        ("hf-hub:a/b@v1", ("a/b", "v1")),
        ("hf-hub:a/b@refs/pr/1", ("a/b", "refs/pr/1")),
        ("a/b", None),
        ("model.skastro", None),
    ],
)
def test_names_are_read(name, told):
    assert hub_name(name) == told


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:b", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:@v1"])
def test_names_of_another_form_are_refused(name):
    for work in (hub_name, load, describe):
        with pytest.raises(ValueError, match=rf"^'{name}' is not of the form hf-hub:owner/name or hf-hub:owner/name@"):
            work(name)


def test_a_path_is_a_local_file(tmp_path, model, monkeypatch):
    (tmp_path / "hf-hub:a").mkdir()
    save(model, tmp_path / "hf-hub:a" / "b")
    monkeypatch.chdir(tmp_path)
    assert hub_name(tmp_path / "hf-hub:a" / "b") is None
    assert_array_equal(load((tmp_path / "hf-hub:a" / "b").relative_to(tmp_path)).predict(X), model.predict(X))


def test_a_file_of_another_kind_is_refused_as_load_refuses_it(server, model):
    push_to_hub(model, REPO)
    server.repositories[REPO][0][0]["model.skastro"] = b"a pickle, say"
    for work in (load, describe):
        with pytest.raises(ValueError, match=rf"^hf-hub:{REPO} is cut short or not a skastro file\.$"):
            work(f"hf-hub:{REPO}")


def test_a_class_that_is_not_trusted_is_refused_from_the_hub_too(server, machine):
    pipe = make_pipeline(Center(), Ridge()).fit(X, y)
    with pytest.raises(TypeError, match=rf"^save cannot keep center, a {CENTER}"):
        push_to_hub(pipe, REPO)
    push_to_hub(pipe, REPO, trusted=[CENTER])
    with pytest.raises(ValueError, match=rf"^hf-hub:{REPO} holds {CENTER}, which load does not trust"):
        load(f"hf-hub:{REPO}")
    assert_array_equal(load(f"hf-hub:{REPO}", trusted=[CENTER]).predict(X), pipe.predict(X))
    assert f'load("hf-hub:{REPO}", trusted=["{CENTER}"])' in fetch(REPO, "README.md").read_text()


@pytest.mark.parametrize(
    ("estimator", "told"),
    [(FunctionTransformer(np.log1p), {}), (Ridge(), {"scores": {"R2": "good"}})],
    ids=["a function", "no number"],
)
def test_what_fails_here_leaves_the_hub_alone(server, estimator, told):
    with pytest.raises(TypeError):
        push_to_hub(estimator, REPO, **told)
    assert server.posts == []


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_is_private_on_request(server, model, private):
    push_to_hub(model, REPO, private=private)
    asked = server.created[REPO]
    assert asked.get("private", asked.get("visibility") == "private") is private


def test_info_tells_of_a_model_on_the_hub(server, embedder, sky, capsys):
    push_to_hub(embedder, REPO)
    main(["info", f"hf-hub:{REPO}", "--json"])
    assert json.loads(capsys.readouterr().out)["provenance"][0]["n_images"] == len(sky.images)
    with pytest.raises(SystemExit):
        main(["info", "hf-hub:kind/nothing"])
    assert "error: Cannot download model.skastro of kind/nothing: there is no such" in capsys.readouterr().err


# The card


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_of_a_pipeline_has_the_facts(embedder, sky):
    pipe = make_pipeline(FrozenEstimator(embedder), LogisticRegression(C=0.01, max_iter=500))
    pipe.fit(sky.images, np.array(["smooth", "spiral"])[sky.target % 2])
    card = model_card(
        pipe,
        repo_id=REPO,
        license="cc-by-4.0",
        scores={"balanced_accuracy, 5 folds": np.float32(0.9125)},
        citation="@article{kind2026,\n  title = {Galaxies}\n}",
    )
    assert front_matter(card) == {
        "library_name": "skastro",
        "license": "cc-by-4.0",
        "tags": ["astronomy", "self-supervised-learning", "scikit-learn"],
    }
    assert "# galaxies\n" in card
    assert f'model = skastro.load("hf-hub:{REPO}")' in card
    assert "LogisticRegression(C=0.01, max_iter=500)" in card
    assert "- Classes told apart: smooth, spiral\n" in card
    seen = card.partition("## What it has seen")[2]
    for line in (
        "### FixedImageEmbedder",
        "- Images seen: 30",
        "- Shape of an image (bands, height, width): 3, 20, 20",
        "- Bands: g, r, z",
        f"- Pixel scale (arcseconds): {sky.pixel_scale}",
    ):
        assert line in seen.splitlines()
    assert f"- Versions: skastro {skastro.__version__}, torch " in seen
    assert "## Scores\n\n- balanced_accuracy, 5 folds: 0.9125\n" in card
    assert "```\n@article{kind2026,\n  title = {Galaxies}\n}\n```" in card


def test_the_card_leaves_out_what_is_not_known(model):
    card = model_card(model)
    assert "license" not in front_matter(card)
    assert re.findall("^#+ (.*)", card, re.MULTILINE) == ["Pipeline", "How to load it", "What it is"]
    assert 'skastro.load("model.skastro")' in card
    assert "None" not in card


def test_the_card_of_a_search_tells_what_was_chosen_and_seen(embedder, sky):
    pipe = make_pipeline(embedder, LogisticRegression(max_iter=500))
    search = GridSearchCV(pipe, {"logisticregression__C": [0.01]}, cv=2).fit(sky.images, sky.target % 2)
    card = model_card(search)
    assert "- Chosen by the search: logisticregression__C 0.01\n" in card
    assert card.count("- Images seen: 30\n") == 1  # of the best pipeline and of the embedder given, which was fitted


def test_the_card_of_a_fine_tuner_tells_what_it_was_tuned_on(sky):
    tuner = FineTuneClassifier("test_resnet", max_epochs=1, random_state=0).fit(sky.images, sky.target % 2)
    card = model_card(tuner)
    assert "- Images seen: 30\n" in card
    assert "- Classes told apart: 0, 1\n" in card


def test_the_card_has_long_parameters_whole_and_other_facts_by_their_names():
    model = Ridge().fit(X, y)
    model.provenance_ = {"weights": "hf-hub:kind/other", "citation": "@article{a,\n  b}", "survey": None, "n_images": 3}
    card = model_card(make_pipeline(*(StandardScaler(with_mean=False) for _ in range(20)), model))
    assert card.count("StandardScaler(with_mean=False)") == 20
    assert "- Weights: hf-hub:kind/other\n- Citation: @article{a, b}\n- Images seen: 3\n" in card
    assert "Survey" not in card


def test_the_module_loads_neither_torch_nor_the_hub():
    code = "import sys, skastro.hub; print({'torch', 'huggingface_hub'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "set()"
