"""The choice between ways out, on virtual time: it changes late, never flaps, and comes back when the better one is really there."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.lanes import BULK, CRITICAL, ROUTINE
from sync.paths import FAILURES_MAX, HOLD_DOWN_S, PROBE_EACH_S, PROBES_GOOD_MIN, Path, Paths

MPLS, LTE, VSAT = Path(name="mpls"), Path(name="lte", metered=True), Path(name="vsat", metered=True)


def made():
    return Paths([MPLS, LTE, VSAT])


def fail(paths, now, times=FAILURES_MAX):
    for n in range(times):
        paths.failed(paths.current.name, now + n, now + n + 0.5)


def test_the_first_path_is_used_until_it_failed_several_times_in_a_row():
    paths = made()
    fail(paths, 0.0, FAILURES_MAX - 1)
    paths.answered("mpls")
    fail(paths, 10.0, FAILURES_MAX - 1)
    assert paths.current == MPLS
    fail(paths, 20.0, 1)
    assert paths.current == LTE


def test_lanes_that_fail_together_count_once():
    paths = made()
    for _ in range(10):
        paths.failed("mpls", 0.0, 5.0)
    assert paths.current == MPLS


def test_a_late_failure_of_a_path_that_is_no_longer_used_counts_for_nothing():
    paths = made()
    fail(paths, 0.0)
    for n in range(5):
        paths.failed("mpls", 10.0 + n, 10.5 + n)
    assert paths.current == LTE


def test_a_path_that_was_given_up_is_not_probed_before_its_hold_down_and_needs_several_good_probes():
    paths = made()
    fail(paths, 0.0)
    given_up = FAILURES_MAX - 1 + 0.5
    assert paths.to_probe(given_up + HOLD_DOWN_S - 0.1) == []
    now = given_up + HOLD_DOWN_S
    for n in range(PROBES_GOOD_MIN):
        assert paths.to_probe(now) == ["mpls"]
        assert paths.probed("mpls", now, good=True) is (n == PROBES_GOOD_MIN - 1)
        assert paths.to_probe(now + PROBE_EACH_S - 0.1) == []
        now += PROBE_EACH_S
    assert paths.current == MPLS


def test_one_bad_probe_begins_the_count_anew():
    paths = made()
    fail(paths, 0.0)
    now = 1000.0
    for good in [True] * (PROBES_GOOD_MIN - 1) + [False] + [True] * (PROBES_GOOD_MIN - 1):
        assert not paths.probed("mpls", now, good=good)
        now += PROBE_EACH_S
    assert paths.probed("mpls", now, good=True)


def test_when_all_fail_the_one_that_was_given_up_longest_ago_is_next():
    paths = made()
    seen = []
    for n in range(7):
        seen.append(paths.current.name)
        fail(paths, 10.0 * n)
    assert seen == ["mpls", "lte", "vsat", "mpls", "lte", "vsat", "mpls"]


def test_a_single_path_is_never_left():
    paths = Paths([MPLS])
    fail(paths, 0.0, 100)
    assert paths.current == MPLS
    assert paths.to_probe(1e6) == []


def test_on_a_metered_path_only_the_critical_lane_goes():
    paths = made()
    assert [paths.allows(lane) for lane in (CRITICAL, ROUTINE, BULK)] == [True, True, True]
    fail(paths, 0.0)
    assert [paths.allows(lane) for lane in (CRITICAL, ROUTINE, BULK)] == [True, False, False]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["fail", "good", "bad"]), st.floats(0.1, 200.0)), max_size=200))
def test_whatever_happens_no_change_follows_another_faster_than_failures_or_probes_allow(steps):
    paths, now = made(), 0.0
    given_up: dict[str, float] = {}
    for what, passes in steps:
        now += passes
        before = paths.current.name
        if what == "fail":
            paths.failed(before, now - 0.05, now)
            if paths.current.name != before:
                given_up[before] = now
        else:
            for name in paths.to_probe(now):
                assert now >= given_up.get(name, -1e9) + HOLD_DOWN_S
                assert paths.probed(name, now, good=what == "good") in (True, False)
                if paths.current.name != before:
                    assert [MPLS, LTE, VSAT].index(paths.current) < [p.name for p in (MPLS, LTE, VSAT)].index(before)
                    break
