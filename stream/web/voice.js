// @ts-check
/** A session's microphone: off until its person switches it on. */

/** @type {MediaStreamConstraints} */
const MICROPHONE = { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } };

export class Voice {
  /** @type {RTCRtpSender} */
  #sender;
  /** @type {AbortSignal} */
  #signal;
  /** @type {MediaStreamTrack|null} */
  #track = null;
  #turn = 0;

  /**
   * Offers sound, and sends none yet: to switch it on later needs no new offer.
   * @param {RTCPeerConnection} peer
   * @param {MediaStream} camera  the stream that viewers get it in
   * @param {AbortSignal} signal  its end switches the microphone off
   */
  constructor(peer, camera, signal) {
    this.#sender = peer.addTransceiver("audio", { direction: "sendonly", streams: [camera] }).sender;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.switchOff());
  }

  /**
   * Asks the browser for the microphone.
   * @returns {Promise<boolean>} whether it is on now; false: refused, or switched off meanwhile
   */
  async switchOn() {
    const turn = ++this.#turn;
    let track;
    try {
      [track] = (await navigator.mediaDevices.getUserMedia(MICROPHONE)).getAudioTracks();
    } catch {
      return false;
    }
    if (turn !== this.#turn || this.#signal.aborted) {
      track.stop();
      return false;
    }
    this.#track = track;
    await this.#sender.replaceTrack(track);
    return true;
  }

  switchOff() {
    this.#turn++;
    this.#track?.stop();
    this.#track = null;
    if (!this.#signal.aborted) this.#sender.replaceTrack(null).catch(() => {});
  }
}
