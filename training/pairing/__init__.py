"""Footage and motion capture of the same take brought together: labels for what the camera saw."""

from __future__ import annotations

from .pairing import Pairing as Pairing
from .pairing import pair as pair
