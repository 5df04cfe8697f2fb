import { ExitCode, ShimctlError } from "../error.ts";
import type { CopySource } from "../transaction/copies.ts";
import type { Finding } from "../transaction/diagnose.ts";
import {
  previewRepair,
  type Repaired,
  type RepairRequest,
  repair as repairNode,
} from "../transaction/repair.ts";
import { environment, underLock } from "./change.ts";
import type { Io } from "./io.ts";
import { refuseManaged } from "./lasting.ts";
import type { Log } from "./log.ts";
import { explained, type Node, namedHint, openNode } from "./node.ts";
import { type Parsed, shown } from "./options.ts";
import { changeEntry, document, errorDocument, exitOf } from "./output.ts";
import { redactedPatch } from "./redacted_patch.ts";

/**
 * `repair [PATH]`: what the engine refuses in its configuration, and the smallest cut that mends it. Without `--yes`
 * it writes nothing. Exit code 11 while anything is broken.
 */
export async function repair(io: Io, log: Log, parsed: Parsed): Promise<number> {
  const { options } = parsed;
  const request = requestOf(parsed);
  const node = await openNode(options);
  let done: Repaired;
  try {
    refuseUnread(node, request.only);
    if (options.yes) await refuseManaged(node, parsed);
    done = options.yes
      ? await underLock(io, log, parsed, node, "shared", (env) => repairNode(env, request))
      : previewRepair(
          environment(io, log, parsed, node, () => undefined),
          request,
        );
  } catch (thrown) {
    const error = explained(thrown, node.host);
    if (!options.json) throw error;
    io.out(errorDocument("repair", error));
    return exitOf(error);
  }
  const left = done.findings.filter(({ remedy }) => remedy === undefined);
  const isBroken = options.yes ? left.length > 0 || !done.works : done.findings.length > 0;
  const code = isBroken ? ExitCode.broken : ExitCode.done;
  if (options.json) io.out(await documentOf(done, options.yes, isBroken));
  else await tell(io, log, done, options.yes, left);
  return code;
}

function requestOf({ args, options }: Parsed): RepairRequest {
  const [only, ...more] = args;
  if (more.length > 0)
    throw new ShimctlError("usage", "Cannot repair more than one file by name", {
      hint: "name none to repair all that the engine reads, or run repair once for each",
    });
  if (only !== undefined && !only.startsWith("/"))
    throw new ShimctlError("usage", `Cannot repair a relative path: ${shown(only)}`, {
      hint: "write it as the node names it, from its root",
    });
  return { only, from: sourceOf(options.from), retries: options.retries };
}

function sourceOf(from: string | undefined): CopySource | undefined {
  if (from === undefined || from === "store" || from === "bak") return from;
  throw new ShimctlError("usage", `Cannot read --from, which must be store or bak: ${shown(from)}`);
}

/** The engine's own folder is all that a repair may write to. */
function refuseUnread({ host, site }: Node, path: string | undefined): void {
  if (path === undefined) return;
  const folder = site.rootFile.slice(0, site.rootFile.lastIndexOf("/"));
  const plain = !path.split("/").some((part) => part === ".." || part === ".");
  if (path === site.rootFile || (plain && path.startsWith(`${folder}/`))) {
    if (host.read(path).kind === "file") return;
    throw new ShimctlError("usage", "Cannot repair this file, as it is not there", {
      path,
      hint: "check the path",
    });
  }
  throw new ShimctlError(
    "usage",
    "Cannot repair this file, as the engine's configuration does not begin there",
    {
      path,
      hint: namedHint(host, path) ?? `name ${site.rootFile} or a file below ${folder}, or pass --config`,
    },
  );
}

async function tell(
  io: Io,
  log: Log,
  { findings, edits, copy, kept, notes, restart, works }: Repaired,
  yes: boolean,
  left: readonly Finding[],
): Promise<void> {
  for (const note of notes) log.warn(note);
  for (const finding of findings) io.out(`${findingText(finding, yes)}\n`);
  if (copy !== undefined) {
    io.out(`${yes ? "restored" : "would restore"} ${copy.words}, ${age(copy.time, io.now())} old\n`);
    io.out("what is lost begins with '-':\n");
  }
  for (const edit of edits) io.out(await redactedPatch(edit));
  for (const { path, as } of kept) io.out(`the damaged ${path} is kept as ${as}\n`);
  if (yes && edits.length > 0) io.out(`${restart.words}\n`);
  if (!works) io.out("the files can be read, and the engine does not work all the same: see its log\n");
  io.out(`${closing(findings, edits.length, yes, left.length)}\n`);
}

function closing(findings: readonly Finding[], edits: number, yes: boolean, left: number): string {
  if (yes && left > 0) return `${left} of ${findings.length} left: what was meant there cannot be told`;
  if (yes) return edits > 0 ? "repaired" : "nothing to repair";
  if (edits > 0)
    return "nothing was written; the same command with --yes writes this, and keeps the damaged file";
  return findings.length === 0 ? "nothing to repair" : "nothing of this can be repaired without knowing more";
}

function findingText({ path, line, column, message, excerpt, remedy, hint }: Finding, yes: boolean): string {
  const place = `${path}${line === undefined ? "" : `:${line}${column === undefined ? "" : `:${column}`}`}`;
  return [
    `broken: ${message}`,
    `  at: ${place}`,
    ...(excerpt === undefined || excerpt === "" ? [] : excerpt.split("\n").map((text) => `    ${text}`)),
    ...(remedy === undefined ? [] : [`  ${yes ? "done" : "repair"}: ${remedy}`]),
    ...(remedy !== undefined || hint === undefined ? [] : [`  next: ${hint}`]),
  ].join("\n");
}

/** In the largest unit that says something. */
function age(time: number, now: Date): string {
  const minutes = Math.max(0, Math.round((now.getTime() - time) / 60_000));
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2 * 24 * 60 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 60 / 24)} days`;
}

async function documentOf(done: Repaired, yes: boolean, isBroken: boolean): Promise<string> {
  const { findings, edits, copy, kept, notes, restart } = done;
  const result = isBroken
    ? yes && edits.length > 0
      ? "in part"
      : "broken"
    : edits.length > 0 && yes
      ? "repaired"
      : "ok";
  const changes = edits.map((edit) =>
    changeEntry({
      ...edit,
      action: edit.before === null ? "create" : edit.after === null ? "remove" : "edit",
    }),
  );
  return document("repair", result, undefined, {
    written: yes && edits.length > 0,
    findings: findings.map((finding) => ({ ...finding, repairable: finding.remedy !== undefined })),
    changes,
    patches: await Promise.all(
      edits.map(async (edit) => ({ path: edit.path, patch: await redactedPatch(edit) })),
    ),
    copy: copy === undefined ? null : { from: copy.words, time: new Date(copy.time).toISOString() },
    kept,
    notes,
    restart,
  });
}
