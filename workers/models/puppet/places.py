"""Which of the face's points lead the picture, and where it may come apart."""

from __future__ import annotations

from workers.models.face.mesh import (
    LEFT_INNER,
    LEFT_IRIS,
    LEFT_LOWER_LID,
    LEFT_OUTER,
    LEFT_UPPER_LID,
    LOWER_LIP_EDGE,
    OVAL,
    RIGHT_INNER,
    RIGHT_IRIS,
    RIGHT_LOWER_LID,
    RIGHT_OUTER,
    RIGHT_UPPER_LID,
    UPPER_LIP_EDGE,
)


def _once(*places: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(places))


CHIN, BETWEEN_EYES, FOREHEAD = 152, 168, 10

# fmt: off
# From the outer corner to the inner one: the rings around each eye, on the brow's and cheek's side.
CREASES = ((30, 29, 27, 28, 56), (260, 259, 257, 258, 286))
CHEEK_RINGS = ((110, 24, 23, 22, 26), (339, 254, 253, 252, 256))
BROW_EDGES = ((46, 53, 52, 65, 55), (276, 283, 282, 295, 285))
UPPER_LIDS = (RIGHT_UPPER_LID, LEFT_UPPER_LID)
LOWER_LIDS = (RIGHT_LOWER_LID, LEFT_LOWER_LID)
EYE_CORNERS = ((RIGHT_OUTER, RIGHT_INNER), (LEFT_OUTER, LEFT_INNER))
IRISES = (RIGHT_IRIS, LEFT_IRIS)

MOUTH_CORNERS = (78, 308)  # of the opening
LIP_CORNERS = (61, 291)
LIP_MIDDLES = (0, 17)
UPPER_LIP = (185, 40, 39, 37, 0, 267, 269, 270, 409)  # its outer edge
LOWER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375)
ABOVE_LIP = (186, 92, 165, 167, 164, 393, 391, 322, 410)
BELOW_LIP = (43, 106, 182, 83, 18, 313, 406, 335, 273)
AROUND_MOUTH = (*ABOVE_LIP, *BELOW_LIP, 57, 287, 200, 199, 201, 421, 208, 428, 32, 262, 211, 431)

BROWS = (70, 63, 105, 66, 107, *BROW_EDGES[0], 300, 293, 334, 296, 336, *BROW_EDGES[1])
NOSE = (168, 6, 197, 195, 5, 4, 1, 19, 2, 98, 327, 64, 294, 129, 358, 8, 9)
CHEEKS = (50, 280, 117, 346, 101, 330, 205, 425, 187, 411, 36, 266, 203, 423, 116, 345, 147, 376,
          118, 347, 213, 433, 192, 416)
FOREHEAD_INNER = (151, 108, 337, 69, 299, 104, 333)
# fmt: on

# Lids are not among them: each eye opens and shuts in a frame of its own (`eyes`).
COMMON = _once(
    *OVAL,
    *BROWS,
    *NOSE,
    *CHEEKS,
    *FOREHEAD_INNER,
    *(place for ring in (*CHEEK_RINGS, *EYE_CORNERS) for place in ring),
    *MOUTH_CORNERS,
    *LIP_CORNERS,
    *AROUND_MOUTH,
)
UPPER = (*UPPER_LIP, *UPPER_LIP_EDGE)
LOWER = (*LOWER_LIP, *LOWER_LIP_EDGE)
LEADING = (*COMMON, *UPPER, *LOWER)  # in the order in which fields know them
