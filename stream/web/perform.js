// @ts-check
/** One session of this page, from the camera to its end. */
import { Controls } from "./controls.js";
import { negotiate, openPeer, preferFresh, untilConnected, untilLost, watchSession } from "./connection.js";
import { counters, figures } from "./figures.js";
import { choiceOf } from "./portraits.js";
import { address, untilReady } from "./server.js";
import { sleep } from "./timing.js";
import { Trouble, cameraTrouble } from "./troubles.js";
import { Voice } from "./voice.js";

/**
 * @typedef {object} Performance  what there is to see of it, told piece by piece
 * @property {"starting"|"warming"|"live"} phase
 * @property {"server"|"camera"|"connection"} step  while starting
 * @property {MediaStream|null} camera
 * @property {MediaStream|null} avatar  set when its first packet comes
 * @property {Voice|null} voice
 * @property {Controls|null} setter  of the model's numbers, where it has some
 * @property {import("./portraits.js").Choice} choice
 * @property {import("./controls.js").ControlsByName} controls
 * @property {string} said  what was wrong with a control
 * @property {string} secret  told once the session is there
 * @property {boolean} isFaltering  the network is gone for the moment
 * @property {string} name
 * @property {string} link
 * @property {import("./server.js").SessionFacts|null} facts
 * @property {import("./figures.js").Figures} figures
 *
 * @typedef {(news: Partial<Performance>) => void} Tell
 */

const MEASURE_MS = 1000;

/** @type {MediaStreamConstraints} */
const CAMERA = {
  audio: false,
  video: { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, facingMode: "user" },
};

/** @throws {Trouble} where the browser would give no camera */
export function requireSecurePage() {
  if (!isSecureContext || !navigator.mediaDevices) throw new Trouble("insecure");
}

/**
 * Runs until the signal ends it or a trouble does. All that it began ends with the signal.
 * @param {AbortSignal} signal
 * @param {Tell} tell
 * @param {() => string} portrait  the shipped one to begin with; "": the default
 * @returns {Promise<never>}
 * @throws {Trouble}
 */
export async function perform(signal, tell, portrait) {
  requireSecurePage();
  await whenReady(signal, tell);
  const choice = await choiceOf(signal);
  tell({ choice });
  tell({ phase: "starting", step: "camera" });
  const camera = await openCamera(signal);
  tell({ camera, step: "connection" });
  const peer = openPeer(signal);
  send(camera, peer, tell, signal);
  tell({ voice: new Voice(peer, camera, signal) });
  const setter = choice.hasControls ? new Controls(peer, tell, signal) : null;
  const session = await join(peer, signal, tell, portrait);
  tell({ name: session.name, link: watchLink(session), secret: session.secret, setter });
  setter?.begin(session.secret);
  await untilConnected(peer, signal);
  tell({ phase: "live" });
  return await Promise.race([
    live(peer, session.name, signal, tell),
    untilLost(peer, session.name, signal),
    untilUnplugged(camera, signal),
  ]);
}

/**
 * @param {AbortSignal} signal
 * @param {Tell} tell
 */
async function whenReady(signal, tell) {
  tell({ phase: "starting", step: "server" });
  await untilReady(signal, () => tell({ phase: "warming" }));
}

/**
 * @param {AbortSignal} signal
 * @returns {Promise<MediaStream>} switched off with the signal
 */
async function openCamera(signal) {
  let camera;
  try {
    camera = await navigator.mediaDevices.getUserMedia(CAMERA);
  } catch (reason) {
    throw cameraTrouble(reason);
  }
  const off = () => camera.getTracks().forEach((track) => track.stop());
  signal.addEventListener("abort", off);
  if (signal.aborted) off();
  signal.throwIfAborted();
  return camera;
}

/**
 * @param {MediaStream} camera
 * @param {RTCPeerConnection} peer
 * @param {Tell} tell
 * @param {AbortSignal} signal
 */
function send(camera, peer, tell, signal) {
  const [track] = camera.getVideoTracks();
  track.contentHint = "motion";
  const { receiver } = peer.addTransceiver(track, { direction: "sendrecv", streams: [camera] });
  preferFresh(receiver);
  const avatar = new MediaStream([receiver.track]);
  receiver.track.addEventListener("unmute", () => tell({ avatar }), { signal, once: true });
  peer.addEventListener("connectionstatechange", () => {
    tell({ isFaltering: peer.connectionState === "disconnected" });
  }, { signal });
}

/**
 * @param {RTCPeerConnection} peer
 * @param {AbortSignal} signal
 * @param {Tell} tell
 * @param {() => string} portrait
 * @returns {Promise<import("./connection.js").Resource>}
 */
async function join(peer, signal, tell, portrait) {
  for (;;) {
    const name = portrait();
    const path = name ? `whip?portrait=${encodeURIComponent(name)}` : "whip";
    const session = await negotiate(peer, path, signal);
    if (session !== "warming") return session;
    await whenReady(signal, tell);
    tell({ phase: "starting", step: "connection" });
  }
}

/**
 * @param {import("./connection.js").Resource} session
 * @returns {string} by the address that the server advertises, where that is not this page's own
 */
function watchLink({ name, root }) {
  const path = `watch/${encodeURIComponent(name)}`;
  return root.host === location.host ? address(path).href : new URL(path, root).href;
}

/**
 * @param {RTCPeerConnection} peer
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {Tell} tell
 * @returns {Promise<never>}
 */
async function live(peer, name, signal, tell) {
  /** @type {import("./server.js").SessionFacts|null} */
  let latest = null;
  const look = watchSession(name, (facts) => {
    latest = facts;
    tell({ facts });
  }, signal);
  const measure = async () => {
    for (let before = await count(peer); ; ) {
      await sleep(MEASURE_MS, signal);
      const after = await count(peer);
      tell({ figures: figures(before, after, latest) });
      before = after;
    }
  };
  return await Promise.race([look, measure()]);
}

/**
 * @param {RTCPeerConnection} peer
 * @returns {Promise<import("./figures.js").Counters>}
 */
async function count(peer) {
  const report = /** @type {Map<string, Record<string, any>>} */ (/** @type {unknown} */ (await peer.getStats()));
  return counters(report.values(), performance.now());
}

/**
 * @param {MediaStream} camera
 * @param {AbortSignal} signal
 * @returns {Promise<never>}
 */
function untilUnplugged(camera, signal) {
  return new Promise((_, reject) => {
    const lost = () => reject(new Trouble("camera-lost"));
    camera.getVideoTracks()[0].addEventListener("ended", lost, { signal });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
