import { ShimctlError } from "../error.ts";
import { shellWord } from "../shell_word.ts";
import type { Outcome } from "../transaction/outcome.ts";
import type { Node } from "./node.ts";
import type { Parsed } from "./options.ts";

/**
 * Refuses a change on a node whose system would not let it last, before anything is written, with the command
 * that makes what does.
 * Throws ShimctlError `unsupported-node`
 */
export async function refuseManaged({ found, host }: Node, parsed: Parsed): Promise<void> {
  const { layout, refusal } = found;
  if (refusal === undefined) return;
  const { path, why, hint } = refusal;
  // What only such a system has, not the daemon that others have as well.
  const [evidence] = [...layout.evidence(host, []), ...found.evidence];
  throw new ShimctlError(
    "unsupported-node",
    `Cannot change handlers on ${layout.title}, as ${why}${evidence === path || hint !== undefined ? "" : `: ${evidence}`}`,
    { path, hint: hint ?? (await documentHint(found, parsed)) },
  );
}

/**
 * Refuses an edit of a file that the system itself keeps as it is, before anything is written.
 * Throws ShimctlError `unsupported-node`
 */
export function refuseKept({ found, host }: Node, path: string): void {
  const kept = found.layout.keeps?.(host, path);
  if (kept === undefined) return;
  throw new ShimctlError("unsupported-node", `Cannot edit this file, as ${kept.why}: ${kept.path}`, {
    path,
    ...(kept.hint === undefined ? {} : { hint: kept.hint }),
  });
}

async function documentHint(found: Node["found"], parsed: Parsed): Promise<string> {
  const command = renderCommand(found, parsed);
  const { managedSystems } = await import("../managed/registry.ts");
  const system = managedSystems.find(({ name }) => name === found.layout.document);
  try {
    system?.rendering(found.site.version);
  } catch {
    return `no document of it can hold them either: \`${command}\` says what there is instead`;
  }
  return parsed.command === "uninstall"
    ? `take them out of its own document: \`${command}\` says how`
    : `put them into its own document: \`${command}\` makes it and says how to apply it`;
}

/** What has to be said of an edit that something will take away; `undefined` where it stays. */
export function lastingNote({ found }: Node, parsed: Parsed, outcome: Outcome): string | undefined {
  const { wipes, document } = found.layout;
  if (wipes === undefined || outcome.result !== "changed") return undefined;
  if (parsed.command !== "install" && parsed.command !== "apply") return undefined;
  const instead =
    document === undefined ? "" : `; \`${renderCommand(found, parsed)}\` makes a document that lasts`;
  return `this does not outlive ${wipes}${instead}`;
}

/** The `render` that says the same as the command that was given, ready to paste. */
export function renderCommand({ layout, site }: Node["found"], { command, args, options }: Parsed): string {
  const names = command === "install" || command === "uninstall" ? args : [];
  const file = command === "uninstall" ? undefined : options.file;
  // Without it the text is for containerd 2.x.
  const version =
    site.version !== undefined && site.version.major < 2
      ? `${site.version.major}.${site.version.minor ?? 7}`
      : undefined;
  const option = (name: string, value: string | undefined) => (value === undefined ? [] : [name, value]);
  return [
    "shimctl",
    "render",
    ...option("--for", layout.document),
    ...option("--engine-version", layout.engine === "containerd" ? version : undefined),
    ...option("--prefix", options.given.has("prefix") ? options.prefix : undefined),
    ...option("--snapshotter", options.given.has("snapshotter") ? options.snapshotter : undefined),
    ...option("-f", file),
    ...(names.length === 0 && file === undefined ? ["HANDLER..."] : names),
  ]
    .map(shellWord)
    .join(" ");
}
