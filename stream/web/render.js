// @ts-check
/** The studio page as its state says; nothing else writes to the document. */
import { token } from "./server.js";
import { drawSparkline } from "./sparkline.js";
import { WORDS } from "./troubles.js";

/**
 * @typedef {import("./figures.js").Figures} Figures
 * @typedef {import("./server.js").SessionFacts} SessionFacts
 *
 * @typedef {object} State
 * @property {"idle"|"starting"|"warming"|"live"|"trouble"} phase
 * @property {"server"|"camera"|"connection"} step  while starting
 * @property {import("./troubles.js").Trouble|null} trouble
 * @property {MediaStream|null} camera
 * @property {MediaStream|null} avatar
 * @property {import("./voice.js").Voice|null} voice
 * @property {"off"|"asking"|"on"|"refused"} sound  the microphone's
 * @property {boolean} isFaltering
 * @property {string} name
 * @property {string} link
 * @property {SessionFacts|null} facts
 * @property {Figures[]} history  one a second, oldest first
 * @property {boolean} hasStopped
 * @property {boolean} isCopied
 */

const BUTTON = { idle: "Start", starting: "Cancel", warming: "Cancel", live: "Stop", trouble: "Try again" };
const BADGE = { idle: "Ready", starting: "Starting", warming: "Warming up", live: "Live", trouble: "Not running" };
const STEP = {
  server: "Asking the server…",
  camera: "Allow the camera when the browser asks.",
  connection: "Connecting…",
};
const SOUND = {
  off: "",
  asking: " Allow the microphone when the browser asks.",
  on: " The microphone is on.",
  refused: " The microphone is not to be had: allow it with the sign beside the address bar.",
};
const CEILING = { inFps: 30, outFps: 30, latencyMs: 100, memoryBytes: 1 };
const MOST_ROWS = 32;

/** @param {State} state */
export function render(state) {
  const { body } = document;
  body.dataset.state = state.phase;
  body.dataset.health = health(state);
  body.dataset.camera = state.camera ? "on" : "off";
  body.dataset.avatar = state.avatar ? "on" : "off";
  body.dataset.trouble = state.trouble?.kind ?? "";
  document.title = state.phase === "live" ? "● 面影 Omokage" : "面影 Omokage";
  play("camera", state.camera);
  play("avatar", state.avatar);
  write("badge", badgeWords(state));
  write("status", statusWords(state));
  write("act", BUTTON[state.phase]);
  renderVoice(state);
  renderTrouble(state);
  renderFigures(state);
  renderLink(state);
}

/**
 * @param {State} state
 * @returns {string}
 */
function health({ phase, facts, isFaltering }) {
  if (phase !== "live") return "";
  return isFaltering ? "faltering" : (facts?.state ?? "joining");
}

/** @param {State} state */
function badgeWords(state) {
  switch (health(state)) {
    case "faltering":
      return "Reconnecting";
    case "holding":
      return "Holding";
    case "joining":
      return "Joining";
    default:
      return BADGE[state.phase];
  }
}

/** @param {State} state */
function statusWords(state) {
  if (state.isCopied) return "The link is copied.";
  switch (state.phase) {
    case "idle":
      return state.hasStopped ? "Stopped. The camera is off." : "Viewers see the avatar, never your camera.";
    case "starting":
      return STEP[state.step];
    case "warming":
      return "The server is warming up. This starts by itself when it is ready.";
    case "trouble":
      return state.trouble ? WORDS[state.trouble.kind].title + "." : "";
    case "live":
      return liveWords(state);
  }
}

/** @param {State} state */
function liveWords(state) {
  switch (health(state)) {
    case "faltering":
      return "The network falters. Waiting for it to come back…";
    case "holding":
      return "No camera frames arrive. Viewers see the last avatar picture.";
    case "joining":
      return "Waiting for the first avatar picture…";
  }
  const viewers = state.facts?.viewers ?? 0;
  const others = viewers === 0 ? "" : `, with ${viewers} ${viewers === 1 ? "viewer" : "viewers"}`;
  return `You are live as ${state.name}${others}.${SOUND[state.sound]}`;
}

/** @param {State} state */
function renderVoice({ sound }) {
  const button = element("voice");
  button.setAttribute("aria-pressed", String(sound === "on"));
  button.title = sound === "on" ? "Switch the microphone off" : "Switch the microphone on: viewers hear you";
}

/** @param {State} state */
function renderTrouble({ trouble }) {
  const words = trouble && WORDS[trouble.kind];
  write("trouble-title", words?.title ?? "");
  write("trouble-why", words?.why ?? "");
  write("trouble-mend", words?.mend ?? "");
  write("trouble-said", trouble?.said ?? "");
}

/** @param {State} state */
function renderFigures({ history, facts }) {
  const now = history.at(-1);
  figure("inFps", decimal(now?.inFps), facts?.in_fps != null ? `server: ${decimal(facts.in_fps)}` : "");
  figure("outFps", decimal(now?.outFps), facts?.out_fps != null ? `server: ${decimal(facts.out_fps)}` : "");
  figure("latencyMs", whole(now?.latencyMs), "camera to picture");
  figure("fillRatio", whole(now?.fillRatio, 100), facts?.batch_size ? `of batches of ${facts.batch_size}` : "");
  figure("memoryBytes", whole(now?.memoryBytes, 1e-6), facts?.device ?? "");
  write("memory-kind", facts ? (facts.memory_kind === "gpu" ? "GPU memory" : "Process memory") : "Memory");
  for (const host of document.querySelectorAll("[data-spark]")) {
    const key = /** @type {keyof typeof CEILING} */ (/** @type {HTMLElement} */ (host).dataset.spark);
    drawSparkline(host, history.map((each) => each[key]), CEILING[key]);
  }
  renderRows(facts?.batch_size ?? 0, now?.fillRatio ?? null);
}

/**
 * A batch as a row of cells: the real ones full, the copies pale.
 * @param {number} batchSize
 * @param {number|null} fillRatio
 */
function renderRows(batchSize, fillRatio) {
  const host = element("rows");
  const cells = Math.min(batchSize, MOST_ROWS);
  while (host.childElementCount > cells) host.lastElementChild?.remove();
  while (host.childElementCount < cells) host.append(document.createElement("i"));
  const real = Math.round((1 - (fillRatio ?? 1)) * cells);
  [...host.children].forEach((cell, at) => cell.classList.toggle("real", at < real));
}

/** @param {State} state */
function renderLink({ link, isCopied }) {
  /** @type {HTMLInputElement} */ (element("link")).value = link;
  if (link) element("open").setAttribute("href", link);
  else element("open").removeAttribute("href");
  write("copy", isCopied ? "Copied" : "Copy");
  write("link-note", token() ? "Viewers need the token, too: the link's end is #token=… for those who have it." : "");
}

/**
 * @param {keyof Figures} key
 * @param {string} words
 * @param {string} note
 */
function figure(key, words, note) {
  const value = document.querySelector(`[data-figure=${key}]`);
  if (value && value.textContent !== words) value.textContent = words;
  const beside = document.querySelector(`[data-note=${key}]`);
  if (beside && beside.textContent !== note) beside.textContent = note;
}

/** @param {number|null|undefined} value */
function decimal(value) {
  return value == null ? "–" : value.toFixed(1);
}

/**
 * @param {number|null|undefined} value
 * @param {number} [scale]
 */
function whole(value, scale = 1) {
  return value == null ? "–" : Math.round(value * scale).toLocaleString("en");
}

/**
 * @param {string} id
 * @param {MediaStream|null} stream
 */
function play(id, stream) {
  const video = /** @type {HTMLVideoElement} */ (element(id));
  if (video.srcObject !== stream) video.srcObject = stream;
}

/**
 * @param {string} id
 * @param {string} words
 */
function write(id, words) {
  const target = element(id);
  // Only what changed: a live region would be read out again.
  if (target.textContent !== words) target.textContent = words;
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element has the id ${id}`);
  return found;
}
