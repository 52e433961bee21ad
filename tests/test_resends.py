"""Which lost packets are sent again."""

from stream.resends import Resends


def test_a_few_lost_packets_are_all_sent_again() -> None:
    resends = Resends()
    assert all(resends.allows(number, 1_200_000, number / 10) for number in range(100))


def test_the_same_packet_is_not_sent_again_for_a_tenth_of_a_second() -> None:
    resends = Resends()
    assert [resends.allows(7, 1_200_000, at_s) for at_s in (0.0, 0.05, 0.11)] == [True, False, True]


def test_a_line_that_is_full_is_not_filled_with_the_past() -> None:
    resends = Resends()
    allowed = sum(resends.allows(number % 500, 200_000, number / 500) for number in range(5000))
    assert allowed * 8 * 1200 / 10 <= 0.25 * 200_000
    assert resends.refused == 5000 - allowed
