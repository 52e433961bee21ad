"""The judge's process, in the judge's own environment: frames by stdin, faces by stdout.

MediaPipe's FaceMesh with its attention net (Grishchenko et al., "Attention Mesh", 2020). For each
sequence: frames, height and width, three int32; then the frames, RGB. Answers a float32 (478, 3) a
frame, in pixels, of nan where there is no face.
"""

from __future__ import annotations

import sys

import numpy as np
from mediapipe.python.solutions.face_mesh import FaceMesh  # type: ignore[import-not-found]


def main() -> None:
    read, write = sys.stdin.buffer, sys.stdout.buffer
    while header := read.read(12):
        count, height, width = np.frombuffer(header, np.int32)
        with FaceMesh(refine_landmarks=True) as net:  # anew: nothing is known of the last sequence
            for _ in range(count):
                pixels = np.frombuffer(read.read(int(height * width * 3)), np.uint8)
                faces = net.process(pixels.reshape(height, width, 3)).multi_face_landmarks
                points = np.full((478, 3), np.nan, np.float32)
                if faces:
                    points[:] = [(it.x, it.y, it.z) for it in faces[0].landmark]
                write.write((points * np.float32([width, height, width])).tobytes())
                write.flush()


main()
