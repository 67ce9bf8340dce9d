"""The figures of a bench as a page: JSON for programs, Markdown and a plot for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...core.errors import OutputError
from ...core.output_files import check_writable, written_whole

# What is wanted of each; ratios are how many times as fast as the other side, save the first.
_GOALS: dict[str, tuple[str, str]] = {
    "detect_overhead": (
        "find, repair, lift, fit and write on one core, time over the bare detector loop",
        "at most 1.08",
    ),
    "two_core_speedup": ("finding people in parts, against the bare detector loop", "at least 1.6 on two cores"),
    "lift_vs_plain": ("lifting, against the plain network", "more than 1"),
    "train_vs_plain": ("training, against the plain loop", "more than 1"),
    "fit_vs_realtime": ("lift and fit, against the time that the clip plays", "more than 1"),
    "keyframe_insert_ratio": ("keyframes, against keyframe_insert", "more than 1"),
    "cli_help_s": ("keylift --help, seconds", "at most 0.3"),
    "extension_enable_ms": ("the extension enabled, milliseconds", "at most 60"),
}
JSON, MARKDOWN, PLOT = "bench.json", "bench.md", "bench.png"


def headline(measured: dict[str, Any]) -> dict[str, float | None]:
    """The few figures to watch; None for what was not measured."""
    detect, start = measured.get("detect") or {}, measured.get("start") or {}
    learned = measured if "inference" in measured else {}
    # By itself it is not under its name.
    retarget = measured.get("retarget") or measured
    return {
        "detect_overhead": detect.get("detect_overhead"),
        "two_core_speedup": detect.get("two_core_speedup"),
        "lift_vs_plain": learned["inference"]["float32"]["ratio"] if learned else None,
        "train_vs_plain": learned["training"][-1]["ratio"] if learned else None,
        "fit_vs_realtime": learned["lift"][0]["fit_vs_realtime"] if learned else None,
        "keyframe_insert_ratio": retarget.get("keyframe_insert_ratio"),
        "cli_help_s": start.get("cli_help_s"),
        "extension_enable_ms": start.get("extension_enable_ms"),
    }


def check_place(folder: Path) -> None:
    """Raise OutputError now rather than after a quarter of an hour."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"'{folder}' is a file. Give a folder after -o.")
    check_writable(folder / JSON)


def write_page(folder: Path, measured: dict[str, Any], told: list[str]) -> list[Path]:
    """Write all three into ``folder``; returns where they are."""
    places = [folder / name for name in (JSON, MARKDOWN, PLOT)]
    with written_whole(places[0]) as beside:
        beside.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    with written_whole(places[1]) as beside:
        beside.write_text(markdown(measured, told), encoding="utf-8")
    with written_whole(places[2]) as beside:
        _plot(measured, beside)
    return places


def markdown(measured: dict[str, Any], told: list[str]) -> str:
    """The page: what machine, the figures to watch, how far from the machine's limits, and everything in words."""
    machine = measured["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB, "
        f"{machine['system']}, Python {machine['python']}, {packages}. "
        f"The machine was {machine['busy_before']:.0%} busy with other things before it began.",
    ]
    if measured["quick"]:
        lines += ["", "**Quick: tiny sizes, so these figures mean little.**"]
    lines += ["", "| figure | what it is | here | wanted |", "|---|---|---|---|"]
    for name, (what, wanted) in _GOALS.items():
        value = measured[name]
        lines.append(f"| `{name}` | {what} | {'not measured' if value is None else f'{value:.3g}'} | {wanted} |")
    if limits := measured.get("limits"):
        lines += ["", *_limits_told(measured, limits)]
    lines += ["", "```", *told, "```", "", f"![The same as a plot]({PLOT})", ""]
    return "\n".join(lines)


def _limits_told(learned: dict[str, Any], limits: dict[str, float]) -> list[str]:
    lines = [
        f"The machine multiplies matrices at {limits['gflops']:.0f} GFLOP/s, {limits['gflops_exact']:.0f} in float64 "
        f"on one core, and copies memory at {limits['copy_gb_s']:.1f} GB/s. Below, the operations of the plain network "
        "are counted for both; lifting does with fewer, and bfloat16 has circuits of its own, so that both may go "
        "beyond the limit. The fit runs on one core, half of it in float64, and is held against that:",
        "",
        "| stage | GFLOP/s | share of the limit |",
        "|---|---|---|",
    ]
    inference = learned["inference"]
    rows = [
        (f"lifting, {name}", inference["gflop"] / inference[name]["seconds"])
        for name in ("float32", "bfloat16")
        if name in inference
    ]
    rows += [
        (f"training, {case['receptive_field']} frames, {case['channels']} channels", case["gflop"] / case["seconds"])
        for case in learned["training"]
    ]
    lines += [f"| {stage} | {rate:.0f} | {rate / limits['gflops']:.0%} |" for stage, rate in rows]
    for clip in learned["lift"]:
        rate = clip["fit_gflop"] / (clip["seconds"] - clip["without_fit_seconds"])
        lines.append(f"| fitting, {clip['frames']} frames | {rate:.0f} | {rate / limits['gflops_exact']:.0%} |")
    return lines


def _plot(measured: dict[str, Any], place: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    ratios, lengths = figure.subplots(1, 2, width_ratios=(3, 2))
    # Time over the bare loop, turned over, so that longer bars are better in all rows.
    shown = {name: measured[name] for name in _GOALS if not name.endswith(("_s", "_ms")) and measured[name]}
    if "detect_overhead" in shown:
        shown["detect_overhead"] = 1 / shown["detect_overhead"]
    names = list(shown)[::-1]
    bars = ratios.barh(names, [shown[name] for name in names], color="#3b6ea5")
    ratios.bar_label(bars, fmt="%.2f", padding=3)
    ratios.axvline(1, color="#999999", linewidth=1)
    if names:
        ratios.set_xscale("log")
        ratios.set_xlim(0.5, 2 * max(*shown.values(), 1))
    ratios.set_title("times as fast as the plain way")
    costs = measured.get("length") or []
    lengths.plot([cost["frames"] for cost in costs], [cost["seconds"] for cost in costs], "o-", color="#3b6ea5")
    memory = lengths.twinx()
    memory.plot([cost["frames"] for cost in costs], [cost["peak_mb"] for cost in costs], "s--", color="#c06020")
    memory.set_ylim(bottom=0)
    memory.set_ylabel("peak memory, MB", color="#c06020")
    lengths.set_xlabel("frames")
    lengths.xaxis.set_major_locator(MaxNLocator(4))
    lengths.set_ylabel("seconds", color="#3b6ea5")
    lengths.set_ylim(bottom=0)
    lengths.set_title("lifting and fitting")
    figure.savefig(place, dpi=110, format="png")
