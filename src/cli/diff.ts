import { ShimctlError } from "../error.ts";
import { exactly } from "../handler/asked.ts";
import type { Intent } from "../transaction/desire.ts";
import { readEngine } from "../transaction/gather.ts";
import { rebuildRecord } from "../transaction/rebuild.ts";
import { handlersIn } from "../transaction/record.ts";
import type { Request } from "../transaction/request.ts";
import { preview } from "../transaction/run.ts";
import { openState } from "../transaction/state.ts";
import { stateProblems } from "../transaction/state_problems.ts";
import {
  adoptedEntries,
  type ChangeCommand,
  environment,
  handlerFile,
  ownerOf,
  requestOf,
  withDiff,
} from "./change.ts";
import type { ReadFile } from "./handler_file.ts";
import type { Io } from "./io.ts";
import type { Log } from "./log.ts";
import { explained, type Node, openNode } from "./node.ts";
import { type Parsed, shown } from "./options.ts";
import { changeDocument, problemText, supersededText } from "./output.ts";
import { unified } from "./patch.ts";

/** `diff [install|uninstall|apply] …`: what that command would change; without one, what would mend the owner's drift. */
export async function diff(io: Io, log: Log, parsed: Parsed): Promise<number> {
  const [command, ...args] = parsed.args;
  const inner: Parsed = { ...parsed, args };
  const file = await handlerFile(inner, io.signal);
  const owner = ownerOf(inner, file);
  const node = await openNode(parsed.options);
  try {
    return await show(io, log, inner, { command, file, owner, node });
  } catch (thrown) {
    throw await withDiff(explained(thrown, node.host));
  }
}

/** What is asked for, and of which node. */
interface Asked {
  readonly command: string | undefined;
  readonly file: ReadFile | undefined;
  readonly owner: string;
  readonly node: Node;
}

async function show(
  io: Io,
  log: Log,
  parsed: Parsed,
  { command, file, owner, node }: Asked,
): Promise<number> {
  const state = openState((path) => node.host.real(path), io.now);
  const recorded = (): Request => {
    const { rootFile } = node.site;
    const { lost, damaged } = state.readRecord();
    if (lost || damaged !== undefined) {
      const { view } = readEngine(node.host, node.backend, node.site);
      state.rebuild(() => rebuildRecord(view, rootFile, state.journal(), io.now()));
    }
    const handlers = handlersIn(state.readRecord().record, rootFile, owner);
    const intent: Intent = { command: "apply", handlers: handlers.map(exactly) };
    return { intent, owner, allowMissing: true, retries: 0, updatePresets: false, outOfOrder: true };
  };
  const request =
    command === undefined
      ? recorded()
      : requestOf(parsed, changeCommand(command), node, owner, file, io.now());
  // To look is allowed to everybody, on hold or not.
  const { caller: _, ...env } = environment(io, log, parsed, node, () => undefined);
  const previewed = await preview(env, request, "read");
  const outcome = { ...previewed, warnings: [...stateProblems(state), ...previewed.warnings] };
  if (parsed.options.json) {
    const patches = await Promise.all(
      outcome.changes.map(async (change) => ({ path: change.path, patch: await unified(change) })),
    );
    io.out(
      changeDocument("diff", owner, true, outcome, undefined, {
        patches,
        adopted: await adoptedEntries(outcome.adopted),
      }),
    );
    return 0;
  }
  for (const note of outcome.notes) log.warn(note);
  for (const warning of outcome.warnings) log.warn(problemText(warning));
  if (outcome.result === "superseded") io.out(supersededText(outcome));
  for (const change of outcome.changes) io.out(await unified(change));
  return 0;
}

function changeCommand(name: string): ChangeCommand {
  if (name === "install" || name === "uninstall" || name === "apply") return name;
  throw new ShimctlError("usage", `Cannot show the changes of '${shown(name)}'`, {
    hint: "write diff install, diff uninstall or diff apply, then what that command takes",
  });
}
