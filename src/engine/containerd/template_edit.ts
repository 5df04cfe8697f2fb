import { ShimctlError } from "../../error.ts";
import { encodeToml } from "../../toml/decode.ts";
import { findBlocks, removeBlock, setBlock } from "../../toml/edit.ts";
import type { FileEdit } from "../backend.ts";
import { decodeTemplate, readTemplate, type Template } from "./template.ts";

/** What one template shall hold of one owner; reached from any bytes of it. */
export interface TemplateGoal {
  readonly path: string;
  readonly owner: string;
  /** The owner's block; `undefined` for none. */
  readonly block: string | undefined;
  /** What does no more than no template does. */
  readonly base: string;
  /** A link leads to it: the file stays. */
  readonly mustStay: boolean;
}

/** The edit that reaches a goal, proved; `undefined` when the bytes already do. */
export function templateEdit(goal: TemplateGoal, before: Uint8Array | null): FileEdit | undefined {
  const edit = (base: Uint8Array | null) => {
    const after = reach(goal, base);
    if (!same(base, after)) prove(goal, base, after);
    return after;
  };
  const after = edit(before);
  if (same(before, after)) return undefined;
  return { path: goal.path, before, after, edit, bare: (bytes) => withoutOurs(goal, bytes), mode: 0o644 };
}

/**
 * A template of ours, without blocks: one line that renders what no template would, and no more, as the comment of
 * the template is not rendered.
 */
function madeText(base: string): string {
  return `${base}{{/* made by shimctl: it goes with the last block below, unless something else was added */}}\n`;
}

/** Whether a template goes with its last block. */
export function isMade(template: Template, base: string): boolean {
  try {
    return withoutBlocks(template.back(template.toml)) === madeText(base);
  } catch (error) {
    // Markers that cannot be trusted: it stays.
    if (error instanceof ShimctlError) return false;
    throw error;
  }
}

function reach(goal: TemplateGoal, base: Uint8Array | null): Uint8Array | null {
  const { path, owner, block } = goal;
  const made = madeText(goal.base);
  if (base === null && block === undefined) return null;
  const text = base === null ? made : decodeTemplate(base, path);
  const template = readTemplate(text);
  const { toml } = template;
  const stands = findBlocks(toml, path).some((each) => each.owner === owner);
  if (stands) refuseTail(template, owner, path);
  if (block !== undefined && !stands && template.closed !== undefined) {
    throw new ShimctlError(
      "unsupported-config",
      `Cannot add a block to this template, as ${template.closed}`,
      {
        path,
        line: template.lines.length,
        hint: `${/^it ends inside/.test(template.closed) ? "close what it ends in" : "end it with a line of its own"}, then run the same command again`,
      },
    );
  }
  const edited =
    block === undefined
      ? removeBlock(toml, owner, { path })
      : setBlock(toml, { owner, body: block }, { path });
  const after = template.back(edited);
  return after === made && !goal.mustStay ? null : encodeToml(after);
}

/** Keys behind a block belong to its last table, and would belong to another without it. */
function refuseTail({ toml, lines }: Template, owner: string, path: string): void {
  const block = findBlocks(toml, path).find((each) => each.owner === owner);
  if (block === undefined) return;
  const end = block.line + toml.slice(block.span.start, block.span.end).split("\n").length - 1;
  const at = lines.findIndex(({ text }, index) => index >= end && !/^\s*(?:#|$)/.test(text));
  const next = lines[at];
  if (next === undefined || next.ours || !/^\s*[\w"'][^{}]*=/.test(next.text)) return;
  throw new ShimctlError(
    "conflict",
    `Cannot change a shimctl block whose last table goes on behind it: ${owner}`,
    {
      path,
      line: at + 1,
      hint: "move these lines to the table they are meant for, above the block",
    },
  );
}

/** Lines of others are the same before and after; ours say what was asked for, and everybody else's what they said. */
function prove(goal: TemplateGoal, before: Uint8Array | null, after: Uint8Array | null): void {
  const { path, owner, block } = goal;
  const fail = (why: string) =>
    new ShimctlError("internal", `Cannot prove an edit safe: ${why}`, {
      path,
      state: "nothing was written",
      hint: "Report this together with the file, secrets removed.",
    });
  const text = (bytes: Uint8Array | null) =>
    bytes === null ? madeText(goal.base) : decodeTemplate(bytes, path);
  const [old, now] = [text(before), text(after)];
  if (withoutBlocks(old) !== withoutBlocks(now)) throw fail("lines of others would change");
  const others = (from: string) =>
    JSON.stringify(
      findBlocks(readTemplate(from).toml, path)
        .filter((each) => each.owner !== owner)
        .map(({ owner: theirs, body, intact }) => [theirs, body, intact]),
    );
  if (others(old) !== others(now)) throw fail("a block of another owner would change");
  const own = findBlocks(readTemplate(now).toml, path).find((each) => each.owner === owner);
  const body = block === undefined || block.endsWith("\n") ? block : `${block}\n`;
  if (own?.body !== body || own?.intact === false) throw fail("the result does not hold what it should");
}

function withoutBlocks(text: string): string {
  const { toml, back } = readTemplate(text);
  return back(findBlocks(toml).reduce((rest, { owner }) => removeBlock(rest, owner, { force: true }), toml));
}

/** The bytes without this owner's block: the base of a merge with other writers. */
function withoutOurs({ path, owner }: TemplateGoal, bytes: Uint8Array | null): Uint8Array | null {
  if (bytes === null) return null;
  const { toml, back } = readTemplate(decodeTemplate(bytes, path));
  return encodeToml(back(removeBlock(toml, owner, { path, force: true })));
}

function same(a: Uint8Array | null, b: Uint8Array | null): boolean {
  if (a === null || b === null) return a === b;
  return Buffer.compare(a, b) === 0;
}
