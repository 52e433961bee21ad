// @ts-check
/** The studio page as its state says; nothing else writes to the document. */
import { token } from "./server.js";
import { drawSparkline } from "./sparkline.js";
import { WORDS } from "./troubles.js";

/** The choice that is no shipped portrait. No portrait can have this name. */
export const OWN = "*";

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
 * @property {Dress} dress  outlives the sessions
 * @property {string} secret  the session's; "" while there is none
 * @property {import("./controls.js").Controls|null} setter
 * @property {import("./controls.js").ControlsByName} controls
 * @property {boolean} isNeutralTaken
 * @property {boolean} isFaltering
 * @property {string} name
 * @property {string} link
 * @property {SessionFacts|null} facts
 * @property {Figures[]} history  one a second, oldest first
 * @property {boolean} hasStopped
 * @property {boolean} isCopied
 *
 * @typedef {object} Dress
 * @property {import("./portraits.js").Choice} choice
 * @property {string} wanted  a shipped portrait's name, or OWN
 * @property {string} worn    what the session wears
 * @property {File|null} own
 * @property {string} ownPicture  its address
 * @property {boolean} isChanging
 * @property {string} said  why a portrait or a control was refused
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
  mark("state", state.phase);
  mark("health", health(state));
  mark("camera", state.camera ? "on" : "off");
  mark("avatar", state.avatar ? "on" : "off");
  mark("trouble", state.trouble?.kind ?? "");
  document.title = state.phase === "live" ? "● 面影 Omokage" : "面影 Omokage";
  play("camera", state.camera);
  play("avatar", state.avatar);
  write("badge", badgeWords(state));
  write("status", statusWords(state));
  write("act", BUTTON[state.phase]);
  renderVoice(state);
  renderPortraits(state);
  renderControls(state);
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
  if (state.dress.isChanging) return "The portrait is being made. The one before stays until it is whole…";
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
function renderPortraits({ dress }) {
  const { choice, own, ownPicture, wanted, isChanging } = dress;
  const tiles = choice.portraits.map(({ name, picture }) => ({ value: name, picture, words: readable(name) }));
  if (own) tiles.push({ value: OWN, picture: ownPicture, words: "Your own picture" });
  mark("portraits", choice.takesUploads ? "on" : "off");
  const host = element("portraits");
  const there = [...host.querySelectorAll("input")].map((input) => input.value);
  if (there.join() !== tiles.map(({ value }) => value).join()) host.replaceChildren(...tiles.map(tile));
  host.querySelectorAll("label").forEach((label, at) => {
    const [input, image] = [label.querySelector("input"), label.querySelector("img")];
    if (!input || !image) return;
    input.checked = input.value === wanted;
    label.dataset.changing = String(input.checked && isChanging);
    image.hidden = !tiles[at].picture;
    if (!image.hidden && image.getAttribute("src") !== tiles[at].picture) image.src = tiles[at].picture;
  });
  const poster = /** @type {HTMLImageElement} */ (element("poster"));
  const picture = tiles.find(({ value }) => value === wanted)?.picture ?? "";
  if (picture && poster.getAttribute("src") !== picture) poster.src = picture;
  poster.hidden = !picture;
  write("dress-said", dress.said);
}

/**
 * @param {{value: string, words: string}} portrait
 * @returns {HTMLLabelElement}
 */
function tile({ value, words }) {
  const label = document.createElement("label");
  label.className = "tile";
  label.title = words;
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "portrait", value });
  input.setAttribute("aria-label", words);
  const image = document.createElement("img");
  Object.assign(image, { alt: "", hidden: true });
  label.append(input, image);
  return label;
}

/** @param {State} state */
function renderControls({ controls, isNeutralTaken }) {
  const names = Object.keys(controls).filter((name) => name !== "neutral");
  mark("controls", Object.keys(controls).length ? "on" : "off");
  const host = element("sliders");
  const there = [...host.querySelectorAll("input")].map((input) => input.name);
  if (there.join() !== names.join()) host.replaceChildren(...names.map((name) => slider(name, controls[name])));
  for (const input of host.querySelectorAll("input")) {
    const { value } = controls[input.name];
    if (input.valueAsNumber !== value) input.valueAsNumber = value;
    const output = input.parentElement?.querySelector("output");
    if (output) output.value = value.toFixed(2);
  }
  element("reset").hidden = names.length === 0;
  element("neutral").hidden = !("neutral" in controls);
  write("neutral", isNeutralTaken ? "Taken" : "Take my neutral face now");
}

/**
 * @param {string} name
 * @param {import("./controls.js").Control} control
 * @returns {HTMLLabelElement}
 */
function slider(name, { low, high }) {
  const label = document.createElement("label");
  const said = document.createElement("span");
  said.textContent = readable(name);
  const input = document.createElement("input");
  Object.assign(input, { type: "range", name, min: low, max: high, step: (high - low) / 200 });
  label.append(said, document.createElement("output"), input);
  return label;
}

/** @param {string} name  as a model names a thing */
function readable(name) {
  const said = name.replace(/[-_]+/g, " ").trim();
  return said.charAt(0).toUpperCase() + said.slice(1);
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
 * @param {string} claim  the body's `data-` attribute, which the style follows
 * @param {string} value
 */
function mark(claim, value) {
  const { dataset } = document.body;
  if (dataset[claim] !== value) dataset[claim] = value;
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
