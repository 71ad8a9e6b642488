"""How much of the nodes' batches is in memory at once: nobody takes all of it, and all comes back."""

from contextlib import ExitStack

import pytest

from gateway.budget import PUTS_PER_NODE_MAX, Budget
from gateway.errors import ALARMS, GatewayError
from gateway.problems import Problem
from sync.batch import WIRE_BYTES_MAX


def test_a_full_budget_is_503_with_a_window_and_gives_everything_back():
    budget = Budget(octets_max=1000, puts_max=20)
    with budget.share("a", 900), pytest.raises(Problem) as refused, budget.share("b", 200):
        pass
    assert (refused.value.status, refused.value.code) == (503, "busy")
    assert refused.value.members["window"] > 0
    assert int(refused.value.headers["Retry-After"]) > 0
    with budget.share("b", 1000) as share:
        with pytest.raises(Problem):
            share.resize(1001)
        share.resize(10)
        with budget.share("c", 990):
            pass
    with budget.share("b", 1000):
        pass


def test_one_node_cannot_take_all_seats():
    budget = Budget()
    with ExitStack() as seats:
        for _ in range(PUTS_PER_NODE_MAX):
            seats.enter_context(budget.share("greedy", 1))
        with pytest.raises(Problem):
            seats.enter_context(budget.share("greedy", 1))
        seats.enter_context(budget.share("modest", 1))


def test_one_node_cannot_take_all_bytes_though_three_lanes_of_the_largest_batches_fit():
    budget = Budget()
    with ExitStack() as seats:
        for _ in range(3):
            seats.enter_context(budget.share("greedy", WIRE_BYTES_MAX))
        with pytest.raises(Problem) as refused:
            seats.enter_context(budget.share("greedy", WIRE_BYTES_MAX))
        assert refused.value.members["window"] < WIRE_BYTES_MAX
        seats.enter_context(budget.share("modest", WIRE_BYTES_MAX))
    with budget.share("greedy", 3 * WIRE_BYTES_MAX):  # all was given back
        pass


def test_every_gateway_error_has_a_code_of_its_own_and_a_hint():
    errors = [GatewayError, *GatewayError.__subclasses__()]
    codes = [error.code for error in errors] + list(ALARMS)
    assert len(set(codes)) == len(codes)
    assert all(error.hint and error.fault for error in errors)
