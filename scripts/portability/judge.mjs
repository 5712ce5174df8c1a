// Asks the judges outside about what `examples/export_shaders.rs` wrote, and renews docs/PORTABILITY.md.
//
//   node judge.mjs SHADERS PACKAGES WINE HLSL DOCUMENT NAGA_VERSION WINE_VERSION
//
// SHADERS: the exporter's folder; PACKAGES: where npm put `webgpu`; HLSL: hlsl.exe and its DLLs.
import { readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { Hlsl } from "./hlsl.mjs";
import { csv, failed, render, rewrite } from "./table.mjs";
import { Tint } from "./tint.mjs";

const [shaders, packages, wine, folder, document, naga, wineVersion] = process.argv.slice(2);
const list = JSON.parse(await readFile(`${shaders}/list.json`, "utf8"));
const tint = await Tint.load(packages);
const hlsl = new Hlsl(wine, folder);

const open = list.flatMap(({ needs, columns }) =>
    Object.keys(columns)
        .filter((column) => columns[column].judge)
        .map((column) => ({ needs, columns, column, ...columns[column] })),
);

async function ask({ needs, columns, column, judge, profile, file }) {
    const path = `${shaders}/${file}`;
    columns[column] = judge === "tint" ? await tint.judge(path, needs) : await hlsl.judge(judge, profile, path);
}

// Tint first, alone, because its error scopes are one stack per device.
const total = open.length;
for (const question of open.filter(({ judge }) => judge === "tint")) await ask(question);
const rest = open.filter(({ judge }) => judge !== "tint").values();
let done = total - open.filter(({ judge }) => judge !== "tint").length;
const worker = async () => {
    for (const question of rest) {
        await ask(question);
        done += 1;
        if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${total} judged`);
    }
};
await Promise.all(Array.from({ length: availableParallelism() }, worker));
if (process.stderr.isTTY) process.stderr.write("\n");

const judges = {
    "naga (SPIR-V, MSL, HLSL)": naga,
    "Tint (npm `webgpu`, Dawn's null backend, default limits)": tint.version,
    "DXC (`dxcompiler.dll`)": `${await hlsl.version("dxcompiler.dll")}, under ${wineVersion}`,
    "FXC (`d3dcompiler_47.dll`)": `${await hlsl.version("d3dcompiler_47.dll")}, under ${wineVersion}`,
};
await writeFile(`${shaders}/judged.json`, JSON.stringify({ judges, list }, null, 1));
await writeFile(`${shaders}/judged.csv`, csv(list));
await rewrite(document, "portability", render(judges, list));

const failures = failed(list);
for (const failure of failures) console.error(failure);
console.log(`${list.length} variants, ${total} questions, ${failures.length} failures`);
process.exit(failures.length ? 1 : 0);
