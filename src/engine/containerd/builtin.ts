import { renderTable } from "../../toml/render.ts";
import { builtinHandler, criV2 } from "./schema.ts";

const path = ["plugins", criV2, "containerd", "runtimes", builtinHandler];

/**
 * The handler that 1.6 and 1.7 have built in, with every default that their `config dump` shows for it, so that
 * writing it changes nothing. 1.6 does not know `sandbox_mode` and ignores it.
 */
export const builtinBody = `${renderTable(path, [
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
