// @ts-check
/** The page that starts a session: its one state and its one button. */
import { perform, requireSecurePage } from "./perform.js";
import { choiceOf, pictureOf, prepared, wear } from "./portraits.js";
import { OWN, render } from "./render.js";
import { takeToken } from "./server.js";
import { POINTS } from "./sparkline.js";
import { asTrouble } from "./troubles.js";

/**
 * @typedef {import("./render.js").State} State
 * @typedef {import("./render.js").Dress} Dress
 */

/** @type {Dress} */
const BARE = {
  choice: { portraits: [], takesUploads: false, hasControls: false },
  wanted: "",
  worn: "",
  own: null,
  ownPicture: "",
  isChanging: false,
  said: "",
};
/** @type {Omit<State, "dress">} */
const IDLE = {
  phase: "idle",
  step: "server",
  trouble: null,
  camera: null,
  avatar: null,
  voice: null,
  sound: "off",
  secret: "",
  setter: null,
  controls: {},
  isNeutralTaken: false,
  isFaltering: false,
  name: "",
  link: "",
  facts: null,
  history: [],
  hasStopped: false,
  isCopied: false,
};
const COPIED_MS = 2000;

/** @type {State} */
let state = { ...IDLE, dress: BARE };
let changes = 0;
const leaving = new AbortController();
let session = new AbortController();

/** @param {Partial<State>} news */
function set(news) {
  state = { ...state, ...news };
  render(state);
}

/** @param {Partial<Dress>} news */
function setDress(news) {
  set({ dress: { ...state.dress, ...news } });
}

async function start() {
  const mine = (session = new AbortController());
  set({ ...IDLE, phase: "starting" });
  setDress({ said: "" });
  try {
    await perform(mine.signal, ({ figures, choice, said, ...news }) => {
      if (mine.signal.aborted) return;
      if (choice) offer(choice);
      if (said) setDress({ said });
      set(figures ? { history: [...state.history, figures].slice(-POINTS) } : news);
      if (news.secret) begin();
    }, firstPortrait);
  } catch (reason) {
    if (!mine.signal.aborted) {
      leaveDress();
      set({ ...IDLE, phase: "trouble", trouble: asTrouble(reason) });
    }
  } finally {
    mine.abort();
  }
}

function stop() {
  const wasLive = state.phase === "live";
  session.abort();
  leaveDress();
  set({ ...IDLE, hasStopped: wasLive });
}

/**
 * @param {import("./portraits.js").Choice} choice
 */
function offer(choice) {
  const { dress } = state;
  const isThere = dress.wanted === OWN ? choice.takesUploads : choice.portraits.some(({ name }) => name === dress.wanted);
  setDress({ choice, wanted: isThere ? dress.wanted : (choice.portraits[0]?.name ?? "") });
  for (const { name, picture } of choice.portraits) {
    if (!picture) pictureOf(name, leaving.signal).then((address) => show(name, address)).catch(() => {});
  }
}

/**
 * @param {string} name
 * @param {string} picture
 */
function show(name, picture) {
  const { choice } = state.dress;
  const portraits = choice.portraits.map((each) => (each.name === name ? { name, picture } : each));
  setDress({ choice: { ...choice, portraits } });
}

/** @returns {string} the shipped one that a session begins with; "": the model's default */
function firstPortrait() {
  const { wanted, choice } = state.dress;
  const worn = wanted === OWN || wanted === choice.portraits[0]?.name ? "" : wanted;
  setDress({ worn: worn || (choice.portraits[0]?.name ?? "") });
  return worn;
}

/** The session is there: what was chosen meanwhile, and a picture of one's own, it has yet to put on. */
function begin() {
  if (state.dress.wanted !== state.dress.worn) choose(state.dress.wanted);
}

/** @param {string} wanted  a shipped one's name, or OWN */
async function choose(wanted) {
  const mine = session;
  const change = ++changes;
  setDress({ wanted, said: "", isChanging: state.secret !== "" });
  if (!state.secret) return;
  try {
    const portrait = wanted === OWN && state.dress.own ? await prepared(state.dress.own) : wanted;
    if (change === changes) await wear(state.secret, portrait, mine.signal);
    if (change === changes) setDress({ worn: wanted, isChanging: false });
  } catch (reason) {
    if (change !== changes || mine.signal.aborted) return;
    setDress({ wanted: state.dress.worn, isChanging: false, said: asTrouble(reason).message });
  }
}

/** The session is over: what is under way to it is nobody's any more. The choice stays. */
function leaveDress() {
  changes++;
  setDress({ isChanging: false });
}

/** @param {File|undefined} own */
function upload(own) {
  if (!own) return;
  URL.revokeObjectURL(state.dress.ownPicture);
  setDress({ own, ownPicture: URL.createObjectURL(own) });
  choose(OWN);
}

/** @param {Record<string, number>} values */
function setControls(values) {
  const changed = Object.entries(values).map(([name, value]) => [name, { ...state.controls[name], value }]);
  set({ controls: { ...state.controls, ...Object.fromEntries(changed) } });
  state.setter?.set(values);
}

function takeNeutral() {
  const { value, low, high } = state.controls.neutral;
  setControls({ neutral: value + 1 > high ? low : value + 1 });
  set({ isNeutralTaken: true });
  setTimeout(() => set({ isNeutralTaken: false }), COPIED_MS);
}

function resetControls() {
  const sliders = Object.entries(state.controls).filter(([name]) => name !== "neutral");
  setControls(Object.fromEntries(sliders.map(([name, each]) => [name, each.default])));
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

/**
 * @param {string} id
 * @param {string} event
 * @param {(input: HTMLInputElement) => unknown} action
 */
function onInput(id, event, action) {
  document.getElementById(id)?.addEventListener(event, ({ target }) => {
    if (target instanceof HTMLInputElement) action(target);
  });
}

takeToken();
onClick("act", () => (state.phase === "idle" || state.phase === "trouble" ? start() : stop()));
onClick("voice", toggleSound);
onInput("portraits", "change", ({ value }) => choose(value));
onInput("upload", "change", (input) => {
  upload(input.files?.[0]);
  input.value = "";  // the same file may be chosen again
});
onInput("sliders", "input", ({ name, valueAsNumber }) => setControls({ [name]: valueAsNumber }));
onClick("neutral", takeNeutral);
onClick("reset", resetControls);
onClick("copy", () => copy().catch(() => /** @type {HTMLInputElement} */ (document.getElementById("link")).select()));
addEventListener("pagehide", stop);
addEventListener("pagehide", () => leaving.abort());
addEventListener("hashchange", takeToken);
try {
  requireSecurePage();
  render(state);
  choiceOf(leaving.signal).then(offer).catch(() => {});  // what is wrong is told when it matters
} catch (reason) {
  set({ phase: "trouble", trouble: asTrouble(reason) });
}
