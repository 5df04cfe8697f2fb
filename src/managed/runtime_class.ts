import { basename } from "node:path/posix";
import { ShimctlError } from "../error.ts";
import type { Handler } from "../handler/model.ts";
import { kataOverhead } from "../handler/presets/kata_overhead.ts";
import type { Notes } from "./system.ts";

/** What `--for` calls the classes by which pods ask for handlers: documents of the cluster, not of a node. */
export const runtimeClassName = "runtimeclass";

/** What kata-deploy puts on nodes that have its handlers, and its own classes ask for. */
const kataLabel = "katacontainers.io/kata-runtime";

/**
 * RuntimeClasses of node.k8s.io/v1, each of its handler's name: YAML documents in the order of the handlers.
 * Throws `usage` where Kubernetes does not take a handler's name
 */
export function runtimeClasses(handlers: readonly Handler[]): string {
  return handlers.map(runtimeClass).join("---\n");
}

/** What an operator has to know of the classes of these handlers. */
export function runtimeClassNotes(handlers: readonly Handler[]): Notes {
  const kata = handlers.filter(isKata);
  const others = handlers.filter((handler) => !isKata(handler)).map(({ name }) => name);
  const measured = kata.some((handler) => overheadOf(handler) !== undefined);
  return {
    wiped:
      "A pod asks for a handler by the name of its class, in spec.runtimeClassName. A class installs nothing: that is shimctl install on the nodes.",
    apply: ["Save this as runtimeclasses.yaml:", "  kubectl apply -f runtimeclasses.yaml"],
    takeBack: [
      "Pods that run go on; new pods that name such a class are refused from then on:",
      "  kubectl delete -f runtimeclasses.yaml",
    ],
    check: [
      ...(kata.length === 0
        ? []
        : [
            "Pods of the Kata classes run only on nodes with the label below. kata-deploy sets it, and makes classes of the same names; where there is no kata-deploy, set it on each node of which shimctl status shows that the handler is served:",
            `  kubectl label node NODE ${kataLabel}=true`,
          ]),
      ...(measured
        ? [
            "The overhead is what kata-deploy reckons for the shim, and counts on top of what the containers of a pod request: change it where your virtual machines are of another size.",
          ]
        : []),
      ...(others.length === 0
        ? []
        : [
            `Pods of ${others.join(", ")} can be sent to any node, and do not start on one without the handler: where not all nodes have it, add scheduling.nodeSelector with a label of those that do.`,
          ]),
    ],
  };
}

function runtimeClass(handler: Handler): string {
  const { name } = handler;
  // Kubernetes' pkg/apis/node/validation: a class may be called by several labels with dots between, its handler may not.
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    throw new ShimctlError(
      "usage",
      `Cannot make a RuntimeClass for this handler, as Kubernetes takes only lower-case letters, digits and '-', at most 63, for a handler: ${name}`,
      { hint: "give it such a name in the handler file, where it is installed too" },
    );
  const overhead = overheadOf(handler);
  // Always in quotes: YAML takes a name such as 1e3, no or null for something else.
  return `apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata:
  name: "${name}"
handler: "${name}"
${overhead === undefined ? "" : `overhead:\n  podFixed:\n    cpu: "${overhead.cpu}"\n    memory: "${overhead.memory}"\n`}${isKata(handler) ? `scheduling:\n  nodeSelector:\n    ${kataLabel}: "true"\n` : ""}`;
}

function overheadOf({ preset }: Handler): ReturnType<typeof kataOverhead> {
  return preset === undefined ? undefined : kataOverhead(preset);
}

/** Whether Kata runs it, by whatever name: a handler file can spell it out. */
function isKata({ preset, containerd, crio }: Handler): boolean {
  const shims = [containerd?.runtime_type, containerd?.runtime_path, crio?.runtime_path];
  return (
    /^kata(-|$)/.test(preset ?? "") ||
    shims.some((shim) =>
      /^(io\.containerd\.kata(-[\w-]+)?\.v2|containerd-shim-kata(-[\w-]+)?-v2)$/.test(basename(shim ?? "")),
    )
  );
}
