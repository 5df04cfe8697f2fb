import { bottlerocket } from "./bottlerocket.ts";
import { flatcar } from "./flatcar.ts";
import { machineconfig } from "./machineconfig.ts";
import { manifestNames } from "./manifests.ts";
import { nodeadm } from "./nodeadm.ts";
import { runtimeClassName } from "./runtime_class.ts";
import type { ManagedSystem } from "./system.ts";
import { talos } from "./talos.ts";

export const managedSystems: readonly ManagedSystem[] = [
  talos,
  bottlerocket,
  nodeadm,
  flatcar,
  machineconfig,
];

/** What `--for` can name. */
export const documentNames: readonly string[] = [
  ...managedSystems.map(({ name }) => name),
  runtimeClassName,
  ...manifestNames,
];
