import pickle
import re

import pytest

from client_sdk import _errors

CLASSES = [value for value in vars(_errors).values() if isinstance(value, type)]


def test_the_tree_is_drawn_in_the_docstring():
    drawn = re.findall(r"(\w+) +\((\w+)\)", _errors.__doc__)
    assert len(drawn) == len(CLASSES) - 2  # ClientError and ServerBusy are no builtin's
    for name, builtin in drawn:
        assert issubclass(getattr(_errors, name), __builtins__[builtin])
    assert re.findall(r"── (\w+)", _errors.__doc__) == [c.__name__ for c in CLASSES if c is not _errors.ClientError]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_a_client_error_that_keeps_its_message(kind):
    error = pickle.loads(pickle.dumps(kind("what happened")))
    assert isinstance(error, _errors.ClientError) and str(error) == "what happened"


def test_an_error_about_a_text_says_which_to_programs_too():
    error = pickle.loads(pickle.dumps(_errors.InvalidType.of_text(7, " is an int")))
    assert isinstance(error, TypeError) and str(error) == "text 7 is an int"
    assert (error.text_index, error.reason) == (7, " is an int")
    assert _errors.InvalidArgument("no texts").text_index is None
