// @ts-check
/** The page that shows a session, and comes back to it by itself. */
import { negotiate, openPeer, preferFresh, untilConnected, untilLost, watchSession } from "./connection.js";
import { takeToken } from "./server.js";
import { sleep, until } from "./timing.js";
import { Trouble, WORDS, asTrouble } from "./troubles.js";

/**
 * @typedef {object} State
 * @property {"connecting"|"warming"|"live"|"trouble"} phase
 * @property {Trouble|null} trouble
 * @property {MediaStream|null} avatar
 * @property {boolean} isHolding
 * @property {boolean} isFaltering
 * @property {boolean} isStill  the browser wants a press before it plays
 * @property {boolean} hasSound  the session may be heard
 * @property {boolean} isHeard   the person wants to hear it; browsers play by themselves only what is silent
 */

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 8000;
/** What time does not mend: these wait for a press. @type {Set<import("./troubles.js").Kind>} */
const LASTING = new Set(["token", "refused", "bug"]);

const name = decodeURIComponent(location.pathname.split("/").at(-1) ?? "");
const video = /** @type {HTMLVideoElement} */ (document.getElementById("avatar"));
/** @type {State} */
let state = {
  phase: "connecting", trouble: null, avatar: null, isHolding: false, isFaltering: false, isStill: false,
  hasSound: false, isHeard: false,
};
let page = new AbortController();

/** @param {Partial<State>} news */
function set(news) {
  state = { ...state, ...news };
  render(state);
}

/**
 * Watches, and after a trouble that time may mend tries again, at growing pauses.
 * @param {AbortSignal} signal
 */
async function keepWatching(signal) {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const attempt = new AbortController();
    const end = () => attempt.abort();
    signal.addEventListener("abort", end);
    try {
      await watch(attempt.signal, () => (pauseMs = FIRST_PAUSE_MS));
    } catch (reason) {
      if (signal.aborted) return;
      const trouble = asTrouble(reason);
      set({ phase: "trouble", trouble, avatar: null, isHolding: false, isFaltering: false });
      if (LASTING.has(trouble.kind)) return;
    } finally {
      attempt.abort();
      signal.removeEventListener("abort", end);
    }
    await sleep(pauseMs, signal).catch(() => {});
    if (signal.aborted) return;
  }
}

/**
 * @param {AbortSignal} signal
 * @param {() => void} onLive
 * @returns {Promise<never>}
 */
async function watch(signal, onLive) {
  const peer = openPeer(signal);
  const { receiver } = peer.addTransceiver("video", { direction: "recvonly" });
  preferFresh(receiver);
  const sound = peer.addTransceiver("audio", { direction: "recvonly" });
  while ((await negotiate(peer, `whep/${encodeURIComponent(name)}`, signal)) === "warming") {
    set({ phase: "warming", trouble: null });
    await sleep(LONGEST_PAUSE_MS / 4, signal);
  }
  await untilConnected(peer, signal);
  peer.addEventListener("connectionstatechange", () => {
    set({ isFaltering: peer.connectionState === "disconnected" });
  }, { signal });
  return await Promise.race([
    show(receiver.track, sound, onLive, signal),
    watchSession(name, (facts) => set({ isHolding: facts.state === "holding" }), signal),
    untilLost(peer, name, signal),
  ]);
}

/**
 * @param {MediaStreamTrack} track
 * @param {RTCRtpTransceiver} sound  inactive where the session has none
 * @param {() => void} onLive
 * @param {AbortSignal} signal
 * @returns {Promise<never>}
 */
async function show(track, sound, onLive, signal) {
  await until(track, "unmute", () => !track.muted, signal);
  const hasSound = sound.currentDirection === "recvonly";
  const avatar = new MediaStream(hasSound ? [track, sound.receiver.track] : [track]);
  set({ phase: "live", trouble: null, avatar, hasSound });
  onLive();
  return await new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

function start() {
  page.abort();
  page = new AbortController();
  keepWatching(page.signal);
}

/** @param {State} now */
function render(now) {
  document.body.dataset.state = now.phase;
  document.body.dataset.trouble = now.trouble?.kind ?? "";
  document.body.dataset.still = String(now.isStill);
  document.body.dataset.health = now.isFaltering ? "faltering" : now.isHolding ? "holding" : "";
  document.title = `${name} · 面影 Omokage`;
  document.body.dataset.sound = String(now.hasSound);
  video.muted = !now.isHeard;
  if (video.srcObject !== now.avatar) video.srcObject = now.avatar;
  renderSound(now);
  const words = wordsOf(now);
  write("name", name);
  write("badge", badgeWords(now));
  write("title", words.title);
  write("why", words.why);
  write("mend", words.mend);
  write("said", now.trouble?.said ?? "");
  write("act", now.isStill ? "Play" : "Try again");
  write("status", now.phase === "live" ? `${name}: ${badgeWords(now)}` : words.title);
}

/** @param {State} now */
function renderSound({ isHeard }) {
  const button = document.getElementById("sound");
  button?.setAttribute("aria-pressed", String(isHeard));
  if (button) button.title = isHeard ? "Switch the sound off" : "Switch the sound on";
}

/**
 * @param {State} now
 * @returns {import("./troubles.js").Words}
 */
function wordsOf({ phase, trouble, isStill }) {
  if (isStill) return { title: "Press to play", why: "This browser starts no picture by itself.", mend: "" };
  if (phase === "warming") {
    return { title: "The server is warming up", why: "The picture starts by itself when it is ready.", mend: "" };
  }
  if (!trouble) return { title: "Connecting…", why: "", mend: "" };
  const { title, why, mend } = WORDS[trouble.kind];
  if (trouble.kind === "ended") {
    return { title, why: "", mend: "Leave this page open: it goes on by itself if the session comes back." };
  }
  if (LASTING.has(trouble.kind) || trouble.kind === "no-session") return { title, why, mend };
  return { title, why, mend: `${mend} This page also tries again by itself.` };
}

/** @param {State} now */
function badgeWords({ phase, isHolding, isFaltering }) {
  if (phase === "warming") return "Warming up";
  if (phase === "connecting") return "Connecting";
  if (phase === "trouble") return "Off";
  return isFaltering ? "Reconnecting" : isHolding ? "Holding the last picture" : "Live";
}

/**
 * @param {string} id
 * @param {string} words
 */
function write(id, words) {
  const target = document.getElementById(id);
  if (target && target.textContent !== words) target.textContent = words;
}

function press() {
  if (!state.isStill) return start();
  set({ isStill: false });
  video.play();
}

takeToken();
document.getElementById("sound")?.addEventListener("click", () => set({ isHeard: !state.isHeard }));
document.getElementById("act")?.addEventListener("click", press);
video.addEventListener("loadedmetadata", () => {
  // After a pause a browser may no longer play what is heard: silent it may.
  video.play().catch(() => {
    set({ isHeard: false });
    return video.play();
  }).catch(() => set({ isStill: true }));
});
addEventListener("pagehide", () => page.abort());
addEventListener("pageshow", (event) => event.persisted && start());
render(state);
start();
