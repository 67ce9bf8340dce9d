// What Flamenco 3's Manager does with a job type: runs the script in strict mode with its globals, calls compileJob,
// and keeps what was authored. Written after internal/manager/job_compilers (author.go, scripts.go); the names in
// JavaScript are Go's with a small first letter. Call: node flamenco_manager.js SCRIPT JOB, prints JSON.

"use strict";

const fs = require("fs");
const vm = require("vm");
const crypto = require("crypto");

class AuthoredTask {
    constructor(name, type) {
        this.uuid = crypto.randomUUID();
        this.name = name;
        this.type = type;
        this.priority = 50;
        this.commands = [];
        this.dependencies = [];
    }

    // Go stores copies: what is changed afterwards is lost.
    addCommand(command) {
        if (!(command instanceof AuthoredCommand)) throw new TypeError("addCommand() wants an author.Command");
        this.commands.push(structuredClone({ ...command }));
    }

    addDependency(task) {
        if (!(task instanceof AuthoredTask)) throw new TypeError("addDependency() wants an author.Task");
        this.dependencies.push(task);
    }
}

class AuthoredCommand {
    constructor(name, parameters) {
        this.name = name;
        this.parameters = parameters;
    }
}

const author = Object.freeze({
    Task(name, type) {
        name = String(name).trim();
        type = String(type).trim();
        if (!name) throw new Error("author.Task(name, type): name is required");
        if (!type) throw new Error("author.Task(name, type): type is required");
        return new AuthoredTask(name, type);
    },
    Command(name, parameters) {
        return new AuthoredCommand(name, parameters);
    },
});

const [scriptPath, jobText] = process.argv.slice(2);
const tasks = [];
const job = {
    ...JSON.parse(jobText),
    addTask(task) {
        if (!(task instanceof AuthoredTask)) throw new TypeError("addTask() wants an author.Task");
        tasks.push({ ...task, commands: [...task.commands], dependencies: [...task.dependencies] });
    },
};

const script = fs.readFileSync(scriptPath, "utf-8");
// The script is a program of its own: none of node's globals, no modules but the Manager's.
const globals = vm.createContext({ author, print: () => {}, alert: () => {} });
vm.runInContext(`"use strict";${script}\nthis.compiled = { jobType: JOB_TYPE, compileJob };`, globals);
globals.compiled.compileJob(job);

const names = new Map(tasks.map((task) => [task.uuid, task.name]));
for (const task of tasks) {
    task.dependencies = task.dependencies.map((other) => {
        // The Manager saves tasks first and looks dependencies up among them.
        if (!names.has(other.uuid)) throw new Error(`${task.name} depends on a task that is not in the job`);
        return names.get(other.uuid);
    });
}
console.log(JSON.stringify({ jobType: globals.compiled.jobType, tasks }));
