"""What one clip is to become, as values that travel to whoever does the work."""

from __future__ import annotations

from dataclasses import dataclass, field

DETECT, LIFT, RETARGET = "detect", "lift", "retarget"
STAGES = (DETECT, LIFT, RETARGET)
EVERYBODY = "--person=all"
KEYPOINTS_ENDING, POSE_ENDING = ".keypoints.npz", ".pose.npz"
# Written by the stages before; everything else comes of retargeting.
KEPT_ENDINGS = (KEYPOINTS_ENDING, POSE_ENDING)
# Of a job that says nothing else: the person's own skeleton, for programs and for Blender.
USUAL_RIG = "skeleton"
USUAL_ENDINGS = (".bvh", ".blend")


@dataclass(frozen=True)
class StageOrder:
    """What one stage is asked for.

    options: words of the command line, as ``--limbs=ik``; those with the usual value are left out
    files:   what these options make it read, besides the stage before: rig, bone map, camera, weights
    """

    options: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One clip and what is to come of it.

    name:    of the takes: files are ``OUT/NAME.bvh``, of several people ``OUT/NAME-1.bvh`` or ``OUT/NAME-anna.bvh``
    clip:    footage (a file, a folder of pictures, a pattern), or keypoints that were found before
    endings: of the files that are wanted of each take, in this order
    people:  names, largest person first; empty = numbers
    """

    name: str
    clip: str
    endings: tuple[str, ...] = USUAL_ENDINGS
    people: tuple[str, ...] = ()
    detect: StageOrder = field(default_factory=StageOrder)
    lift: StageOrder = field(default_factory=StageOrder)
    retarget: StageOrder = field(default_factory=lambda: StageOrder((f"--rig={USUAL_RIG}",)))

    @property
    def holds_keypoints(self) -> bool:
        """Whether nobody needs to look at pictures any more."""
        return self.clip.lower().endswith(KEYPOINTS_ENDING)

    @property
    def everybody(self) -> bool:
        """Whether every person in the clip is a take of its own."""
        return EVERYBODY in self.detect.options

    @property
    def baked_endings(self) -> tuple[str, ...]:
        """Of the files that retargeting writes."""
        return tuple(ending for ending in self.endings if ending not in KEPT_ENDINGS)

    @property
    def needs_blender(self) -> bool:
        """Whether anything asks for Blender: the person's own skeleton as BVH does not."""
        own_skeleton = f"--rig={USUAL_RIG}" in self.retarget.options
        return any(ending != ".bvh" for ending in self.baked_endings) or bool(self.baked_endings and not own_skeleton)

    def take_name(self, number: int, people: int) -> str:
        """Of the ``number``-th largest person, from 1, of so many."""
        if not self.everybody and not self.people:
            return self.name
        who = self.people[number - 1] if number <= len(self.people) else str(number)
        return f"{self.name}-{who}"
