// @ts-check
/** The page that starts a session: its one state and its one button. */
import { perform, requireSecurePage } from "./perform.js";
import { render } from "./render.js";
import { takeToken } from "./server.js";
import { POINTS } from "./sparkline.js";
import { asTrouble } from "./troubles.js";

/** @typedef {import("./render.js").State} State */

/** @type {State} */
const IDLE = {
  phase: "idle",
  step: "server",
  trouble: null,
  camera: null,
  avatar: null,
  voice: null,
  sound: "off",
  isFaltering: false,
  name: "",
  link: "",
  facts: null,
  history: [],
  hasStopped: false,
  isCopied: false,
};
const COPIED_MS = 2000;

let state = IDLE;
let session = new AbortController();

/** @param {Partial<State>} news */
function set(news) {
  state = { ...state, ...news };
  render(state);
}

async function start() {
  const mine = (session = new AbortController());
  set({ ...IDLE, phase: "starting" });
  try {
    await perform(mine.signal, ({ figures, ...news }) => {
      if (mine.signal.aborted) return;
      set(figures ? { history: [...state.history, figures].slice(-POINTS) } : news);
    });
  } catch (reason) {
    if (!mine.signal.aborted) set({ ...IDLE, phase: "trouble", trouble: asTrouble(reason) });
  } finally {
    mine.abort();
  }
}

function stop() {
  const wasLive = state.phase === "live";
  session.abort();
  set({ ...IDLE, hasStopped: wasLive });
}

async function toggleSound() {
  const { voice, sound } = state;
  if (sound === "on" || sound === "asking") {
    voice?.switchOff();
    set({ sound: "off" });
  } else if (voice) {
    set({ sound: "asking" });
    const isOn = await voice.switchOn();
    if (state.voice === voice && state.sound === "asking") set({ sound: isOn ? "on" : "refused" });
  }
}

async function copy() {
  await navigator.clipboard.writeText(state.link);
  set({ isCopied: true });
  setTimeout(() => set({ isCopied: false }), COPIED_MS);
}

/**
 * @param {string} id
 * @param {() => unknown} action
 */
function onClick(id, action) {
  document.getElementById(id)?.addEventListener("click", action);
}

takeToken();
onClick("act", () => (state.phase === "idle" || state.phase === "trouble" ? start() : stop()));
onClick("voice", toggleSound);
onClick("copy", () => copy().catch(() => /** @type {HTMLInputElement} */ (document.getElementById("link")).select()));
addEventListener("pagehide", stop);
addEventListener("hashchange", takeToken);
try {
  requireSecurePage();
  render(state);
} catch (reason) {
  set({ phase: "trouble", trouble: asTrouble(reason) });
}
