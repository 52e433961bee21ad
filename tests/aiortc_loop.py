"""The loop that aiortc's server example is, around a model: what a session costs without us.

`python tests/aiortc_loop.py PORT [THREADS]`: answers WHIP offers at 127.0.0.1:PORT, says "ready".
Each session decodes by aiortc, goes through RGB arrays and torch in `recv()`, and is encoded by
aiortc. THREADS: torch's; its own default otherwise. Nothing here is ours, and nothing tuned.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import torch
from aiohttp import web
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from av import VideoFrame


class Avatar(MediaStreamTrack):
    """The example's VideoTransformTrack, its OpenCV step replaced by the model `mirror`."""

    kind = "video"

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__()
        self._track = track

    async def recv(self) -> VideoFrame:
        frame = await self._track.recv()
        assert isinstance(frame, VideoFrame)
        pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
        with torch.inference_mode():
            faces = pixels.permute(2, 0, 1).unsqueeze(0).float().div(255)
            avatars = faces  # the model `mirror`
            shown = avatars.mul(255).round().clamp(0, 255).to(torch.uint8)
            result = shown.squeeze(0).permute(1, 2, 0).contiguous().numpy()
        new_frame = VideoFrame.from_ndarray(result, format="rgb24")
        new_frame.pts = frame.pts
        new_frame.time_base = frame.time_base
        return new_frame


class Sessions:
    def __init__(self) -> None:
        self._open: dict[str, RTCPeerConnection] = {}

    async def publish(self, request: web.Request) -> web.Response:
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        name = str(id(pc))
        self._open[name] = pc

        @pc.on("track")
        def on_track(track: MediaStreamTrack) -> None:
            if track.kind == "video":
                pc.addTrack(Avatar(track))

        await pc.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
        await pc.setLocalDescription(await pc.createAnswer())
        return web.Response(
            status=201,
            text=pc.localDescription.sdp,
            content_type="application/sdp",
            headers={"Location": f"{request.url.origin()}/session/{name}"},
        )

    async def end(self, request: web.Request) -> web.Response:
        await self._open.pop(request.match_info["name"]).close()
        return web.Response()


def main() -> None:
    port, threads = int(sys.argv[1]), sys.argv[2:]
    logging.basicConfig(level=logging.ERROR)
    if threads:
        torch.set_num_threads(int(threads[0]))
    sessions = Sessions()
    app = web.Application()
    app.router.add_post("/whip", sessions.publish)
    app.router.add_delete("/session/{name}", sessions.end)

    def ready(*_: Any) -> None:
        print(f"ready, torch threads {torch.get_num_threads()}", flush=True)

    web.run_app(app, host="127.0.0.1", port=port, print=ready, handle_signals=True)


if __name__ == "__main__":
    main()
