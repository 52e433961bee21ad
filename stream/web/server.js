// @ts-check
/** What the server can be asked over HTTP. */
import { sleep } from "./timing.js";
import { Trouble } from "./troubles.js";

/**
 * @typedef {object} SessionFacts  what `GET /sessions/{name}` answers
 * @property {string} name
 * @property {"joining"|"live"|"holding"|"ended"} state
 * @property {number} viewers
 * @property {number|null} in_fps
 * @property {number|null} out_fps
 * @property {number|null} age_ms  a frame's age when it leaves the worker, median
 * @property {number|null} fill_ratio  0 to 1: the copies' share of a batch
 * @property {number|null} memory_bytes
 * @property {"gpu"|"process"} memory_kind
 * @property {string|null} device
 * @property {number|null} batch_size
 */

// Modules lie one folder below the root, wherever a proxy may have put that.
const ROOT = new URL("../", import.meta.url);
const TIMEOUT_MS = 4000;
const READY_AGAIN_MS = 2000;
const SAID_CHARACTERS = 300;

/**
 * @param {string} path  from the server's root, without a leading slash
 * @returns {URL}
 */
export function address(path) {
  return new URL(path, ROOT);
}

/** Moves the token from the address bar into this tab's memory, so that no copied link shows it. */
export function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname + location.search);
}

/** @returns {string|null} */
export function token() {
  return sessionStorage.getItem("token");
}

/**
 * One request, with the token and a deadline.
 * @param {string|URL} path
 * @param {RequestInit} [options]  its signal ends the request early
 * @param {number} [withinMs]
 * @returns {Promise<Response>}
 * @throws {Trouble} "gone" where nothing answers, "token" where it wants another one
 */
export async function request(path, options = {}, withinMs = TIMEOUT_MS) {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), withinMs);
  const signals = options.signal ? [options.signal, deadline.signal] : [deadline.signal];
  const headers = new Headers(options.headers);
  if (token()) headers.set("Authorization", `Bearer ${token()}`);
  try {
    const signal = AbortSignal.any(signals);
    const answer = await fetch(address(String(path)), { cache: "no-store", ...options, headers, signal });
    // The body under the same deadline: a server that stops half way is gone, too.
    const body = await answer.blob();
    if (answer.status === 401) throw new Trouble("token");
    return new Response(answer.status === 204 ? null : body, answer);
  } catch (reason) {
    if (options.signal?.aborted || reason instanceof Trouble) throw reason;
    throw new Trouble("gone");
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {Response} answer
 * @returns {Promise<string>} its plain words, cut to a length that fits a page
 */
export async function saidBy(answer) {
  const words = wordsIn((await answer.text()).trim());
  return words ? `The server says: ${words.slice(0, SAID_CHARACTERS)}` : "";
}

/**
 * @param {string} text  plain, or JSON with an `error`
 * @returns {string}
 */
function wordsIn(text) {
  try {
    return JSON.parse(text).error ?? text;
  } catch {
    return text;
  }
}

/**
 * @param {AbortSignal} signal
 * @returns {Promise<boolean>} whether the worker has warmed up
 */
export async function isReady(signal) {
  return (await request("readyz", { signal })).status !== 503;
}

/**
 * @param {AbortSignal} signal
 * @param {() => void} onWarming  called at each look that finds the server still warming up
 * @returns {Promise<void>}
 */
export async function untilReady(signal, onWarming) {
  while (!(await isReady(signal))) {
    onWarming();
    await sleep(READY_AGAIN_MS, signal);
  }
}

/**
 * @param {string} name
 * @param {AbortSignal} signal
 * @returns {Promise<SessionFacts|null>} null: there is none, or it has ended
 */
export async function sessionFacts(name, signal) {
  const answer = await request(`sessions/${encodeURIComponent(name)}`, { signal });
  if (answer.status === 404 || answer.status === 410) return null;
  if (!answer.ok) throw new Trouble("gone", await saidBy(answer));
  const facts = await answer.json();
  return facts.state === "ended" ? null : facts;
}
