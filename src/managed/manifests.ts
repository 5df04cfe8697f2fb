import { sha256 } from "../sha256.ts";
import {
  allMounts,
  handlersObject,
  namespaceObject,
  type Part,
  serviceAccount,
  uninstallJob,
  type Wanted,
  watchDaemonSet,
} from "./kubernetes.ts";
import { type Mount, mountsFor, type NodeKind } from "./mounts.ts";

/** What `--for` calls the documents that bring shimctl itself to the nodes of a cluster. */
export const manifestNames = ["daemonset", "job"] as const;

/** The same but for the folders, which the kind of node decides. */
export interface Asked extends Pick<Wanted, "image" | "owner" | "stamp"> {
  readonly kind: NodeKind;
}

/**
 * Everything that a DaemonSet of `shimctl watch` needs.
 * @param toml the handler file
 * @param needs for each file that a handler needs, the places where it may be
 */
export function daemonSetManifests(
  asked: Asked,
  toml: string,
  needs: readonly (readonly string[])[],
): readonly Part[] {
  const name = handlersName(toml);
  const mounts = allMounts(asked.kind);
  return [
    ...common(),
    handlersObject(name, toml),
    watchDaemonSet(wantedOf(asked, [...mounts, ...mountsFor(needs, mounts)]), name),
  ];
}

/** Everything that a Job needs which uninstalls on one node. @param handlers none: all of the owner */
export function jobManifests(asked: Asked, node: string, handlers: readonly string[]): readonly Part[] {
  // Jobs are not changed in place: each is one of its own.
  const name = `shimctl-uninstall-${sha256(new TextEncoder().encode(asked.stamp.instance + node)).slice(0, 8)}`;
  return [...common(), uninstallJob(wantedOf(asked, allMounts(asked.kind)), node, handlers, name)];
}

function common(): Part[] {
  return [namespaceObject(), serviceAccount()];
}

function wantedOf({ kind, image, owner, stamp }: Asked, mounts: readonly Mount[]): Wanted {
  return { image, owner, stamp, mounts, capabilities: kind.capabilities ?? [] };
}

function handlersName(toml: string): string {
  return `shimctl-handlers-${sha256(new TextEncoder().encode(toml)).slice(0, 10)}`;
}
