import { rmSync } from "node:fs";
import type { EngineName } from "../../src/engine/backend.ts";
import type { Handler } from "../../src/handler/model.ts";
import { documented, filesOf } from "../support/documented.ts";
import { Node } from "../support/node.ts";

/** Every documented handler of an engine. */
export function documentedFor(engine: EngineName): Handler[] {
  return Object.entries(documented)
    .filter(([, definition]) => definition[engine] !== undefined)
    .map(([name, definition]) => ({ ...definition, name }));
}

/** A node that has what these handlers name where the documentation has it, and nothing else of theirs. */
export function nodeFor(
  engine: EngineName,
  version: string,
  handlers: readonly Handler[],
  files: Readonly<Record<string, string>>,
): Node {
  const node = new Node(version);
  for (const folder of ["/opt", "/usr"]) rmSync(node.root + folder, { recursive: true });
  for (const [path, content] of Object.entries(files)) node.place(path, content, 0o755);
  for (const handler of handlers) {
    const { programs, configurations } = filesOf(handler, engine);
    for (const path of programs) node.place(path, "#!/bin/sh\n", 0o755);
    for (const path of configurations) node.place(path, "");
  }
  return node;
}
