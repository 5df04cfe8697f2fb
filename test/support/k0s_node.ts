import { mkdirSync } from "node:fs";
import { type Generation, k0sFolder, renderByK0s } from "./k0s_merge.ts";
import { Node } from "./node.ts";

/** A node on which k0s of one generation has been started, with these drop-ins of others. */
export function k0sNode(
  generation: Generation,
  version: string,
  dropIns: Readonly<Record<string, string>> = {},
): Node {
  const node = new Node(version);
  node.place("/var/lib/k0s/bin/containerd", "", 0o755);
  mkdirSync(node.root + k0sFolder, { recursive: true });
  for (const [name, text] of Object.entries(dropIns)) node.place(`${k0sFolder}/${name}`, text);
  renderByK0s(node.root, generation);
  return node;
}
