"""A Vectorizer is what scikit-learn expects of a transformer, without a server."""

import inspect
import pickle
import warnings

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from client_sdk import Client, InvalidArgument, InvalidType, VersionChanged
from client_sdk._one_model import OneModel
from client_sdk._transport.base import Reply
from client_sdk.sklearn import Vectorizer
from tests.support.fake_transport import FakeTransport, texts_of

A, B = "a" * 32, "b" * 32
TEXTS = ["a", "bb", "ccc", "dddd"]


@pytest.fixture
def server(monkeypatch):
    """Answers all: the vector of a text is its length and 1, times 10 if max pooling is asked for."""

    def answer(request):
        times = 10 if request.parameters.get("pooling") == "max" else 1
        vectors = times * np.array([[len(text), 1] for text in texts_of(request)], np.float32)
        return Reply({"EMBEDDING": vectors}, "1", server.identity)

    server = FakeTransport(answer)
    server.identity = A
    monkeypatch.setattr("client_sdk._session.open_transport", lambda connections: server)
    return server


@pytest.mark.parametrize(
    "texts", [TEXTS, tuple(TEXTS), np.array(TEXTS), pandas.Series(TEXTS, [4, 3, 3, 1]), iter(TEXTS)]
)
def test_texts_become_vectors(server, texts):
    found = Vectorizer().fit(TEXTS).transform(texts)
    assert found.dtype == np.float32 and found.tolist() == [[1, 1], [2, 1], [3, 1], [4, 1]]


def test_a_stream_is_left_to_be_transformed(server):
    assert Vectorizer().fit_transform(iter(TEXTS)).tolist() == [[1, 1], [2, 1], [3, 1], [4, 1]]


def test_a_call_of_one_request_is_not_bulk_for_people_wait_for_it(server):
    Vectorizer().fit_transform(["a"])
    assert [request.parameters for request in server.requests] == [{}, {}]


def test_its_columns_have_names(server):
    vectorizer = Vectorizer().fit(TEXTS)
    assert vectorizer.get_feature_names_out().tolist() == ["vectorizer0", "vectorizer1"]
    frame = vectorizer.set_output(transform="pandas").transform(pandas.Series(TEXTS, [4, 3, 2, 1]))
    assert [*frame.columns] == ["vectorizer0", "vectorizer1"] and [*frame.index] == [4, 3, 2, 1]


def test_its_parameters_are_those_of_the_client_and_its_encode():
    of_client, of_encode = (inspect.signature(of).parameters for of in (Client, Client.encode))
    assert Vectorizer().get_params().keys() == {*of_client, *of_encode, "input_type"} - {"self", "texts"}
    assert Vectorizer("a:1", pooling="cls").set_params(pooling="max", url="b:1").get_params()["pooling"] == "max"
    with pytest.raises(InvalidType, match=r"Vectorizer\(\) has no argument normalize_embeddings: write normalize="):
        Vectorizer(normalize_embeddings=True)


def test_wrong_parameters_are_refused_by_fit(server):
    for parameters in ({"pooling": "median"}, {"precision": "int8"}, {"timeout": -1}, {"url": "ftp://a"}):
        vectorizer = Vectorizer(**parameters)
        with pytest.raises(InvalidArgument):
            vectorizer.fit(TEXTS)


def test_what_is_no_collection_of_texts_is_refused(server):
    vectorizer = Vectorizer()
    with pytest.raises(InvalidType, match=r"X is a str; .* give \[text\]"):
        vectorizer.fit("one")
    with pytest.raises(NotFittedError):
        vectorizer.transform(TEXTS)
    vectorizer.fit(TEXTS)
    with pytest.raises(InvalidType, match="X is a str"):
        vectorizer.transform("one")
    with pytest.raises(InvalidArgument, match="text 1 is empty"):
        vectorizer.transform(["a", ""])
    with pytest.raises(InvalidType, match="it has 2 dimensions: give a column"):
        vectorizer.transform(np.array([TEXTS]))
    with pytest.raises(InvalidType, match="it is a table"):
        vectorizer.transform(pandas.DataFrame({"text": TEXTS}))


def test_what_was_fitted_keeps_its_model(server):
    vectorizer = Vectorizer().fit(TEXTS)
    assert vectorizer.identity_ == A
    landed = pickle.loads(pickle.dumps(vectorizer))
    assert landed.transform(TEXTS).shape == (4, 2)
    server.identity = B
    server.peer.forget()
    with pytest.raises(VersionChanged, match=f"Vectorizer.* one model alone, {A}"):
        landed.transform(TEXTS)
    assert clone(vectorizer).fit(TEXTS).identity_ == B


def test_it_is_the_first_step_of_a_pipeline_that_a_grid_searches(server):
    pipeline = make_pipeline(Vectorizer(), LogisticRegression())
    search = GridSearchCV(pipeline, {"vectorizer__pooling": ["mean", "max"]}, cv=2).fit(TEXTS * 2, [0, 0, 1, 1] * 2)
    assert [*search.cv_results_["param_vectorizer__pooling"]] == ["mean", "max"]
    assert {request.parameters.get("pooling") for request in server.requests} == {"mean", "max"}
    assert search.predict(["a", "dddd"]).tolist() == [0, 1]


def test_it_takes_a_column_of_a_frame(server):
    columns = ColumnTransformer([("title", Vectorizer(), "title"), ("body", Vectorizer(pooling="max"), "body")])
    found = columns.fit_transform(pandas.DataFrame({"title": TEXTS, "body": TEXTS}))
    assert found.tolist() == [[n, 1, 10 * n, 10] for n in (1, 2, 3, 4)]
    assert columns.get_feature_names_out()[0] == "title__vectorizer0"


@pytest.mark.parametrize("secret", [{"api_key": "secret-key"}, {"headers": {"authorization": "secret-key"}}])
def test_a_key_is_used_and_not_printed(server, secret):
    vectorizer = clone(pickle.loads(pickle.dumps(Vectorizer("grpc://a:1", **secret))))
    pipeline = make_pipeline(vectorizer.fit(TEXTS), LogisticRegression())
    for shown in (vectorizer, pipeline):
        assert "***" in repr(shown) and "secret-key" not in repr(shown)
        assert "secret-key" not in shown._repr_html_()
    (connection,) = vectorizer._vectors._session.settings.connections
    assert [value.removeprefix("Bearer ") for value in connection.headers.values()] == ["secret-key"]
    assert vectorizer.get_params()[[*secret][0]] == [*secret.values()][0]


# All of scikit-learn's checks give numbers to fit and transform, but for these, and check_estimator runs none of those
# on an estimator of texts.
OF_ANY_INPUT = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimators_unfitted",
)


@pytest.mark.parametrize("check", [name for name in OF_ANY_INPUT if hasattr(estimator_checks, name)])
def test_scikit_learns_checks_that_need_no_numbers_pass(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(estimator_checks, check)("Vectorizer", Vectorizer())


def test_check_estimator_has_nothing_against_it(server):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(Vectorizer())


def test_nothing_of_a_call_is_kept_but_its_model(server):
    vectorizer = Vectorizer().fit(TEXTS)
    assert {*vars(vectorizer)} - {*vectorizer.get_params()} == {"_n_features_out", "_vectors", "identity_"}
    assert isinstance(vectorizer._vectors, OneModel)
