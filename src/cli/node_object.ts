import { ShimctlError } from "../error.ts";
import type { Cluster, Environment } from "../transaction/environment.ts";
import { isLive, labelsIn } from "../transaction/node_labels.ts";
import type { NodeAsk } from "../transaction/node_object.ts";
import { openState } from "../transaction/state.ts";
import type { Io } from "./io.ts";
import type { Parsed } from "./options.ts";
import { shown } from "./options.ts";

/**
 * Refuses what cannot be asked of the Kubernetes node, before anything is written. Costs nothing where nothing is
 * asked. Throws ShimctlError `usage`
 */
export async function refuseNodeAsk(io: Io, parsed: Parsed): Promise<void> {
  const { nodeLabel, removeTaint } = parsed.options;
  if (nodeLabel !== undefined || removeTaint !== undefined) await askedOf(io, parsed);
}

/**
 * The Kubernetes node at the points of a transaction where it may change. Nothing of it is loaded where nothing
 * was asked and nothing is recorded.
 */
export function clusterOf(io: Io, parsed: Parsed): Cluster {
  const { nodeLabel, removeTaint } = parsed.options;
  const isAsked = nodeLabel !== undefined || removeTaint !== undefined;
  let opened: Promise<Cluster> | undefined;
  const open = async () => {
    const [{ openNodeObject }, { openNodeApi }] = await Promise.all([
      import("../transaction/node_object.ts"),
      import("../host/kubernetes/client.ts"),
    ]);
    const { folder, ...patience } = io.cluster ?? {};
    return openNodeObject(openNodeApi(io.env, folder), isAsked ? await askedOf(io, parsed) : undefined, {
      ...patience,
      signal: io.signal,
    });
  };
  const load = () => {
    opened ??= open();
    return opened;
  };
  return {
    async before(env, state, owner, handlers) {
      if (handlers.length > 0) return [];
      const { record, lost } = state.readRecord();
      const own = labelsIn(record, env.site.rootFile).some((label) => label.owner === owner && isLive(label));
      return own || (lost && isAsked) ? (await load()).before(env, state, owner, handlers) : [];
    },
    async after(env, state, request, outcome) {
      if (!isAsked && !isOver(outcome) && !io.env["KUBERNETES_SERVICE_HOST"]) return outcome;
      const labels = labelsIn(state.readRecord().record, env.site.rootFile);
      const isDue = labels.some(
        (label) => !isLive(label) || (label.owner === request.owner && isOver(outcome)),
      );
      return isAsked || isDue ? (await load()).after(env, state, request, outcome) : outcome;
    },
  };
}

function isOver({ handlers }: { readonly handlers: readonly unknown[] }): boolean {
  return handlers.length === 0;
}

/**
 * What is not as it was asked for of the Kubernetes node, in words; empty where all is as it should be. One small
 * request, and none where nothing was asked. Whoever finds drift runs the same change again: its plan is empty, and
 * labels are set and taints removed anew.
 *
 * Throws ShimctlError `cannot-label` where the API does not tell
 */
export async function labelsDrift(
  io: Io,
  parsed: Parsed,
  { host, site }: Pick<Environment, "host" | "site">,
  owner: string,
): Promise<readonly string[]> {
  const { nodeLabel, removeTaint } = parsed.options;
  if (nodeLabel === undefined && removeTaint === undefined) return [];
  const ask = await askedOf(io, parsed);
  const [{ missingOn }, { openNodeApi }] = await Promise.all([
    import("../transaction/node_object.ts"),
    import("../host/kubernetes/client.ts"),
  ]);
  const state = openState((path) => host.real(path), io.now);
  const { folder, ...patience } = io.cluster ?? {};
  return missingOn(
    openNodeApi(io.env, folder),
    ask,
    labelsIn(state.readRecord().record, site.rootFile),
    owner,
    {
      ...patience,
      signal: io.signal,
    },
  );
}

/** What the options ask for. Throws ShimctlError `usage` */
async function askedOf(io: Io, parsed: Parsed): Promise<NodeAsk> {
  const { isNodeName, parseLabels, parseTaints } = await import("../cluster/labels.ts");
  const { nodeName, nodeLabel, removeTaint, given } = parsed.options;
  const called = (name: "node-name" | "node-label" | "remove-taint") => given.get(name) ?? `--${name}`;
  const asking = called(nodeLabel === undefined ? "remove-taint" : "node-label");
  if (nodeName === undefined)
    throw new ShimctlError("usage", `Cannot use ${asking} without --node-name`, {
      hint: "name the Kubernetes node; in a pod, set SHIMCTL_NODE_NAME from the field spec.nodeName",
    });
  if (!isNodeName(nodeName))
    throw new ShimctlError(
      "usage",
      `Cannot use ${called("node-name")}, which is no name of a Kubernetes node: ${shown(nodeName)}`,
      { hint: "take the name that `kubectl get nodes` shows; in a pod it is spec.nodeName" },
    );
  const labels = nodeLabel === undefined ? [] : parseLabels(nodeLabel);
  if (typeof labels === "string")
    throw new ShimctlError(
      "usage",
      `Cannot read ${called("node-label")}, as ${labels}: ${shown(nodeLabel ?? "")}`,
    );
  const taints = removeTaint === undefined ? [] : parseTaints(removeTaint);
  if (typeof taints === "string")
    throw new ShimctlError(
      "usage",
      `Cannot read ${called("remove-taint")}, as ${taints}: ${shown(removeTaint ?? "")}`,
    );
  // What takes away must work wherever it is run.
  if (parsed.command !== "uninstall" && !io.env["KUBERNETES_SERVICE_HOST"])
    throw new ShimctlError(
      "usage",
      `Cannot use ${asking} outside a pod, as only there is a service account`,
      {
        hint: `leave it out, and run \`kubectl label node ${nodeName} KEY=VALUE\` where you have a kubeconfig`,
      },
    );
  return { node: nodeName, labels, taints };
}
