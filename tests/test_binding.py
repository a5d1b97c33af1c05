"""One node function for many namespaces: Kedro sees the arguments that are left, and no more."""

import inspect

import pytest
from kedro.pipeline import Node

from temshift.binding import bind
from temshift.config.curation import CurationParameters
from temshift.config.splits import SplitParameters


def select(name: str, curation: CurationParameters, own: SplitParameters, **rest: int) -> list:
    """Select."""
    return [name, curation, own, rest]


def test_given_arguments_are_given_and_hidden():
    bound = bind(select, "au")
    assert bound(1, own=2, more=3) == ["au", 1, 2, {"more": 3}]
    assert list(inspect.signature(bound).parameters) == ["curation", "own", "rest"]
    assert bound.__annotations__ == {
        "curation": CurationParameters,
        "own": SplitParameters,
        "rest": int,
        "return": list,
    }
    assert (bound.__name__, bound.__doc__) == ("select", "Select.")
    assert bound.__module__ == __name__


def test_functions_bound_to_different_values_are_nodes_of_their_own():
    nodes = [
        Node(bind(select, name), ["c", "o"], f"{name}_out", name="select", namespace=name)
        for name in ("au", "ag")
    ]
    assert [node.name for node in nodes] == ["au.select", "ag.select"]
    assert [node.run({"c": 1, "o": 2}) for node in nodes] == [
        {"au_out": ["au", 1, 2, {}]},
        {"ag_out": ["ag", 1, 2, {}]},
    ]


def test_a_node_that_lacks_an_argument_is_refused():
    with pytest.raises(TypeError):
        Node(bind(select, "au"), ["c"], "out", name="select")
