"""What would measure nothing is refused before anything is measured."""

import argparse
from importlib import import_module

import pytest

from perf import numbers
from perf.__main__ import COMMANDS


@pytest.mark.parametrize(
    ("number", "taken", "refused"),
    [
        (numbers.count, {"1": 1, "64": 64, "1000000000": 10**9}, ("0", "-1", "1.5", "1000000001", "x", "", "١")),
        (numbers.above_zero, {"0.5": 0.5, "3": 3.0, "1e3": 1000.0}, ("0", "-1", "nan", "inf", "x", "")),
        (numbers.part, {"0": 0.0, "0.99": 0.99}, ("1", "-0.1", "nan", "x")),
        (numbers.percent, {"0": 0.0, "100": 100.0, "12.5": 12.5}, ("100.1", "-1", "nan", "x")),
    ],
)
def test_a_number_is_within_its_bounds(number, taken, refused):
    assert {text: number(text) for text in taken} == taken
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is not a"):
            number(text)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_number_of_every_command_has_bounds(name: str):
    parser = argparse.ArgumentParser()
    import_module(f"perf.{name}.command").add_arguments(parser)
    options = [action for action in parser._actions if action.type not in (None,) and action.dest != "output"]
    types = {action.dest: action.type for action in options if not isinstance(action.type, type)}
    unbounded = {action.dest for action in options if action.type in (int, float)}
    assert unbounded <= {"seed"} and types
    assert {*types.values()} <= {numbers.count, numbers.above_zero, numbers.part, numbers.percent}
