// SPDX-License-Identifier: GPL-3.0-or-later
//
// Flamenco 3 job type: many clips to many takes, each stage where it is cheap.
// Put this file into the folder `scripts` beside the Flamenco Manager; docs/farm.md says how to use it.

const JOB_TYPE = {
    label: "Keylift Batch",
    settings: [
        { key: "job_file", type: "string", subtype: "file_path", required: true,
          description: "Keylift's job file (TOML), or a folder of videos, on storage that all workers share" },
        { key: "output_folder", type: "string", subtype: "dir_path", required: true,
          description: "Where takes, records and the report go, on storage that all workers share" },
        { key: "parts", type: "int32", default: 1, required: true, propargs: {min: 1, max: 10000},
          description: "Into how many tasks each stage is cut; a few times the number of workers" },
        { key: "keylift", type: "string", default: "keylift", required: true,
          description: "Keylift's executable on the workers, or a variable like {keylift}" },
        { key: "retargeter", type: "string", default: "keylift", required: true,
          description: "What retargets: Keylift's executable where Python has bpy, or {blender} where Blender has the extension" },
        { key: "python", type: "string", default: "python", required: true,
          description: "Any Python 3 on the workers; it passes on Keylift's exit code" },
    ]
};

// Blender's workers do what may need Blender; a worker's task_types says what it takes.
const TASK_TYPES = { detect: "misc", lift: "misc", retarget: "blender", report: "blender" };

// Clips that can't succeed (exit code 1) must not keep the next stage from the others; the report fails for them. A worker
// where nothing works at all ends with the same code, but without a summary of its clips. Anything else is passed on, so
// that 75, failed for now, is tried again by another worker.
const GO_ON = `
import json, subprocess, sys

def is_summary(line):
    try:
        told = json.loads(line)
    except ValueError:
        return False
    return isinstance(told, dict) and "jobs" in told and "event" not in told

sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
came_to_its_end = False
with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, encoding="utf-8", errors="replace") as keylift:
    for line in keylift.stdout:
        print(line, end="", flush=True)
        came_to_its_end = is_summary(line) or came_to_its_end
sys.exit(0 if keylift.returncode == 1 and came_to_its_end else keylift.returncode)
`;

function compileJob(job) {
    const settings = job.settings;
    const parts = settings.parts;
    if (!(parts >= 1)) {
        throw new Error(`"parts" is ${parts}, and there must be one part or more`);
    }

    // Declared first, added last: a task depends on tasks that are there already.
    const report = author.Task("report", TASK_TYPES.report);
    report.addCommand(exec(batch(settings, settings.retargeter, [])));

    for (let part = 1; part <= parts; part++) {
        let before = null;
        for (const stage of ["detect", "lift", "retarget"]) {
            const executable = stage === "retarget" ? settings.retargeter : settings.keylift;
            const options = ["--part", `${part}/${parts}`, "--stage", stage];
            const task = author.Task(`${stage}-${part}`, TASK_TYPES[stage]);
            task.addCommand(exec([settings.python, "-c", GO_ON].concat(batch(settings, executable, options))));
            if (before !== null) {
                task.addDependency(before);
            }
            job.addTask(task);
            before = task;
        }
        report.addDependency(before);
    }
    job.addTask(report);
}

function exec(words) {
    return author.Command("exec", { exe: words[0], args: words.slice(1) });
}

// Paths are words of their own: two-way variables of the Manager replace the beginning of a word.
function batch(settings, executable, options) {
    return keylift(executable).concat(
        ["batch", settings.job_file, "-o", settings.output_folder], options, ["--workers", "1", "--json"]);
}

// Inside Blender the same command is `blender -c keylift ...`.
function keylift(executable) {
    const name = executable.split(/[\\/]/).pop().toLowerCase();
    return name === "{blender}" || name.startsWith("blender") ? [executable, "-c", "keylift"] : [executable];
}
