"""GStreamer's webrtcbin as a WHIP publisher or a WHEP viewer, in a process of its own.

Run with the system's Python, which has GStreamer's bindings. Reads one JSON object of options from
its first argument; prints one of what happened.
"""

import json
import sys
import time
import urllib.error
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENCODERS = {
    "VP8": "vp8enc deadline=1 keyframe-max-dist=30 target-bitrate=300000 ! rtpvp8pay",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=300 ! "
    "video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 "
    "aggregate-mode=zero-latency",
}
DECODERS = {
    "VP8": "rtpvp8depay ! vp8dec",
    "H264": "rtph264depay ! h264parse ! openh264dec",
}
PROFILE = {
    "VP8": "",
    "H264": ",packetization-mode=(string)1,profile-level-id=(string)42e01f",
}
SIZE = "video/x-raw,format=I420,width={},height={},framerate=30/1"
AUDIO = (
    " audiotestsrc is-live=true wave=silence ! opusenc ! rtpopuspay ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! rtc."
)


class Client:
    """`url`, `codec`; `publish`, until its input ends: else it watches until it has `enough`
    frames; neither for longer than `seconds`; `trickle`; `resize_s`: when its size changes."""

    def __init__(self, options: dict) -> None:
        self.options = options
        self.loop = GLib.MainLoop()
        self.location = self.tag = ""
        self.pending: list[tuple[int, str]] = []
        self.patches: list[int] = []
        self.frames = 0
        self.first_s = self.posted_s = 0.0
        self.states: list[str] = []
        if options["publish"]:
            self.pipeline = Gst.parse_launch(self.launch())
            self.rtc = self.pipeline.get_by_name("rtc")
        else:
            self.pipeline = Gst.Pipeline.new()
            self.rtc = Gst.ElementFactory.make("webrtcbin")
            self.rtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
            self.pipeline.add(self.rtc)
        if not options["publish"]:
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            caps = Gst.Caps.from_string(
                f"application/x-rtp,media=video,encoding-name={options['codec']},"
                f"clock-rate=90000,payload=96{PROFILE[options['codec']]}"
            )
            self.rtc.emit("add-transceiver", direction, caps)
            self.rtc.connect("pad-added", self.on_pad)
        self.rtc.connect("on-negotiation-needed", lambda rtc: self.offer())
        self.rtc.connect("on-ice-candidate", self.on_candidate)
        self.rtc.connect("notify::ice-gathering-state", lambda *_: self.on_gathered())
        self.rtc.connect("notify::connection-state", lambda *_: self.on_state())

    def launch(self) -> str:
        codec = self.options["codec"]
        return (
            "webrtcbin name=rtc bundle-policy=max-bundle "
            f"videotestsrc is-live=true pattern=ball ! videoscale ! capsfilter name=size "
            f"caps={SIZE.format(320, 240)} ! {ENCODERS[codec]} ! "
            f"application/x-rtp,media=video,encoding-name={codec},payload=96 ! rtc."
            + (AUDIO if self.options["audio"] else "")
        )

    def run(self) -> None:
        self.pipeline.set_state(Gst.State.PLAYING)
        GLib.timeout_add(int(self.options["seconds"] * 1000), self.loop.quit)
        if self.options["publish"]:
            GLib.io_add_watch(
                sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_HUP, lambda *_: self.loop.quit()
            )
        if self.options["resize_s"]:
            GLib.timeout_add(int(self.options["resize_s"] * 1000), self.resize)
        self.loop.run()
        if self.location:
            self.ask("DELETE", self.location)
        self.pipeline.set_state(Gst.State.NULL)
        first = self.first_s - self.posted_s if self.first_s else None
        said = {"frames": self.frames, "first_s": first, "patches": self.patches}
        print(json.dumps(said | {"states": self.states}), flush=True)

    def resize(self) -> None:
        caps = Gst.Caps.from_string(SIZE.format(480, 360))
        self.pipeline.get_by_name("size").set_property("caps", caps)

    def offer(self) -> None:
        def made(promise: Gst.Promise) -> None:
            reply = promise.get_reply()  # it owns the offer
            offer = reply.get_value("offer")
            self.rtc.emit("set-local-description", offer, None)
            if self.options["trickle"]:
                GLib.idle_add(self.post, offer.sdp.as_text())

        self.rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(made))

    def on_gathered(self) -> None:
        gathered = self.rtc.get_property("ice-gathering-state")
        if not self.options["trickle"] and gathered.value_nick == "complete":
            offer = self.rtc.get_property("local-description")
            GLib.idle_add(self.post, offer.sdp.as_text())

    def on_candidate(self, rtc: Gst.Element, line: int, candidate: str) -> None:
        if self.options["trickle"]:
            GLib.idle_add(self.trickle, line, candidate)

    def on_state(self) -> None:
        self.states.append(self.rtc.get_property("connection-state").value_nick)

    def post(self, offer: str) -> None:
        self.sdp = offer
        self.posted_s = time.monotonic()
        status, headers, answer = self.ask("POST", self.options["url"], offer, "application/sdp")
        if status != 201:
            print(json.dumps({"refused": f"{status}: {answer}", "offer": offer}), flush=True)
            self.loop.quit()
            return
        self.location, self.tag = headers["Location"], headers["ETag"]
        _, message = GstSdp.SDPMessage.new_from_text(answer)
        kind = GstWebRTC.WebRTCSDPType.ANSWER
        description = GstWebRTC.WebRTCSessionDescription.new(kind, message)
        self.rtc.emit("set-remote-description", description, None)
        for line, candidate in self.pending:
            self.trickle(line, candidate)

    def trickle(self, line: int, candidate: str) -> None:
        if not self.location:
            self.pending.append((line, candidate))
            return
        keep = ("a=ice-ufrag:", "a=ice-pwd:")
        head = [it for it in self.sdp.splitlines() if it.startswith(keep)][:2]
        mids = [it for it in self.sdp.splitlines() if it.startswith("a=mid:")]
        body = "\r\n".join(
            [*head, "m=video 9 UDP/TLS/RTP/SAVPF 0", mids[line], "a=" + candidate, ""]
        )
        kind = "application/trickle-ice-sdpfrag"
        self.patches.append(self.ask("PATCH", self.location, body, kind, {"If-Match": self.tag})[0])

    def on_pad(self, rtc: Gst.Element, pad: Gst.Pad) -> None:
        chain = (
            f"queue ! {DECODERS[self.options['codec']]} ! fakesink name=sink sync=false async=false"
        )
        decoder = Gst.parse_bin_from_description(chain, True)
        self.pipeline.add(decoder)
        sink = decoder.get_by_name("sink").get_static_pad("sink")
        sink.add_probe(Gst.PadProbeType.BUFFER, self.on_frame)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def on_frame(self, pad: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
        self.frames += 1
        self.first_s = self.first_s or time.monotonic()
        if self.frames == self.options["enough"]:
            GLib.idle_add(self.loop.quit)
        return Gst.PadProbeReturn.OK

    def ask(self, method: str, url: str, body: str = "", kind: str = "", headers=None):  # type: ignore[no-untyped-def]
        request = urllib.request.Request(url, body.encode() or None, headers or {}, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read().decode()


if __name__ == "__main__":
    Gst.init(None)
    Client(json.loads(sys.argv[1])).run()
