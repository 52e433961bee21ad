// @ts-check
/** The live figures, from what the browser counts and what the server says. */

/**
 * @typedef {object} Counters  the browser's, at one instant; durations are sums in seconds
 * @property {number} atMs
 * @property {number} framesSent
 * @property {number} framesEncoded
 * @property {number} encodeS
 * @property {number} packetsSent
 * @property {number} sendDelayS
 * @property {number} framesDecoded
 * @property {number} receiveS     from a frame's first packet to its decoded picture
 * @property {number|null} roundTripS  the latest
 *
 * @typedef {object} Figures  null: nothing to measure
 * @property {number|null} inFps
 * @property {number|null} outFps
 * @property {number|null} latencyMs
 * @property {number|null} fillRatio
 * @property {number|null} memoryBytes
 */

/**
 * @param {Iterable<Record<string, any>>} reports  any: the entries of an RTCStatsReport, of many types
 * @param {number} atMs
 * @returns {Counters}
 */
export function counters(reports, atMs) {
  const all = [...reports];
  const outbound = all.find((report) => report.type === "outbound-rtp" && report.kind === "video") ?? {};
  const inbound = all.find((report) => report.type === "inbound-rtp" && report.kind === "video") ?? {};
  const pair = all.find((report) => report.type === "candidate-pair" && report.nominated) ?? {};
  return {
    atMs,
    framesSent: outbound.framesSent ?? 0,
    framesEncoded: outbound.framesEncoded ?? 0,
    encodeS: outbound.totalEncodeTime ?? 0,
    packetsSent: outbound.packetsSent ?? 0,
    sendDelayS: outbound.totalPacketSendDelay ?? 0,
    framesDecoded: inbound.framesDecoded ?? 0,
    // Firefox has no totalProcessingDelay in older releases: buffer and decoder make it up.
    receiveS: inbound.totalProcessingDelay ?? (inbound.jitterBufferDelay ?? 0) + (inbound.totalDecodeTime ?? 0),
    roundTripS: pair.currentRoundTripTime ?? null,
  };
}

/**
 * @param {Counters} before
 * @param {Counters} after
 * @param {import("./server.js").SessionFacts|null} facts
 * @returns {Figures}
 */
export function figures(before, after, facts) {
  const seconds = (after.atMs - before.atMs) / 1000;
  const sent = after.framesSent - before.framesSent;
  const decoded = after.framesDecoded - before.framesDecoded;
  const parts = [
    per(after.encodeS - before.encodeS, after.framesEncoded - before.framesEncoded),
    per(after.sendDelayS - before.sendDelayS, after.packetsSent - before.packetsSent),
    after.roundTripS === null ? null : after.roundTripS * 1000,
    facts?.age_ms ?? null,
    per(after.receiveS - before.receiveS, decoded),
  ];
  return {
    inFps: seconds > 0 ? sent / seconds : null,
    outFps: seconds > 0 ? decoded / seconds : null,
    latencyMs: total(parts),
    fillRatio: facts?.fill_ratio ?? null,
    memoryBytes: facts?.memory_bytes ?? null,
  };
}

/**
 * @param {number} seconds
 * @param {number} count
 * @returns {number|null} milliseconds for each
 */
function per(seconds, count) {
  return count > 0 ? (seconds / count) * 1000 : null;
}

/**
 * @param {(number|null)[]} parts
 * @returns {number|null} null where a part is unknown: a sum without it would flatter
 */
function total(parts) {
  return parts.reduce((sum, part) => (sum === null || part === null ? null : sum + part), 0);
}
