// A stranger's page: publishes or watches as its address says, and posts to /report what it saw.
// ?client=plain|whip-whep|eyevinn &publish=URL | &watch=URL &enough=20 &codec=VP8 &seconds=3 &id=…
// It publishes until /over answers, or watches until it has frames enough, at most for so long.

const asked = Object.fromEntries(new URLSearchParams(location.search));
const report = { id: asked.id, frames: 0, firstS: null, errors: [], states: [] };
const peers = [];

function peer() {
  const made = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  made.addEventListener("connectionstatechange", () => report.states.push(made.connectionState));
  peers.push(made);
  return made;
}

async function camera() {
  const video = { width: 320, height: 240, frameRate: 30 };
  return navigator.mediaDevices.getUserMedia({ video, audio: true });
}

function prefer(transceiver, kind) {
  const { codecs } = kind.getCapabilities("video");
  const wanted = codecs.filter((it) => it.mimeType.endsWith(`/${asked.codec}`));
  transceiver.setCodecPreferences(wanted);
}

async function exchange(made, url) {
  await made.setLocalDescription();
  const headers = { "Content-Type": "application/sdp" };
  const answer = await fetch(url, { method: "POST", headers, body: made.localDescription.sdp });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  await made.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  return () => fetch(answer.headers.get("Location"), { method: "DELETE" });
}

const publish = {
  async plain(url) {
    const made = peer();
    for (const track of (await camera()).getTracks()) {
      const transceiver = made.addTransceiver(track, { direction: "sendonly" });
      if (track.kind === "video") prefer(transceiver, RTCRtpSender);
    }
    return exchange(made, url);
  },
  async "whip-whep"(url) {
    const { WHIPClient } = await import("./clients.js");
    const made = peer();
    const stream = await camera();
    for (const track of stream.getTracks()) made.addTrack(track, stream);
    const client = new WHIPClient();
    await client.publish(made, url);
    return () => client.stop();
  },
  async eyevinn(url) {
    const { EyevinnClient } = await import("./clients.js");
    const opts = { iceServers: [], timeout: 200 };
    const client = new EyevinnClient({ endpoint: url, opts, peerConnectionFactory: peer });
    await client.ingest(await camera());
    return () => client.destroy();
  },
};

function show({ track }) {
  if (track.kind === "video") document.querySelector("#seen").srcObject = new MediaStream([track]);
}

const watch = {
  async plain(url) {
    const made = peer();
    made.addEventListener("track", show);
    prefer(made.addTransceiver("video", { direction: "recvonly" }), RTCRtpReceiver);
    made.addTransceiver("audio", { direction: "recvonly" });
    return exchange(made, url);
  },
  async "whip-whep"(url) {
    const { WHEPClient } = await import("./clients.js");
    const made = peer();
    made.addEventListener("track", show);
    made.addTransceiver("audio");
    made.addTransceiver("video");
    const client = new WHEPClient();
    await client.view(made, url);
    return () => client.stop();
  },
};

let postedMs = null;
const { fetch: send } = window;
window.fetch = (...sent) => {
  if (sent[1]?.method === "POST") postedMs ??= performance.now();
  return send(...sent);
};

async function framesOf(made) {
  const wanted = asked.watch ? "inbound-rtp" : "outbound-rtp";
  const stats = [...(await made.getStats()).values()];
  const found = stats.find((it) => it.type === wanted && it.kind === "video");
  return (asked.watch ? found?.framesDecoded : found?.framesEncoded) ?? 0;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

addEventListener("unhandledrejection", ({ reason }) => report.errors.push(String(reason)));
try {
  const start = asked.watch ? watch[asked.client] : publish[asked.client];
  document.querySelector("#seen").requestVideoFrameCallback(() => {
    report.firstS = (performance.now() - postedMs) / 1000;
  });
  const end = await start(asked.watch ?? asked.publish);
  if (asked.publish) {
    await fetch(`/over?id=${asked.id}`);
  } else {
    const endMs = performance.now() + 1000 * Number(asked.seconds);
    while ((await framesOf(peers[0])) < Number(asked.enough) && performance.now() < endMs)
      await pause(0.05);
  }
  report.frames = await framesOf(peers[0]);
  await end();
} catch (error) {
  report.errors.push(String(error));
}
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
