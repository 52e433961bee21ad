// A camera whose picture says when it was taken, and an eye that reads it back from the avatar.
// 13 bits of milliseconds and 3 that check them, as 4 by 4 dark and light cells in the middle.
(() => {
  const WIDTH = 640, HEIGHT = 480, FPS = 30, SPAN = 8192;
  const SIDE = 240, CELL = SIDE / 4;
  const check = (ms) => (ms ^ (ms >> 3) ^ (ms >> 6) ^ (ms >> 9) ^ (ms >> 12)) & 7;

  navigator.mediaDevices.getUserMedia = async () => {
    const canvas = document.createElement("canvas");
    canvas.width = WIDTH;
    canvas.height = HEIGHT;
    const brush = canvas.getContext("2d");
    const stream = canvas.captureStream(0);
    const [track] = stream.getVideoTracks();
    let turn = 0;
    const shoot = () => {
      turn += 1;
      brush.fillStyle = "#557";
      brush.fillRect(0, 0, WIDTH, HEIGHT);
      for (let n = 0; n < 12; n += 1) {
        brush.fillStyle = `hsl(${n * 30} 50% 45%)`;
        brush.beginPath();
        const angle = n * 0.52 + turn / 40;
        brush.arc(WIDTH / 2 + 205 * Math.cos(angle), HEIGHT / 2 + 205 * Math.sin(angle), 26, 0, 7);
        brush.fill();
      }
      const ms = Math.floor(performance.now()) % SPAN;
      const code = (ms << 3) | check(ms);
      for (let bit = 0; bit < 16; bit += 1) {
        brush.fillStyle = (code >> bit) & 1 ? "#eee" : "#111";
        const x = (WIDTH - SIDE) / 2 + (bit % 4) * CELL, y = (HEIGHT - SIDE) / 2 + (bit >> 2) * CELL;
        brush.fillRect(x, y, CELL, CELL);
      }
      track.requestFrame();
    };
    setInterval(shoot, 1000 / FPS);
    shoot();
    return stream;
  };

  /** Of each avatar frame for so long: its age, in ms, when it is due on the screen and known here. */
  window.watchAvatar = (seconds) => new Promise((resolve) => {
    const video = document.getElementById("avatar");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 32; // 8 pixels a cell
    const brush = canvas.getContext("2d", { willReadFrequently: true });
    const found = { ages: [], unread: 0 };
    const until = performance.now() + seconds * 1000;
    const look = (now, frame) => {
      // The camera's centre square fills the avatar, which may be smaller or larger.
      const side = (video.videoHeight * SIDE) / HEIGHT;
      const x = (video.videoWidth - side) / 2, y = (video.videoHeight - side) / 2;
      brush.drawImage(video, x, y, side, side, 0, 0, 32, 32);
      const { data } = brush.getImageData(0, 0, 32, 32);
      let code = 0;
      for (let bit = 0; bit < 16; bit += 1) {
        const at = (((bit >> 2) * 8 + 4) * 32 + (bit % 4) * 8 + 4) * 4;
        if (data[at + 1] > 125) code |= 1 << bit;
      }
      const ms = code >> 3;
      if (check(ms) === (code & 7)) {
        const at = Math.max(now, frame.expectedDisplayTime);
        found.ages.push((((at % SPAN) - ms) % SPAN + SPAN) % SPAN);
      } else {
        found.unread += 1;
      }
      if (performance.now() < until) video.requestVideoFrameCallback(look);
      else resolve(found);
    };
    video.requestVideoFrameCallback(look);
  });

  /** The codec to offer first: Chromium's own choice otherwise. */
  window.offerFirst = (mime) => {
    const open = RTCPeerConnection.prototype.addTransceiver;
    RTCPeerConnection.prototype.addTransceiver = function (track, options) {
      const transceiver = open.call(this, track, options);
      if ((track.kind ?? track) === "video") {
        const { codecs } = RTCRtpReceiver.getCapabilities("video");
        transceiver.setCodecPreferences(codecs.filter((it) => it.mimeType === mime));
      }
      return transceiver;
    };
  };
})();
