"""The pose model: found on disk, or made once from a package that anyone may fetch.

MediaPipe's package index releases since 1.0 carry no model. The last one that did, 0.10.21, is fetched as a wheel and
never installed; its two networks lack only a note on how their input picture is scaled, which is added here.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .errors import DetectorError, TryAgainError
from .output_files import written_whole
from .progress import Progress, report, silent

BUNDLE_NAMES = {name: f"pose_landmarker_{name}.task" for name in ("lite", "full", "heavy")}

_WHEEL = "mediapipe==0.10.21"
# Any wheel of that release has the same networks; this one exists for sure, whatever computer this is.
_WHEEL_PLATFORM = ("manylinux_2_28_x86_64", "311", "cp311")
_DETECTOR_IN_WHEEL = "mediapipe/modules/pose_detection/pose_detection.tflite"
_LANDMARKS_IN_WHEEL = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
_SHA256 = {
    _DETECTOR_IN_WHEEL: "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    _LANDMARKS_IN_WHEEL: "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
}
CACHE_ADVICE = "Set KEYLIFT_CACHE to a folder that can be written."
_MAX_NETWORK_BYTES = 64 << 20
_DOWNLOAD_TIMEOUT_S = 600


def cache_folder() -> Path:
    """Where Keylift keeps what it fetched: KEYLIFT_CACHE, or the user's cache folder."""
    if chosen := os.environ.get("KEYLIFT_CACHE"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("keylift"))


def find_pose_model(name_or_path: str = "full") -> Path | None:
    """The bundle if it is on disk and sound; fetches nothing. Raises DetectorError for a path without a bundle."""
    if name_or_path not in BUNDLE_NAMES:
        return _bundle_at(Path(name_or_path))
    bundle = cache_folder() / "models" / BUNDLE_NAMES[name_or_path]
    return bundle if bundle.is_file() and _is_bundle(bundle) else None


def pose_model(name_or_path: str = "full", progress: Progress = silent) -> Path:
    """The bundle to detect with: "full", "lite", "heavy", or the path of a bundle (or of the folder that has "full").

    "full" is fetched and made when it isn't there yet, which needs the package index once. Raises DetectorError with
    what to do when there is no bundle, TryAgainError when the network is away.
    """
    report(progress, 0, 1)
    bundle = find_pose_model(name_or_path)
    if bundle is None and name_or_path == "full":
        bundle = cache_folder() / "models" / BUNDLE_NAMES["full"]
        _make_full_bundle(bundle)
    if bundle is None:
        place = cache_folder() / "models" / BUNDLE_NAMES[name_or_path]
        raise DetectorError(
            f"The pose model '{name_or_path}' is not on this computer. Put MediaPipe's official bundle "
            f"{BUNDLE_NAMES[name_or_path]} at '{place}', or name it with --detector-model FILE. "
            "The model 'full' needs nothing but the package index."
        )
    report(progress, 1, 1)
    return bundle


def _bundle_at(path: Path) -> Path:
    if path.is_dir():
        path = path / BUNDLE_NAMES["full"]
    if not path.is_file():
        known = ", ".join(BUNDLE_NAMES)
        raise DetectorError(f"There is no pose model '{path}'. Give the path of a .task bundle, or one of {known}.")
    if not _is_bundle(path):
        raise DetectorError(f"'{path}' is not a MediaPipe pose landmarker bundle, or it is damaged. Fetch it again.")
    return path


def _is_bundle(path: Path) -> bool:
    """Whether ``path`` is a whole .task file: both networks inside, and every checksum right."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member.file_size for member in archive.infolist()}
            wanted = {"pose_detector.tflite", "pose_landmarks_detector.tflite"}
            return (
                wanted <= set(members) and sum(members.values()) <= 4 * _MAX_NETWORK_BYTES and archive.testzip() is None
            )
    except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return False


def _make_full_bundle(bundle: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="keylift-") as folder:
        networks = _networks_in_wheel(_fetch_wheel(Path(folder)))
    members = {
        "pose_detector.tflite": _with_input_note(networks[_DETECTOR_IN_WHEEL], mean=127.5, std=127.5),
        "pose_landmarks_detector.tflite": _with_input_note(networks[_LANDMARKS_IN_WHEEL], mean=0.0, std=255.0),
    }
    # MediaPipe reads the networks in place: nothing may be compressed.
    with written_whole(bundle, CACHE_ADVICE) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name, network in members.items():
            # Same bytes on every computer and every day. Between flatbuffers releases they differ in layout,
            # which is why the networks' checksums above are what is checked.
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            archive.writestr(member, network)


def _fetch_wheel(folder: Path) -> Path:
    platform, python_version, abi = _WHEEL_PLATFORM
    command = [sys.executable, "-m", "pip", "download", _WHEEL, "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), "--platform", platform]
    command += ["--implementation", "cp", "--python-version", python_version, "--abi", abi]
    again = (
        "Check the connection to the package index (inside Blender also Preferences > System > Network > Allow Online "
        "Access) and run it again, or name a bundle with --detector-model FILE."
    )
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_TIMEOUT_S,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except subprocess.TimeoutExpired:
        raise TryAgainError(
            f"Fetching the pose model took longer than {_DOWNLOAD_TIMEOUT_S // 60} minutes. {again}"
        ) from None
    except OSError as problem:
        raise DetectorError(f"pip could not be started to fetch the pose model: {problem}.") from problem
    wheels = list(folder.glob("mediapipe-*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if "No module named pip" in done.stderr:
        raise DetectorError(
            f"The pose model can't be fetched: this Python has no pip. Run '{sys.executable} -m ensurepip' first, "
            "or name a bundle with --detector-model FILE."
        )
    if "No space left" in done.stderr:
        raise TryAgainError("The disk is full: the pose model could not be fetched. Free some space and run it again.")
    told = f"The pose model could not be fetched ({_WHEEL}): {_reason(done.stderr)} {again}"
    # pip says so of an index that it can't reach as well, but not before it has tried again.
    if "No matching distribution" in done.stderr and "Retrying" not in done.stderr:
        raise DetectorError(told)
    raise TryAgainError(told)


def _reason(said: str) -> str:
    """Why pip gave up, out of what it ``said`` on stderr, as one sentence."""
    if "DO NOT MATCH THE HASHES" in said:
        return "what came was cut short or changed on the way."
    broken = re.findall(r"connection broken by '(.+)': ", said)
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("[notice]")]
    reason = broken[-1] if broken else (lines[-1] if lines else "pip gave no reason")
    return reason.removeprefix("ERROR: ")[:300].rstrip(".") + "."


def _networks_in_wheel(wheel: Path) -> dict[str, bytes]:
    networks = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, sha256 in _SHA256.items():
                if archive.getinfo(member).file_size > _MAX_NETWORK_BYTES:
                    raise DetectorError(f"The wheel {_WHEEL} is not the one that was expected; it is not used.")
                networks[member] = archive.read(member)
                if hashlib.sha256(networks[member]).hexdigest() != sha256:
                    raise DetectorError(
                        f"The networks in {_WHEEL} are not the ones that were expected (checksum); they are not used. "
                        "Fetch from another package index, or name a bundle with --detector-model FILE."
                    )
    except (KeyError, OSError, EOFError, zipfile.BadZipFile) as problem:
        raise TryAgainError(f"The fetched {_WHEEL} is damaged ({problem}). Run it again.") from problem
    return networks


def _with_input_note(network: bytes, mean: float, std: float) -> bytes:
    """The same network with TFLite metadata that says its input is an RGB picture scaled by (value - mean) / std."""
    try:
        import flatbuffers
        from mediapipe.tasks.metadata import metadata_schema_py_generated as note
        from mediapipe.tasks.metadata import schema_py_generated as tflite
    except ImportError as problem:
        raise DetectorError(
            f"The detector is not installed ({problem}). Run: pip install mediapipe==1.2.2"
        ) from problem

    scaling = note.NormalizationOptionsT()
    scaling.mean, scaling.std = [mean], [std]
    scale = note.ProcessUnitT()
    scale.optionsType, scale.options = note.ProcessUnitOptions.NormalizationOptions, scaling
    picture = note.ImagePropertiesT()
    picture.colorSpace = note.ColorSpaceType.RGB
    content = note.ContentT()
    content.contentPropertiesType, content.contentProperties = note.ContentProperties.ImageProperties, picture
    image = note.TensorMetadataT()
    image.name, image.content, image.processUnits = "image", content, [scale]

    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(network, 0))
    subgraph = note.SubGraphMetadataT()
    # The reader wants as many notes as there are outputs; empty ones will do.
    subgraph.inputTensorMetadata = [image]
    subgraph.outputTensorMetadata = [note.TensorMetadataT() for _ in model.subgraphs[0].outputs]
    about = note.ModelMetadataT()
    about.subgraphMetadata, about.minParserVersion = [subgraph], "1.0.0"
    builder = flatbuffers.Builder(1024)
    builder.Finish(about.Pack(builder), file_identifier=b"M001")

    buffer = tflite.BufferT()
    buffer.data = list(builder.Output())
    entry = tflite.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    # The detector brings a note of its own, with another model's description.
    model.metadata = [old for old in model.metadata or [] if old.name != b"TFLITE_METADATA"] + [entry]
    model.buffers.append(buffer)
    builder = flatbuffers.Builder(len(network))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
