"""When a requested keyframe is made."""

from stream.keyframes import KeyframeRequests


def test_without_a_request_none_is_due() -> None:
    assert not KeyframeRequests().is_due(5.0)
    assert KeyframeRequests().repeat_at(1.0) is None


def test_all_who_ask_meanwhile_get_one() -> None:
    requests = KeyframeRequests()
    for _ in range(5):
        requests.ask()
    assert requests.is_due(1.0)
    requests.made(1.0)
    assert not requests.is_due(9.0)


def test_a_request_within_300_ms_is_deferred_not_lost() -> None:
    requests = KeyframeRequests()
    requests.made(1.0)
    requests.ask()
    assert not requests.is_due(1.29)
    assert requests.is_due(1.31)


def test_the_held_frame_is_used_only_when_its_source_is_silent() -> None:
    requests = KeyframeRequests()
    requests.made(1.0)
    requests.ask()
    assert requests.repeat_at(newest_s=5.0) == 5.4
    assert requests.repeat_at(newest_s=0.5) == 1.3
    assert requests.repeat_at(newest_s=None) == 1.3
