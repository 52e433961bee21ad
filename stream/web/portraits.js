// @ts-check
/** The portraits to choose from, and how a session puts one on. */
import { request, saidBy } from "./server.js";
import { Trouble } from "./troubles.js";

/**
 * @typedef {object} Portrait  one that comes with the model
 * @property {string} name
 * @property {string} picture  a blob's address; "" until it is here
 *
 * @typedef {object} Choice  what a model leaves to choose
 * @property {Portrait[]} portraits  the default first
 * @property {boolean} takesUploads
 * @property {boolean} hasControls
 */

const LONGEST_SIDE = 1024;  // the server scales down to as much
const MOST_BYTES = 8 * 1024 * 1024;
const WEAR_MS = 180000;
const PICTURE_MS = 60000;  // a busy server shrinks each, one after another, when first asked

/** @type {Map<string, string>} addresses of pictures that are here, by portrait */
const pictures = new Map();

/**
 * @param {AbortSignal} signal
 * @returns {Promise<Choice>}
 * @throws {Trouble}
 */
export async function choiceOf(signal) {
  const [state, portraits] = await Promise.all([told("state", signal), told("portraits", signal)]);
  return {
    portraits: portraits.portraits.map((/** @type {{name: string}} */ { name }) => {
      return { name, picture: pictures.get(name) ?? "" };
    }),
    takesUploads: portraits.uploads,
    hasControls: Object.keys(state.controls).length > 0,
  };
}

/**
 * @param {string} path
 * @param {AbortSignal} signal
 * @returns {Promise<any>}  any: JSON
 */
async function told(path, signal) {
  const answer = await request(path, { signal });
  if (!answer.ok) throw new Trouble("refused", await saidBy(answer));
  return await answer.json();
}

/**
 * Not the address itself in an <img>: it could bear no token.
 * @param {string} name
 * @param {AbortSignal} signal
 * @returns {Promise<string>} a blob's address, which lives as long as the page
 */
export async function pictureOf(name, signal) {
  const answer = await request(`portraits/${encodeURIComponent(name)}`, { signal, cache: "default" }, PICTURE_MS);
  if (!answer.ok) throw new Trouble("refused", await saidBy(answer));
  const address = pictures.get(name) ?? URL.createObjectURL(await answer.blob());
  pictures.set(name, address);
  return address;
}

/**
 * Returns when the session wears it.
 * @param {string} secret  the session's
 * @param {string|Blob} portrait  a shipped one's name, or a picture
 * @param {AbortSignal} signal
 * @throws {Trouble}
 */
export async function wear(secret, portrait, signal) {
  const isName = typeof portrait === "string";
  const answer = await request(`sessions/${secret}/portrait`, {
    method: "PUT",
    headers: { "Content-Type": isName ? "application/json" : portrait.type },
    body: isName ? JSON.stringify({ name: portrait }) : portrait,
    signal,
  }, WEAR_MS);
  if (!answer.ok) throw new Trouble("refused", await saidBy(answer));
}

/**
 * The picture as it is sent: upright, no larger than it is of use, without what the camera wrote into it.
 * @param {File} file
 * @returns {Promise<Blob>} the file itself where this browser cannot read it
 * @throws {Trouble} for one that is too large as it is
 */
export async function prepared(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(bitmap.width * scale));
    canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const brush = canvas.getContext("2d");
    if (brush) {
      brush.imageSmoothingQuality = "high";
      brush.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      bitmap.close();
      const blob = await new Promise((/** @type {(blob: Blob|null) => void} */ done) => canvas.toBlob(done, "image/png"));
      if (blob) return blob;
    }
  } catch {
    // No picture to this browser: the server says what it takes.
  }
  if (file.size > MOST_BYTES) throw new Trouble("refused", "This file is over 8 MB.");
  return file;
}
