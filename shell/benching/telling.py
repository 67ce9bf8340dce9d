"""What was measured, in lines for people."""

from __future__ import annotations

from typing import Any

Measured = dict[str, Any]


def detect_told(measured: Measured) -> list[str]:
    """Finding people against the bare loop."""
    short, long = measured["frames"]
    ms, where, cost = measured["ms_per_frame"], measured["where_ms"], measured["length"]
    width, height = measured["size_px"]
    return [
        f"finding people in {width}x{height}, against a bare loop of decoding and MediaPipe's landmarker, medians of "
        f"{measured['rounds']}:",
        f"  {short} frames on one core, with repair, lift, fit and writing: {ms['capture']:.1f} ms a frame, "
        f"{measured['detect_overhead']:.2f}x the bare loop's {ms['bare']:.1f}; finding alone "
        f"{measured['find_overhead']:.2f}x, all that comes after it {measured['lift_share']:.1%} of it",
        f"  {long} frames in parts: {ms['parts']:.1f} ms a frame, {measured['two_core_speedup']:.2f}x as fast as the "
        f"bare loop; keypoints {measured['parts_off_px']:.2f} px from those of one go (median; after the first seam "
        f"{measured['parts_off_px_after_seam']:.2f})",
        f"  one step after the other: {where['decode']:.1f} ms to decode, {where['to_rgb']:.1f} to make it RGB, "
        f"{where['landmarker']:.1f} in the landmarker",
        "  memory: " + ", ".join(f"{part['peak_mb']:.0f} MB at most for {part['frames']} frames" for part in cost),
    ]


def start_told(measured: Measured) -> list[str]:
    """Starting."""
    lines = [
        f"keylift --help: {measured['cli_help_s']:.2f} s, of which Python's own start {measured['python_s']:.2f} s",
    ]
    if measured["extension_enable_ms"] is not None:
        lines.append(f"the extension, enabled: {measured['extension_enable_ms']:.0f} ms")
    return lines


def length_told(measured: list[Measured]) -> list[str]:
    """Lifting and fitting of longer and longer clips."""
    return [
        "lifting and fitting, by length of the clip:",
        *(
            f"  {cost['frames']} frames: {cost['seconds']:.1f} s, {cost['ms_per_frame']:.2f} ms a frame, "
            f"{cost['peak_mb']:.0f} MB at most, {cost['before_mb']:.0f} MB of it before"
            for cost in measured
        ),
    ]


def retarget_told(measured: Measured) -> list[str]:
    """Keyframes against keyframe_insert."""
    inserted, memory, reduced = measured["keyframe_insert"], measured["memory"], measured["reduced"]
    lines = [f"retargeting, Blender {measured['blender']}, medians of {measured['rounds']}, feet planted:"]
    lines += [
        f"  {take['keyed_bones']} bones, {take['frames']} frames, {take['rotation_mode'].lower()}: "
        f"{take['seconds']:.3f} s, {take['solve_seconds']:.3f} s of it to solve, {take['write_seconds']:.3f} s to "
        f"write {take['keys']} keys"
        for take in measured["takes"]
    ]
    lines += [
        f"  {inserted['keyed_bones']} bones, {inserted['frames']} frames, keyframe_insert a bone and a frame: "
        f"{inserted['seconds']:.2f} s; ours {inserted['ratio']:.0f}x as fast, {inserted['ratio_write_alone']:.0f}x "
        "without the solve",
        f"  {reduced['keyed_bones']} bones, {reduced['frames']} frames, whole take with "
        f"{reduced['share_of_keys']:.0%} of the keys: {reduced['seconds']:.2f} s",
        f"  memory: {memory['bytes_per_frame'][-1] / 1000:.1f} kB a frame at {memory['frames'][-1]} frames, "
        f"{memory['ratio']:.2f}x that at {memory['frames'][0]}",
    ]
    return lines


def lift_and_train_told(measured: Measured) -> list[str]:
    """Networks against the plain network."""
    inference, streaming, memory = measured["inference"], measured["streaming"], measured["memory"]
    lines = [
        f"{measured['device']}, {measured['threads']} threads, torch {measured['torch']}; medians of "
        f"{measured['rounds']}, ours and the plain network in turn:",
        f"lifting {inference['frames']} frames with flip, {_network(inference)}",
    ]
    for precision in ("float32", "bfloat16"):
        if precision in inference:
            off = 1000 * inference[precision]["largest_difference_m"]
            lines.append(f"  {precision:<10} {_ratio(inference[precision])}, at most {off:.3g} mm off")
    for training in measured["training"]:
        lines.append(f"training, {_network(training)}, batch {training['batch']}, data included")
        lines.append(f"  {_ratio(training)}, {training['samples_per_second']:.0f} windows a second")
    views = measured["views"]
    lines.append(
        f"training on synthetic views, {views['channels']} channels, batch {views['batch']}: "
        f"{views['seconds_per_step']:.3g} s a step, {views['making_share']:.0%} of it to make the views"
    )
    near, far = streaming["ms_per_frame"]
    fields = streaming["receptive_fields"]
    lines += [
        f"streaming, a frame: {near:.2f} ms at {fields[0]} frames, {far:.2f} ms at {fields[1]}: "
        f"{streaming['cost_ratio']:.2f}x for {streaming['parameter_ratio']:.2f}x the parameters",
        f"memory: {memory['peak_mb'][0]:.0f} MB for {memory['frames'][0]} frames, {memory['peak_mb'][1]:.0f} MB for "
        f"{memory['frames'][1]}",
    ]
    lines += [
        f"from keypoints to the fitted pose, {lift['frames']} frames at 30 a second: {lift['seconds']:.2f} s, "
        f"{lift['fit_vs_realtime']:.1f}x as fast as they play; {lift['without_fit_seconds']:.2f} s without the fit"
        for lift in measured["lift"]
    ]
    return lines


def _network(measured: Measured) -> str:
    return f"{measured['receptive_field']}-frame network, {measured['channels']} channels"


def _ratio(compared: dict[str, float]) -> str:
    return (
        f"{compared['ratio']:.2f}x as fast ({compared['seconds']:.3g} s, plain {compared['plain_seconds']:.3g} s; "
        f"rounds from {compared['ratio_lowest']:.2f} to {compared['ratio_highest']:.2f})"
    )
