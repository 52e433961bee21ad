"""stream.capacity: the server knows what it can carry."""

from __future__ import annotations

from server import serve

from stream.capacity import USUAL_FPS, beyond, frames_s_carried


def test_the_bound_itself_is_carried_and_one_more_is_not() -> None:
    most = frames_s_carried() // USUAL_FPS
    assert beyond(1) is None and beyond(most) is None
    said = beyond(most + 1)
    assert said is not None
    assert f"--max-sessions {most + 1}" in said and f"{most} sessions" in said


async def test_the_server_says_at_start_that_it_was_asked_for_more_than_it_carries() -> None:
    asked = 2 * frames_s_carried() // USUAL_FPS
    flags = ("--model", "mirror", "--geometry", "64x64", "--max-sessions", str(asked))
    async with serve(*flags) as server:
        said = [line for line in server.lines if "beyond what one event loop carries" in line]
        assert len(said) == 1 and f"--max-sessions {asked}" in said[0]
    async with serve("--model", "mirror", "--geometry", "64x64") as server:
        assert not [line for line in server.lines if "beyond what" in line]
