import { specialContainerd } from "./containerd.ts";
import { isSystem } from "./evidence.ts";
import type { Layout } from "./layout.ts";

/** Bottlerocket renders the file from its settings (bottlerocket-os/bottlerocket-core-kit: packages/containerd). */
export const bottlerocket: Layout = {
  ...specialContainerd,
  name: "bottlerocket",
  title: "Bottlerocket",
  evidence: (host) => isSystem(host, "bottlerocket"),
  survives: "restarts of containerd",
  wipes: "the next boot, and the next change of settings, at which Bottlerocket renders the file anew",
  document: "bottlerocket",
  refuses: () => ({
    path: specialContainerd.places().rootFile,
    why: "it renders this file from its settings",
  }),
};
