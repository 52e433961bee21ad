// @ts-check
/** A peer connection by WHIP or WHEP: one offer, one answer, one address that ends it. */
import { address, isReady, request, saidBy, sessionFacts, token } from "./server.js";
import { sleep, until } from "./timing.js";
import { Trouble } from "./troubles.js";

/**
 * @typedef {object} Resource
 * @property {string} name  the session's public name
 * @property {URL} root     the server's root, as the server gives it out
 * @property {string} secret  by which its owner changes and ends it
 */

const GATHER_MS = 1000;
const ANSWER_MS = 30000;  // a portrait that is worn from the start may have to be made first
const CONNECT_MS = 15000;
const LOOK_MS = 1000;
const MISSES = 3;  // in a row: then the server is gone

/**
 * A connection that is closed with its signal. No ICE servers: the server is reached directly.
 * @param {AbortSignal} signal
 * @returns {RTCPeerConnection}
 */
export function openPeer(signal) {
  const peer = new RTCPeerConnection();
  signal.addEventListener("abort", () => peer.close());
  return peer;
}

/**
 * Asks for the least delay that the network allows, where the browser knows how.
 * @param {RTCRtpReceiver} receiver
 */
export function preferFresh(receiver) {
  if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
}

/**
 * Posts the peer's offer with all its candidates and takes the answer. The resource is deleted with the signal.
 * @param {RTCPeerConnection} peer
 * @param {string} path  `whip`, with a `?portrait=` or not, or `whep/{name}`
 * @param {AbortSignal} signal
 * @returns {Promise<Resource|"warming">} "warming": the server is not ready, ask again
 * @throws {Trouble}
 */
export async function negotiate(peer, path, signal) {
  await peer.setLocalDescription(await peer.createOffer());
  await Promise.race([
    until(peer, "icegatheringstatechange", () => peer.iceGatheringState === "complete", signal),
    sleep(GATHER_MS, signal),
  ]);
  // Without the signal: an answer that comes after its end still has to be deleted.
  const answer = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: peer.localDescription?.sdp,
  }, ANSWER_MS);
  if (answer.status !== 201) {
    signal.throwIfAborted();
    return await refusal(answer, signal);
  }
  const { root, below } = split(new URL(answer.headers.get("Location") ?? "", address(path)));
  signal.addEventListener("abort", () => remove(below), { once: true });
  if (signal.aborted) remove(below);
  signal.throwIfAborted();
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  const secret = below.slice(below.lastIndexOf("/") + 1);
  return { name: answer.headers.get("Omokage-Session") ?? "", root, secret };
}

/**
 * @param {Response} answer
 * @param {AbortSignal} signal
 * @returns {Promise<"warming">}
 */
async function refusal(answer, signal) {
  if (answer.status === 404) throw new Trouble("no-session");
  if (answer.status !== 503) throw new Trouble("refused", await saidBy(answer));
  if (!(await isReady(signal))) return "warming";
  throw new Trouble("full", await saidBy(answer));
}

/**
 * @param {URL} url  a resource's, as `{root}whip/sessions/{secret}`
 * @returns {{root: URL, below: string}}
 */
function split(url) {
  const [, root = "/", below = ""] = url.pathname.match(/^(.*\/)(wh[ie]p\/.+)$/) ?? [];
  return { root: new URL(root, url), below };
}

/**
 * Ends a session, also while the page is leaving. Below the page's own root: the advertised one may be of
 * another origin, which the browser would not let this page ask.
 * @param {string} below
 */
function remove(below) {
  /** @type {Record<string, string>} */
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  fetch(address(below), { method: "DELETE", headers, keepalive: true }).catch(() => {});
}

/**
 * @param {RTCPeerConnection} peer
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 * @throws {Trouble} "ice" or "dtls", whichever failed
 */
export async function untilConnected(peer, signal) {
  const late = sleep(CONNECT_MS, signal).then(() => {
    throw new Trouble(hasPath(peer) ? "dtls" : "ice", `No connection after ${CONNECT_MS / 1000} s.`);
  });
  const connected = until(peer, "connectionstatechange", () => {
    if (peer.connectionState === "failed") throw new Trouble(hasPath(peer) ? "dtls" : "ice");
    return peer.connectionState === "connected";
  }, signal);
  await Promise.race([connected, late]);
}

/**
 * @param {RTCPeerConnection} peer
 * @returns {boolean} whether ICE found a way
 */
function hasPath(peer) {
  return peer.iceConnectionState === "connected" || peer.iceConnectionState === "completed";
}

/**
 * Throws once the connection is lost, and says whose fault it is; returns never.
 * @param {RTCPeerConnection} peer
 * @param {string} name  the session's
 * @param {AbortSignal} signal
 * @returns {Promise<never>}
 */
export async function untilLost(peer, name, signal) {
  await until(peer, "connectionstatechange", () => {
    return peer.connectionState === "failed" || peer.connectionState === "closed";
  }, signal);
  throw new Trouble((await sessionFacts(name, signal)) ? "ice-lost" : "ended");
}

/**
 * Looks at the session once a second; throws when it has ended or the server answers no more.
 * @param {string} name
 * @param {(facts: import("./server.js").SessionFacts) => void} onFacts
 * @param {AbortSignal} signal
 * @returns {Promise<never>}
 */
export async function watchSession(name, onFacts, signal) {
  for (let misses = 0; ; await sleep(LOOK_MS, signal)) {
    try {
      const facts = await sessionFacts(name, signal);
      if (!facts) throw new Trouble("ended");
      onFacts(facts);
      misses = 0;
    } catch (reason) {
      if (!(reason instanceof Trouble && reason.kind === "gone")) throw reason;
      if (++misses === MISSES) throw reason;
    }
  }
}
