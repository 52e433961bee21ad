"""The face in itself: Google's canonical mesh, and which of its points are what."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from workers.models.face.weights import load_tensors

LEFT_CHEEK, RIGHT_CHEEK = 454, 234  # the performer's; a face's width is measured between them
LEFT_OUTER, LEFT_INNER = 263, 362  # corners of the eyes
RIGHT_OUTER, RIGHT_INNER = 33, 133
LEFT_IRIS, RIGHT_IRIS = 473, 468  # centres; each has its right, top, left and bottom behind it
IRIS_CM = 0.585  # its radius, which is nearly everybody's
UPPER_LIP, LOWER_LIP = 13, 14  # the middles of their inner edges

# fmt: off
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
# From the outer corner to the inner one, without the corners.
RIGHT_UPPER_LID = (246, 161, 160, 159, 158, 157, 173)
RIGHT_LOWER_LID = (7, 163, 144, 145, 153, 154, 155)
LEFT_UPPER_LID = (466, 388, 387, 386, 385, 384, 398)
LEFT_LOWER_LID = (249, 390, 373, 374, 380, 381, 382)
# The lips' inner edges, from the right to the left, without the corners.
UPPER_LIP_EDGE = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_LIP_EDGE = (95, 88, 178, 87, 14, 317, 402, 318, 324)
# fmt: on


class Mesh(NamedTuple):
    vertices: Tensor  # (468, 3) float32, centimetres; x right, y down, z away, as in a picture
    faces: Tensor  # (898, 3) int64
    weights: Tensor  # (468,) float32, sum 1: how much a vertex says about the head's pose


def canonical() -> Mesh:
    """468 vertices: the irises are not of it."""
    found = load_tensors("mesh")
    # The file's axes are a camera's that looks at the face: y up, z towards it.
    vertices = found["vertices"].clone()
    vertices[:, 1:] *= -1
    weights = found["weights"] / found["weights"].sum()
    return Mesh(vertices, found["faces"].long(), weights)


def canonical_shape() -> Tensor:
    """(478, 3): the canonical face around its pose's origin, with irises that look ahead."""
    face = canonical()
    vertices = face.vertices - (face.vertices * face.weights[:, None]).sum(0)
    ring = torch.tensor([(0, 0, 0), (1, 0, 0), (0, -1, 0), (-1, 0, 0), (0, 1, 0)]) * IRIS_CM
    right = vertices[[RIGHT_OUTER, RIGHT_INNER]].mean(0)
    left = vertices[[LEFT_OUTER, LEFT_INNER]].mean(0)
    return torch.cat([vertices, right + ring, left + ring])
