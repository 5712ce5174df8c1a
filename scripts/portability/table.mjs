// The tables of docs/PORTABILITY.md, and every single verdict as CSV.
import { readFile, writeFile } from "node:fs/promises";

const seconds = (value) => `${value.toFixed(value < 0.1 ? 3 : 2)} s`;

const row = (cells) => `| ${cells.join(" | ")} |`;

const columnsOf = (list) => [...new Set(list.flatMap((entry) => Object.keys(entry.columns)))];

// How many passed, how many are not offered, how many failed; the slowest verdict, if they were timed.
function counts(entries) {
    const times = entries.map((entry) => entry.seconds).filter((s) => s !== undefined);
    return {
        passed: entries.filter((entry) => entry.ok).length,
        notOffered: entries.filter((entry) => entry.needs).length,
        failed: entries.filter((entry) => entry.error).length,
        slowest: times.length ? Math.max(...times) : undefined,
    };
}

// Of one kernel at one judge.
function cell(entries) {
    const { passed, notOffered, failed, slowest } = counts(entries);
    const parts = [];
    if (passed) parts.push(passed === entries.length ? "all" : `${passed}`);
    if (notOffered) parts.push(notOffered === entries.length ? "not offered" : `${notOffered} not offered`);
    if (failed) parts.push(`**${failed} failed**`);
    return parts.join(", ") + (slowest === undefined ? "" : ` (${seconds(slowest)})`);
}

// What was judged by whom, then every kernel, then the messages of those that failed.
export function render(judges, list) {
    const columns = columnsOf(list);
    const lines = ["### Judges", ""];
    for (const [name, version] of Object.entries(judges)) lines.push(`- ${name}: ${version}`);
    lines.push("", "### Counts", "", row(["judge", "passed", "not offered there", "failed", "slowest"]));
    lines.push(row(Array(5).fill("---")));
    for (const column of columns) {
        const { passed, notOffered, failed, slowest } = counts(list.map((entry) => entry.columns[column]));
        lines.push(row([column, passed, notOffered, failed, slowest === undefined ? "" : seconds(slowest)]));
    }
    lines.push("", "### Kernels", "");
    lines.push(row(["kernel", "variants", "some need", ...columns]), row(Array(columns.length + 3).fill("---")));
    for (const kernel of new Set(list.map((entry) => entry.kernel))) {
        const variants = list.filter((entry) => entry.kernel === kernel);
        const needs = [...new Set(variants.flatMap((entry) => entry.needs))].sort();
        const cells = columns.map((column) => cell(variants.map((entry) => entry.columns[column])));
        lines.push(row([`\`${kernel}\``, variants.length, needs.join(", ") || "core WGSL", ...cells]));
    }
    const failures = failed(list);
    if (failures.length) lines.push("", "### Failures", "", ...failures.map((failure) => `- ${failure}`));
    return lines.join("\n");
}

// One line per variant: every verdict, with the compiler's seconds where it was timed.
export function csv(list) {
    const columns = columnsOf(list);
    const verdict = (entry) => {
        if (entry.needs) return "not offered";
        if (entry.error) return "failed";
        return entry.seconds === undefined ? "ok" : `${entry.seconds}`;
    };
    const lines = list.map(({ kernel, variant, needs, columns: found }) =>
        [kernel, variant, needs.join(" "), ...columns.map((column) => verdict(found[column]))].join(","),
    );
    return [["kernel", "variant", "needs", ...columns].join(","), ...lines, ""].join("\n");
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
