// @ts-check
/** A session's live numbers: set over the data channel, or over HTTP where that is not open. */
import { request, saidBy } from "./server.js";

/**
 * @typedef {object} Control
 * @property {number} value
 * @property {number} low
 * @property {number} high
 * @property {number} default
 * @typedef {Record<string, Control>} ControlsByName
 *
 * @typedef {(news: {controls?: ControlsByName, said?: string}) => void} TellControls
 */

const EVERY_MS = 40;  // at most so often
const SETTLED_MS = 400;  // an answer to an older value would make a slider jump

export class Controls {
  /** @type {RTCDataChannel} */
  #channel;
  /** @type {TellControls} */
  #tell;
  /** @type {AbortSignal} */
  #signal;
  /** @type {Record<string, number>} */
  #unsent = {};
  /** @type {ControlsByName} */
  #heard = {};
  #isResting = false;
  #setAt = -Infinity;
  #path = "";

  /**
   * To be made before the peer's offer.
   * @param {RTCPeerConnection} peer
   * @param {TellControls} tell
   * @param {AbortSignal} signal
   */
  constructor(peer, tell, signal) {
    this.#tell = tell;
    this.#signal = signal;
    this.#channel = peer.createDataChannel("controls");
    this.#channel.addEventListener("message", ({ data }) => this.#hear(JSON.parse(data)), { signal });
  }

  /**
   * Asks for what holds, over HTTP: also where the channel never opens, the sliders are there.
   * @param {string} secret  the session's
   */
  async begin(secret) {
    this.#path = `sessions/${secret}/controls`;
    await this.#ask({ method: "GET" });
  }

  /**
   * @param {Record<string, number>} values
   */
  set(values) {
    Object.assign(this.#unsent, values);
    this.#setAt = performance.now();
    if (!this.#isResting) this.#send();
  }

  #send() {
    const values = JSON.stringify(this.#unsent);
    if (values === "{}" || this.#signal.aborted) return;
    this.#unsent = {};
    this.#isResting = true;
    const rested = this.#channel.readyState === "open"
      ? Promise.resolve(this.#channel.send(values))
      : this.#ask({ method: "PATCH", headers: { "Content-Type": "application/json" }, body: values });
    rested.finally(() => setTimeout(() => {
      this.#isResting = false;
      this.#send();
    }, EVERY_MS));
  }

  /** @param {RequestInit} options */
  async #ask(options) {
    try {
      const answer = await request(this.#path, { ...options, signal: this.#signal });
      this.#hear(answer.ok ? await answer.json() : { error: await saidBy(answer) });
    } catch {
      // The session's own look at the server says what is wrong.
    }
  }

  /** @param {{controls?: ControlsByName, error?: string}} news */
  #hear({ controls, error }) {
    if (error) this.#tell({ said: error });
    if (!controls) return;
    this.#heard = controls;
    const left = this.#setAt + SETTLED_MS - performance.now();
    if (left <= 0) this.#tell({ controls });
    else setTimeout(() => this.#settle(), left);
  }

  #settle() {
    if (performance.now() >= this.#setAt + SETTLED_MS) this.#tell({ controls: this.#heard });
  }
}
