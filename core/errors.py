"""The family of errors that a person is meant to read.

Every message says what happened and what to do next. Anything outside this family is a bug and may crash loudly.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TRY_AGAIN = 75
EXIT_INTERRUPTED = 130


class KeyliftError(Exception):
    """Something outside the program is wrong, and the message says how to put it right."""

    exit_code = EXIT_FAILED


class FootageError(KeyliftError):
    """The footage is missing, not a video, damaged, or has no frame in the wanted range."""


class NobodyFoundError(KeyliftError):
    """No person was detected in the footage."""


class DetectorError(KeyliftError):
    """The keypoint detector or its model can't be had or can't run."""


class FileFormatError(KeyliftError):
    """A file of ours (keypoints, pose, weights, camera, bone map) is not what it claims to be."""


class WeightsError(FileFormatError):
    """A weights file is missing, damaged, or does not fit the input it is given."""


class RigError(KeyliftError):
    """The target armature can't be found, is ambiguous, or nothing can be mapped on it."""


class OutputError(KeyliftError):
    """The result can't be written where it was asked for."""


class TryAgainError(KeyliftError):
    """It failed for now: the disk is full, memory ran out, the network is away. A retry may help."""

    exit_code = EXIT_TRY_AGAIN


class DeviceError(TryAgainError):
    """The processor that computed (a GPU) failed. Nothing more can be computed on it in this process."""


class Cancelled(KeyliftError):
    """The person (or the program above) asked to stop."""

    exit_code = EXIT_INTERRUPTED
