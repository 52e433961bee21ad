"""How a frame's packets leave."""

from hypothesis import given
from hypothesis import strategies as st

from stream.pacing import STEP_S, pace_of


def test_an_ordinary_frame_leaves_at_once() -> None:
    assert pace_of(5, 1_200_000, 30) is None
    assert pace_of(30, 6_000_000, 30) is None


@given(st.integers(1, 2000), st.integers(1, 8_000_000), st.integers(1, 60))
def test_a_large_one_takes_at_most_half_a_frames_interval_and_every_packet_goes(
    packets: int, bit_rate: int, fps: int
) -> None:
    pace = pace_of(packets, bit_rate, fps)
    if pace is None:
        return
    waits = [pace.waits_before(packet) for packet in range(packets)]
    assert not any(waits[: pace.at_once]) and waits[pace.at_once]
    assert sum(waits) * STEP_S <= max(0.5 / fps, STEP_S) + 1e-9
