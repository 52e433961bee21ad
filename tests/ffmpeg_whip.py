"""FFmpeg's own WHIP muxer, as it is in PyAV's wheel: publishes H.264, in a process of its own.

Arguments: the URL, a directory for its certificate, seconds; it ends with its input, or then.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from select import select

import av
import numpy as np
from av.video.stream import VideoStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

FPS = 25


def certificate(directory: Path) -> dict[str, str]:
    """The muxer's options: where its P-256 key and certificate lie."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whip")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, locked = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files = {"key_file": directory / "key.pem", "cert_file": directory / "cert.pem"}
    files["key_file"].write_bytes(key.private_bytes(pem, form, locked))
    files["cert_file"].write_bytes(signed.public_bytes(pem))
    return {name: str(path) for name, path in files.items()}


def main(url: str, directory: str, seconds: str) -> None:
    with av.open(url, "w", format="whip", options=certificate(Path(directory))) as container:
        stream = container.add_stream(
            "libx264",
            rate=FPS,
            options={"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"},
        )
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.gop_size = FPS
        began_s = time.monotonic()
        for number in range(round(float(seconds) * FPS)):
            if select([sys.stdin], [], [], max(began_s + number / FPS - time.monotonic(), 0))[0]:
                break
            data = np.full((360, 320), number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(data, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))


if __name__ == "__main__":
    main(*sys.argv[1:])
