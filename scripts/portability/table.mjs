// The table of docs/PORTABILITY.md: one row per kernel and variant, one column per judge.
import { readFile, writeFile } from "node:fs/promises";

const seconds = (value) => `${value.toFixed(value < 0.1 ? 3 : 2)} s`;

const cell = (entry) => {
    if (entry.needs) return "not offered";
    if (entry.error) return "**failed**";
    return entry.seconds === undefined ? "ok" : seconds(entry.seconds);
};

const row = (cells) => `| ${cells.join(" | ")} |`;

// What was judged by whom, then every variant, then the messages of those that failed.
export function render(judges, list) {
    const columns = [...new Set(list.flatMap((entry) => Object.keys(entry.columns)))];
    const count = (column, test) => list.filter((entry) => test(entry.columns[column])).length;
    const lines = ["### Judges", ""];
    for (const [name, version] of Object.entries(judges)) lines.push(`- ${name}: ${version}`);
    lines.push("", "### Counts", "", row(["judge", "passed", "not offered there", "failed", "slowest"]));
    lines.push(row(Array(5).fill("---")));
    for (const column of columns) {
        const times = list.map((entry) => entry.columns[column].seconds).filter((s) => s !== undefined);
        const slowest = times.length ? seconds(Math.max(...times)) : "";
        const counts = [(e) => e.ok, (e) => e.needs, (e) => e.error].map((test) => count(column, test));
        lines.push(row([column, ...counts, slowest]));
    }
    lines.push("", "### Every kernel in every variant", "");
    lines.push(row(["kernel", "variant", "needs", ...columns]), row(Array(columns.length + 3).fill("---")));
    for (const { kernel, variant, needs, columns: found } of list) {
        const cells = columns.map((column) => cell(found[column]));
        lines.push(row([`\`${kernel}\``, variant, needs.join(", ") || "core WGSL", ...cells]));
    }
    const failures = failed(list);
    if (failures.length) lines.push("", "### Failures", "", ...failures.map((failure) => `- ${failure}`));
    return lines.join("\n");
}

// One line per failure.
export function failed(list) {
    return list.flatMap(({ kernel, variant, columns }) =>
        Object.entries(columns)
            .filter(([, entry]) => entry.error)
            .map(([column, entry]) => `${column}: ${kernel} (${variant}): ${entry.error.split("\n")[0]}`),
    );
}

// Replaces the text between the marks `<!-- NAME -->` and `<!-- end of NAME -->`.
export async function rewrite(file, name, text) {
    const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
    const old = await readFile(file, "utf8");
    const [from, to] = [old.indexOf(begin), old.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`${file}: no marks ${begin} and ${end}`);
    await writeFile(file, `${old.slice(0, from + begin.length)}\n${text}\n${old.slice(to)}`);
}
