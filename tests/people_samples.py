"""Bodies that move along a line, in clothes of known colours."""

from __future__ import annotations

import numpy as np

from keylift.core.people import Person
from keylift.core.sightings import Sighting

# A standing body of 200 pixels in MediaPipe's order, spread so that no two points coincide.
BODY = np.stack([np.linspace(-30, 30, 33), np.linspace(0, 200, 33)], axis=-1)
BLUE_COAT, RED_COAT = np.eye(8)[1] * 0.9 + 0.1 / 8, np.eye(8)[5] * 0.9 + 0.1 / 8
FPS = 30


def sighting(x, clothes=None, size=1.0):
    return Sighting(size * BODY + (x, 100.0), np.full(33, 0.9), clothes)


def person_at(xs, clothes=None, first_row=0):
    person = Person()
    for row, x in enumerate(xs, start=first_row):
        person.see(row, row / FPS, sighting(x, clothes))
    return person
