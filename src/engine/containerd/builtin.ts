import { renderTable } from "../../toml/render.ts";
import { builtinHandler, criV2 } from "./schema.ts";

const path = ["plugins", criV2, "containerd", "runtimes", builtinHandler];

/** Says that the file had its default handler before we came: what others add to it since relies on it. */
const wasBuiltIn = "# built in until a handler was added\n";

/**
 * The handler that 1.6 and 1.7 have built in, with every default that their `config dump` shows for it, so that
 * writing it changes nothing. 1.6 does not know `sandbox_mode` and ignores it.
 */
const tables = `${renderTable(path, [
  ["runtime_type", "io.containerd.runc.v2"],
  ["sandbox_mode", "podsandbox"],
])}
${renderTable(
  [...path, "options"],
  [
    ["BinaryName", ""],
    ["CriuImagePath", ""],
    ["CriuPath", ""],
    ["CriuWorkPath", ""],
    ["IoGid", 0n],
    ["IoUid", 0n],
    ["NoNewKeyring", false],
    ["NoPivotRoot", false],
    ["Root", ""],
    ["ShimCgroup", ""],
    ["SystemdCgroup", false],
  ],
)}`;

/** @param had whether the engine had its built-in handler before ours came, or had lost it already */
export function builtinBody(had: boolean): string {
  return had ? wasBuiltIn + tables : tables;
}

export function saysBuiltIn(body: string): boolean {
  return body.startsWith(wasBuiltIn);
}
