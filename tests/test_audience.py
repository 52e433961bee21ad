"""A codec's viewers: rates set, viewers moved, the lower rendition open while it is needed."""

from stream.audience import Audience

FULL = 1_200_000


class Line:
    """The face of a rendition."""

    def __init__(self) -> None:
        self.bit_rate = FULL

    def follow(self, bit_rate: int) -> None:
        self.bit_rate = bit_rate


class Hall:
    def __init__(self) -> None:
        self.main, self.lower = Line(), Line()
        self.is_lower_open = False
        self.audience = Audience(self.main, FULL, self._open, self._drop)

    def _open(self, bit_rate: int) -> Line:
        self.is_lower_open = True
        return self.lower

    def _drop(self) -> None:
        self.is_lower_open = False


class Guest:
    def __init__(self, hall: Hall) -> None:
        self.rendition = hall.main
        hall.audience.join(self)

    def move(self, rendition: Line) -> None:
        self.rendition = rendition


def test_main_follows_its_slowest_and_is_free_again_when_that_leaves() -> None:
    hall = Hall()
    a, b = Guest(hall), Guest(hall)
    hall.audience.estimate(b, 700_000, FULL, 3.0)
    assert (hall.main.bit_rate, hall.is_lower_open) == (700_000, False)
    hall.audience.leave(b, 4.0)
    hall.audience.leave(b, 4.0)
    assert hall.main.bit_rate == FULL
    hall.audience.leave(a, 5.0)
    hall.audience.estimate(a, 100_000, FULL, 6.0)
    assert hall.main.bit_rate == FULL


def test_a_slow_one_is_moved_and_returns_and_the_lower_one_closes_behind_it() -> None:
    hall = Hall()
    fast, slow = Guest(hall), Guest(hall)
    for second in range(3, 7):
        hall.audience.estimate(slow, 200_000, FULL if second < 5 else 190_000, float(second))
    assert (fast.rendition, slow.rendition) == (hall.main, hall.lower)
    assert (hall.main.bit_rate, hall.lower.bit_rate) == (FULL, 200_000)
    assert hall.is_lower_open
    for second in range(7, 60):
        hall.audience.estimate(slow, 200_000 * second // 6, hall.lower.bit_rate, float(second))
    assert slow.rendition is hall.main
    assert not hall.is_lower_open


def test_the_lower_one_closes_when_its_last_viewer_leaves() -> None:
    hall = Hall()
    _, slow = Guest(hall), Guest(hall)
    for second in range(3, 7):
        hall.audience.estimate(slow, 200_000, FULL, float(second))
    assert hall.is_lower_open
    hall.audience.leave(slow, 8.0)
    assert not hall.is_lower_open
