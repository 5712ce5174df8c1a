// Tint, the WGSL compiler of Chrome: Dawn's null backend checks a shader without any driver, on a device
// with WebGPU's default limits and only the features that the kernel needs.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const FEATURES = { f16: "shader-f16", subgroup: "subgroups" };

export class Tint {
    #gpu;
    #devices = new Map();

    // `packages` is the folder into which npm installed `webgpu`.
    static async load(packages) {
        const require = createRequire(`${packages}/`);
        const { create } = await import(require.resolve("webgpu"));
        const tint = new Tint();
        tint.#gpu = create(["backend=null"]);
        tint.version = require("webgpu/package.json").version;
        return tint;
    }

    async #device(needs) {
        const requiredFeatures = needs.map((need) => FEATURES[need]);
        const key = requiredFeatures.join();
        if (!this.#devices.has(key)) {
            const adapter = await this.#gpu.requestAdapter();
            this.#devices.set(key, await adapter.requestDevice({ requiredFeatures }));
        }
        return this.#devices.get(key);
    }

    // Compiles a file up to a pipeline: { ok, seconds } or { error, seconds }.
    async judge(file, needs) {
        const device = await this.#device(needs);
        const code = await readFile(file, "utf8");
        const start = performance.now();
        device.pushErrorScope("validation");
        const module = device.createShaderModule({ code });
        const messages = (await module.getCompilationInfo()).messages.filter((m) => m.type === "error");
        let refused;
        if (messages.length === 0) {
            const compute = { module, entryPoint: "main" };
            await device.createComputePipelineAsync({ layout: "auto", compute }).catch((e) => (refused = e.message));
        }
        refused ??= (await device.popErrorScope())?.message;
        const seconds = (performance.now() - start) / 1000;
        const error = messages[0] ? `line ${messages[0].lineNum}: ${messages[0].message}` : refused;
        return error ? { error, seconds } : { ok: true, seconds };
    }
}
