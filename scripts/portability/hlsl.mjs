// Microsoft's shader compilers, run by Wine: one process per shader, killed when it takes too long.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

// No shader of an application may take longer; FXC is known to think for minutes.
const LIMIT_SECONDS = 60;

export class Hlsl {
    // `wine` is the program, `folder` holds hlsl.exe and the DLLs.
    constructor(wine, folder) {
        this.wine = wine;
        this.folder = folder;
    }

    async #hlsl(...args) {
        const options = { timeout: LIMIT_SECONDS * 1000, killSignal: "SIGKILL" };
        return run(this.wine, [`${this.folder}/hlsl.exe`, ...args], options);
    }

    // The file version of a DLL.
    async version(dll) {
        return (await this.#hlsl("version", `${this.folder}/${dll}`)).stdout.trim();
    }

    // Compiles a file: { ok, seconds, bytes } or { error, seconds }.
    async judge(compiler, profile, file) {
        const start = performance.now();
        let printed = "";
        // Wine ends a process without a word once in a thousand times. That is no verdict, so it is asked again.
        for (let attempt = 0; printed === "" && attempt < 3; attempt++) {
            try {
                printed = (await this.#hlsl(compiler, profile, file)).stdout;
            } catch (failure) {
                const seconds = (performance.now() - start) / 1000;
                if (failure.killed) return { error: `not done after ${LIMIT_SECONDS} s`, seconds };
                // Exit status 1 is a verdict, anything else means that the compiler could not be asked.
                if (failure.code !== 1) throw new Error(`${compiler} ${profile} ${file}: ${failure.stderr || failure}`);
                printed = failure.stdout;
            }
        }
        const found = /^(ok|error) ([\d.]+) (.*)/.exec(printed);
        if (!found) throw new Error(`${compiler} ${profile} ${file}: printed \`${printed}\``);
        const seconds = Number(found[2]);
        if (found[1] === "ok") return { ok: true, seconds, bytes: Number(found[3]) };
        // The message starts with the file's whole path.
        return { error: found[3].replace(/^.*\.hlsl/, ""), seconds };
    }
}
