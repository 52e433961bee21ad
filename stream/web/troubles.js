// @ts-check
/** What can go wrong, each with the words that a person needs. */

/**
 * @typedef {"camera-refused"|"no-camera"|"camera-busy"|"camera-lost"|"insecure"|"full"|"ice"|"ice-lost"
 *   |"dtls"|"gone"|"token"|"refused"|"ended"|"no-session"|"bug"} Kind
 * @typedef {object} Words
 * @property {string} title  what happened
 * @property {string} why    what that means
 * @property {string} mend   what to do
 */

/** @type {Record<Kind, Words>} */
export const WORDS = {
  "camera-refused": {
    title: "The camera is not allowed",
    why: "This page was refused the camera, by you, by the browser or by the system.",
    mend: "Allow the camera with the sign beside the address bar, then try again. On a Mac or a phone, also let the system give this browser the camera.",
  },
  "no-camera": {
    title: "No camera found",
    why: "The browser sees no camera on this device.",
    mend: "Plug one in or switch it on, then try again.",
  },
  "camera-busy": {
    title: "The camera gives no picture",
    why: "It is there, but does not open: most often it is in use by another app.",
    mend: "Close other apps and tabs that use the camera, then try again.",
  },
  "camera-lost": {
    title: "The camera is gone",
    why: "It was unplugged, or the browser took it away from this page.",
    mend: "Connect it again, then try again.",
  },
  insecure: {
    title: "This page is not secure",
    why: "Browsers give the camera only to secure pages, and this one came over plain HTTP from another machine.",
    mend: "Start the server with --https and open the link that it prints. On the server's own machine, the name localhost works, too.",
  },
  full: {
    title: "The server is full",
    why: "All of its places are taken.",
    mend: "Try again in a moment, when somebody has left.",
  },
  ice: {
    title: "The connection failed: ICE found no way",
    why: "The server answered, but ICE, which looks for a way for the video, found none between this device and the server.",
    mend: "Video travels over UDP. Check that no firewall, VPN or container between here and the server blocks it, then try again.",
  },
  "ice-lost": {
    title: "The connection was lost: ICE lost its way",
    why: "The server still answers, but the video no longer gets through to it.",
    mend: "Check this device's network. If it has just changed, try again.",
  },
  dtls: {
    title: "The connection failed: no secure channel",
    why: "A way to the server was found, but the two could not agree on encryption (DTLS).",
    mend: "Try again. If it stays so, the server's log says more.",
  },
  gone: {
    title: "The server is gone",
    why: "It does not answer any more: it was stopped, or the network to it is down.",
    mend: "Check that it runs and that this device is online, then try again.",
  },
  token: {
    title: "The server wants a token",
    why: "This page was opened without the right one.",
    mend: "Open the link that the server printed when it started, or scan its code: the link ends in #token=… and works as it is.",
  },
  refused: {
    title: "The server refused",
    why: "It understood the request, and does not take it.",
    mend: "See what it says, mend that, then try again.",
  },
  ended: {
    title: "The session has ended",
    why: "The server ended it.",
    mend: "Start another one whenever you like.",
  },
  "no-session": {
    title: "Nobody is here yet",
    why: "There is no session of this name.",
    mend: "Leave this page open: it starts by itself when the session does. Or check the link.",
  },
  bug: {
    title: "Something broke",
    why: "The page met a fault of its own.",
    mend: "Try again. If it comes back, please report it with the words below.",
  },
};

/** Something in the way that a person can mend. */
export class Trouble extends Error {
  /**
   * @param {Kind} kind
   * @param {string} [said]  the server's or browser's own words, shown as they are
   */
  constructor(kind, said = "") {
    super(said || WORDS[kind].title);
    this.name = "Trouble";
    this.kind = kind;
    this.said = said;
  }
}

/**
 * @param {unknown} reason  whatever was thrown
 * @returns {Trouble}
 */
export function asTrouble(reason) {
  if (reason instanceof Trouble) return reason;
  console.error(reason);
  return new Trouble("bug", String(reason));
}

/**
 * What getUserMedia threw, as a trouble.
 * @param {unknown} reason
 * @returns {Trouble}
 */
export function cameraTrouble(reason) {
  switch (reason instanceof DOMException ? reason.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return new Trouble("camera-refused");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Trouble("no-camera");
    case "NotReadableError":
    case "AbortError":
      return new Trouble("camera-busy");
    default:
      return asTrouble(reason);
  }
}
