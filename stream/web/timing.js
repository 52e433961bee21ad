// @ts-check
/** Waiting that ends when its owner does. */

/**
 * @param {number} ms
 * @param {AbortSignal} signal  ends the wait at once, with its reason
 * @returns {Promise<void>}
 */
export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const over = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", over);
      resolve();
    }, ms);
    signal.addEventListener("abort", over, { once: true });
  });
}

/**
 * Waits until an event of the target makes a claim true; at once where it already is.
 * @param {EventTarget} target
 * @param {string} event
 * @param {() => boolean} claim  may throw, which ends the wait with that
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
export function until(target, event, claim, signal) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const look = () => {
      try {
        if (!claim()) return;
        resolve();
      } catch (reason) {
        reject(reason);
      }
      done.abort();
    };
    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { signal: done.signal });
    target.addEventListener(event, look, { signal: AbortSignal.any([signal, done.signal]) });
    look();
  });
}
