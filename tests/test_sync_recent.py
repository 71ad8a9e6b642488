"""What came lately is remembered, the newest of each key, and never more than is allowed."""

from random import Random

from sync.recent import STRIDE, Recent


def test_last_arrival_under_a_key_is_the_one_that_is_remembered():
    recent = Recent(10)
    recent.keep(b"a", 1)
    recent.keep(b"a", 2)
    assert (recent.get(b"a"), recent.get(b"b"), len(recent)) == (2, None, 1)


def test_oldest_arrivals_are_forgotten_first_and_one_that_came_again_is_young():
    recent = Recent(3)
    recent.keep(b"first", 0)
    for n in range(STRIDE + 2):
        recent.keep(b"%d" % n, n)
    recent.keep(b"first", 9)
    for n in range(1000, 1000 + STRIDE):
        recent.keep(b"%d" % n, n)
    assert recent.get(b"0") is None
    assert recent.get(b"%d" % (1000 + STRIDE - 1)) == 1000 + STRIDE - 1


def test_number_remembered_stays_between_the_limit_and_one_stride_more():
    dice, recent, model = Random(3), Recent(50), {}
    for n in range(5000):
        key = b"%d" % dice.randrange(2000)
        recent.keep(key, n)
        model.pop(key, None)
        model[key] = n
        newest = dict(list(model.items())[-50:])
        assert len(recent) <= 50 + STRIDE
        assert all(recent.get(each) == row for each, row in newest.items())
        assert all(recent.get(each) in {None, row} for each, row in list(model.items())[:5])
